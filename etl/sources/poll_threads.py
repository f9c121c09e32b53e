"""Threads that run blocking polls, and the watchdog thread that ends each poll at its deadline."""

import logging
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf

from etl.readings.records import CLOSED, Failure, Poll
from etl.sources.contract import Content, Deliver, no_place, timed_out
from etl.sources.intake import Lease

MAX_NEW_POLLS = 32
"""Polls that may be in their first SLOW_S seconds at a time. More would contend for the interpreter lock, and would
open more connections to a gateway that serves many machines."""
SLOW_S = 0.02
"""Age at which a poll in flight stops counting against MAX_NEW_POLLS, so that machines that hang delay no other."""
MAX_THREADS = 1000
"""Upper limit of threads; they are created on demand, so only as many machines that hang at the same time need it."""

log = logging.getLogger("etl")


class PendingPoll:
    """A poll that was started and not delivered yet; its deadline is that of its start until it leaves."""

    has_left = False
    opened_connection = False
    """Whether it opens a connection, or must do so because the machine had closed the kept one."""
    challenged = False
    """Whether it has a login by digest, after the machine had sent a challenge."""
    lease: Lease | None = None
    _sock: socket.socket | None = None
    _cancelled = False

    def __init__(self, name: str, timeout: float, deliver: Deliver) -> None:
        self.name = name
        self.timeout = timeout
        self.deadline = time.monotonic() + timeout
        self.deliver = deliver

    def leave(self) -> None:
        """Count the deadline from now on, unless it does so already."""
        if not self.has_left:
            self.has_left = True
            self.deadline = time.monotonic() + self.timeout

    def overdue(self) -> Failure:
        """Its failure if it is not delivered by its deadline."""
        return timed_out(self.timeout) if self.has_left else no_place(self.timeout)

    def seconds_left(self) -> float:
        """Seconds until the deadline.

        Raises:
            TimeoutError: the deadline has passed, or the poll was cancelled.

        """
        seconds = self.deadline - time.monotonic()
        if self._cancelled or seconds <= 0:
            raise TimeoutError("timed out")
        return seconds

    def use(self, sock: socket.socket) -> None:
        """Record the socket that the poll's thread is about to wait on.

        Raises:
            TimeoutError: the poll was cancelled.

        """
        self._sock = sock
        if self._cancelled:
            raise TimeoutError("timed out")

    def cancel(self) -> None:
        """Shut the socket down, so that the thread that waits on it returns; called from another thread.

        The method of `socket.socket` is called because that of a TLS socket also drops its encryption state, which the
        waiting thread still uses.
        """
        self._cancelled = True
        if self._sock:
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


class PollThreads:
    """Runs each poll on a thread of an executor and delivers it exactly once.

    `read` returns what a poll found or raises, and `explain` turns what it raised into a failure. The watchdog
    delivers the failure of a poll whose `read` has not begun or returned by its deadline, and drops its late result. A
    name lookup or a network drive may block a thread far beyond the deadline; the next polls of that source wait for
    this thread instead of blocking another, so each source occupies one thread at most.
    """

    def __init__(
        self,
        name: str,
        sources: int,
        read: Callable[[PendingPoll], Content],
        explain: Callable[[PendingPoll, Exception], Failure],
        clock: Callable[[], float],
    ) -> None:
        self._read = read
        self._explain = explain
        self._clock = clock
        self._changed = threading.Condition()
        self._closed = False
        self._pending: set[PendingPoll] = set()
        self._queue: deque[PendingPoll] = deque()
        self._new: OrderedDict[PendingPoll, float] = OrderedDict()
        self._occupied: dict[str, PendingPoll | None] = {}
        self._executor = ThreadPoolExecutor(max(1, min(sources, MAX_THREADS)), thread_name_prefix=name)
        threading.Thread(target=self._watch, name=f"{name}-deadlines", daemon=True).start()

    def start(self, polls: Iterable[PendingPoll]) -> None:
        """Queue polls, and launch as many as MAX_NEW_POLLS allows; the others follow from the threads."""
        polls = list(polls)
        with self._changed:
            if not self._closed:
                self._pending.update(polls)
                self._queue.extend(polls)
                self._launch()
                self._changed.notify()
                return
        for poll in polls:
            self._fail(poll, CLOSED)

    def close(self) -> None:
        """Start no further poll, and deliver what is pending as CLOSED.

        A poll without a deadline that runs already is delivered when it returns: what it read must not be lost.
        """
        with self._changed:
            self._closed = True
            waiting = {*self._queue, *self._occupied.values()}
            cut_off = [poll for poll in self._pending if poll.deadline < inf or poll in waiting]
            self._pending.difference_update(cut_off)
            self._queue.clear()
            self._changed.notify()
        for poll in cut_off:
            poll.cancel()
            self._fail(poll, CLOSED)
        self._executor.shutdown(wait=False)

    def _launch(self) -> None:
        """Hand queued polls to the executor; the caller holds the lock."""
        now = time.monotonic()
        while self._queue:
            while self._new and next(iter(self._new.values())) <= now - SLOW_S:
                self._new.popitem(last=False)
            if len(self._new) >= MAX_NEW_POLLS or len(self._occupied) >= MAX_THREADS:
                return
            poll = self._queue.popleft()
            if poll not in self._pending:
                continue
            poll.leave()
            if poll.name in self._occupied:
                self._occupied[poll.name] = poll
                continue
            self._occupied[poll.name] = None
            self._new[poll] = now
            with suppress(RuntimeError):  # No thread can be created: an existing one takes it in time, or none.
                self._executor.submit(self._run, poll)

    def _run(self, poll: PendingPoll) -> None:
        content, failure = Content(), None
        try:
            content = self._read(poll)
        except Exception as error:
            failure = self._explain(poll, error)
            if poll.lease:
                poll.lease.release()
        result = Poll(
            poll.name,
            self._clock(),
            tuple(content.answers),
            failure,
            tuple(content.rejections),
            tuple(content.restarts),
            poll.lease,
        )
        poll.lease = None
        with self._changed:
            self._new.pop(poll, None)
            if follower := self._occupied.pop(poll.name):
                self._queue.appendleft(follower)
            self._launch()
            in_time = poll in self._pending
            self._pending.discard(poll)
        if in_time:
            self._deliver(poll, result)

    def _watch(self) -> None:
        while not self._closed:
            with self._changed:
                self._changed.wait(self._seconds_to_next())
                self._launch()
                now = time.monotonic()
                overdue = [poll for poll in self._pending if poll.deadline <= now]
                self._pending.difference_update(overdue)
            for poll in overdue:
                poll.cancel()
                self._fail(poll, poll.overdue())

    def _seconds_to_next(self) -> float | None:
        """Seconds until the next deadline, or until queued polls may start because those in flight are slow."""
        if self._closed:
            return 0
        due = min((poll.deadline for poll in self._pending), default=inf) - time.monotonic()
        if self._queue:
            due = min(due, SLOW_S)
        return None if due == inf else max(0, due)

    def _fail(self, poll: PendingPoll, failure: Failure) -> None:
        self._deliver(poll, Poll(poll.name, self._clock(), failure=failure))

    @staticmethod
    def _deliver(poll: PendingPoll, result: Poll) -> None:
        try:
            poll.deliver([result])
        except Exception:  # An executor would hide it, and the watchdog must survive it.
            log.exception("The poll of %s was lost: its receiver failed", poll.name, extra={"source": poll.name})
