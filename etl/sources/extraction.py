"""`records`: the answers of any transport are split into records before they are delivered."""

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from jmespath.parser import ParsedResult

from etl.readings.answers import split
from etl.readings.records import Failure, Poll
from etl.sources.contract import Deliver, Transport, no_place

MAX_EVALUATIONS = 4
"""Expressions that are evaluated at a time, so that a slow one delays no other. They share one processor: more threads
would delay those that poll."""

log = logging.getLogger("etl")


class Extraction:
    """A transport that evaluates the JMESPath expression of each source that has one, on threads of its own.

    So a transport with one thread for all polls goes on polling. A poll whose evaluation has not begun by the time the
    transport must deliver it fails as busy; `timeouts` has the seconds of each source with an expression. `by_key`
    names the sources whose records have their keys as ids. Polls with a receipt are messages of a source with a thread
    of its own, which evaluates them: other threads would let one overtake another.
    """

    def __init__(
        self,
        transport: Transport,
        expressions: Mapping[str, ParsedResult],
        timeouts: Mapping[str, float],
        by_key: Collection[str] = (),
    ) -> None:
        self._transport = transport
        self._expressions = expressions
        self._timeouts = timeouts
        self._by_key = by_key
        self._executor = ThreadPoolExecutor(MAX_EVALUATIONS, thread_name_prefix="records")

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; `deliver` gets the results from another thread."""
        started = time.monotonic()
        self._transport.start(names, lambda polls: self._accept(polls, started, deliver))

    def close(self) -> None:
        """Close the transport; answers that it has delivered before are still evaluated."""
        self._transport.close()
        self._executor.shutdown(wait=False)

    def _accept(self, polls: Sequence[Poll], started: float, deliver: Deliver) -> None:
        complete = [poll for poll in polls if poll.failure or poll.source not in self._expressions]
        if complete:
            deliver(complete)
        for poll in polls:
            if poll.failure or poll.source not in self._expressions:
                continue
            if poll.receipt:
                self._evaluate(poll, started, deliver)
                continue
            try:
                self._executor.submit(self._evaluate, poll, started, deliver)
            except RuntimeError:  # closed, or no thread can be created: what was read must not be lost
                self._evaluate(poll, started, deliver)

    def _evaluate(self, poll: Poll, started: float, deliver: Deliver) -> None:
        try:
            deliver([self._records(poll, started)])
        except Exception:  # An executor would hide it.
            log.exception("The poll of %s was lost: its receiver failed", poll.source, extra={"source": poll.source})

    def _records(self, poll: Poll, started: float) -> Poll:
        timeout = self._timeouts[poll.source]
        if time.monotonic() - started > 2 * timeout:
            return Poll(poll.source, poll.at, failure=no_place(timeout))
        try:
            return split(poll, self._expressions[poll.source], poll.source in self._by_key)
        except Exception as error:
            log.exception("The answer of %s cannot be evaluated", poll.source, extra={"source": poll.source})
            failure = Failure("failed", f"`records` failed: {type(error).__name__}")
            return Poll(poll.source, poll.at, failure=failure, receipt=poll.receipt)
