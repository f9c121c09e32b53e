"""Which polls are in flight: starts them, and collects their results for the writer."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby

import msgspec

from etl.readings.records import Failure, Poll
from etl.sources.contract import Transport

GATHER_S = 0.1
"""An answer waits this long, at most, to be written together with the others in flight."""
QUIET_S = 0.025
"""It waits no longer once no other answer has come for so long: those in flight may hang."""
GATHER_MESSAGES_S = 0.02
"""What a source sends on its own waits this long for more: a write for each message would take three times the CPU."""
OVERDUE_AFTER_INTERVALS = 0.8
"""A poll still in flight after this share of the interval is late: no timeout may be longer. After a start a source's
first turn comes sooner, and its poll may still answer."""
MAX_COLLECTED_BYTES = 8 << 20
"""Bytes of answers that the writer takes at once: decoded and encoded again, they take several times as much memory."""
STILL_IN_FLIGHT = Failure("timeout", "still no answer")


class Tick:
    """One turn of a slice: it has finished once the result of each of its polls was written, or waits for the disk."""

    def __init__(self, polls: int) -> None:
        self.unfinished_polls = polls


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """The result of a poll that was `due` (seconds since the epoch) in a tick."""

    poll: Poll
    due: float
    tick: Tick


_UNSCHEDULED = Tick(0)
"""The tick of a poll that no schedule started; it never finishes."""


class Poller:
    """Starts the polls of a tick, and collects their results from the threads of the transports.

    A source still in flight when its turn comes is skipped. `poll` and `deliver` may be called from any thread.
    """

    def __init__(self, clock: Callable[[], float], interval: float) -> None:
        self.skipped = 0
        self._clock = clock
        self._interval = interval
        self._transports: Mapping[str, Transport] = {}
        self._in_flight: dict[str, tuple[float, Tick]] = {}
        self._deliveries: deque[Delivery] = deque()
        self._lock = threading.Lock()
        self._has_delivery = threading.Event()
        self._has_messages = False
        self._none_in_flight = threading.Event()
        self._none_in_flight.set()

    def use(self, transports: Mapping[str, Transport]) -> None:
        """Poll each source, by its name, over this transport from now on."""
        self._transports = transports

    @property
    def in_flight(self) -> list[str]:
        """The sources whose poll has no result yet."""
        with self._lock:
            return list(self._in_flight)

    def poll(self, names: Iterable[str], due: float | None = None) -> None:
        """Start one poll of each source; `due` (seconds since the epoch, by default now) is its scheduled moment."""
        due = self._clock() if due is None else due
        tick, transports = Tick(0), self._transports  # a reload may replace them meanwhile
        with self._lock:
            idle = [name for name in names if not self._skip(name, due) and name in transports]
            tick.unfinished_polls = len(idle)
            self._in_flight |= dict.fromkeys(idle, (due, tick))
            if idle:
                self._none_in_flight.clear()
        idle.sort(key=lambda name: id(transports[name]))
        for transport, group in groupby(idle, transports.__getitem__):
            transport.start(list(group), self.deliver)

    def _skip(self, name: str, due: float) -> bool:
        """Whether a source is still in flight, which is counted; an overdue poll is a failure."""
        if name not in self._in_flight:
            return False
        self.skipped += 1
        if due - self._in_flight[name][0] >= OVERDUE_AFTER_INTERVALS * self._interval:
            self._deliveries.append(Delivery(Poll(name, self._clock(), failure=STILL_IN_FLIGHT), due, Tick(1)))
            self._has_delivery.set()
        return True

    def deliver(self, polls: Iterable[Poll]) -> None:
        """Accept the results of polls."""
        with self._lock:
            for poll in polls:
                flight: tuple[float, Tick] | None = self._in_flight.pop(poll.source, None)
                due, tick = flight or (poll.at, _UNSCHEDULED)
                self._has_messages = self._has_messages or flight is None
                self._deliveries.append(Delivery(poll, due, tick))
            if not self._in_flight:
                self._none_in_flight.set()
        if not self._has_delivery.is_set():
            self._has_delivery.set()

    def wait(self, timeout: float | None) -> None:
        """Wait until there is a delivery, then for further messages, or up to GATHER_S for the others in flight."""
        self._has_delivery.wait(timeout)
        if self._has_messages:
            self._has_messages = False
            time.sleep(GATHER_MESSAGES_S)
        for _ in range(round(GATHER_S / QUIET_S)):
            gathered = len(self._deliveries)
            if self._none_in_flight.wait(QUIET_S) or len(self._deliveries) == gathered:
                break
        self._has_delivery.clear()

    def wake(self) -> None:
        """Let `wait` return although nothing was delivered."""
        self._has_delivery.set()

    def collect(self) -> list[Delivery]:
        """The results delivered since the last call, the oldest MAX_COLLECTED_BYTES of them, about; none if empty."""
        collected: list[Delivery] = []
        size = 0
        while self._deliveries and size < MAX_COLLECTED_BYTES:
            collected.append(self._deliveries.popleft())
            size += sum(len(answer.body) for answer in collected[-1].poll.answers)
        return collected

    @property
    def has_deliveries(self) -> bool:
        """Whether `collect` left results."""
        return bool(self._deliveries)

    @property
    def uncollected(self) -> int:
        """Answers that were delivered and that `collect` has not returned yet."""
        return sum(len(delivery.poll.answers) for delivery in self._deliveries.copy())

    def drain(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the polls in flight; whether all were delivered."""
        return self._none_in_flight.wait(timeout)
