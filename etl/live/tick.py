"""One tick: read, average, write."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import accumulate, takewhile
from typing import Any, Protocol

from jmespath.parser import ParsedResult

from etl.live.traces import Traces
from etl.readings.answers import as_reading, extract, parse
from etl.readings.days import day_after
from etl.readings.fold import Windows, derive, fold_of
from etl.readings.lines import raw_line
from etl.readings.records import CLOSED, Answer, Failure, Machine, Poll, RejectedError, Settings
from etl.readings.times import rfc3339
from etl.storage.appender import ALWAYS, Appender, DisturbedError, SyncPolicy
from etl.storage.events import Events
from etl.storage.folder import Folder
from etl.storage.recovery import recover

GATHER = 0.1
"""Seconds an answer waits, at most, to be written together with others."""
RETRY = 1.0
"""Seconds between two tries to write to a disk that does not take it."""
DERIVED = 10.0
"""Seconds within which averages are made durable; a power cut takes the last ones, and the next start derives them."""
LATENESS = 10_000
"""Answered polls whose lateness is remembered."""
LONGEST = 0.8
"""Share of the interval a poll takes, at most; where its turn comes sooner (after a start), it may still answer."""
HELD = 64 << 20
"""Bytes of lines that wait for such a disk, at most; newer ones are refused, and counted."""

log = logging.getLogger("etl")


class Transport(Protocol):
    """Reads sources. Each source that is started is delivered once, from any thread, by its deadline."""

    def start(self, names: Iterable[str], deliver: Callable[[Poll], None]) -> None:
        """Begin one poll of each source."""

    def close(self) -> None:
        """Begin no further poll."""


class Tick:
    """Polls sources and writes what they answer.

    `start` and `deliver` may be called from any thread; reading, averaging and writing happen on the one that runs
    `run`. A reading steps its window when, and only when, its raw line is durable; then follow its averages line and
    stdout. `emit` takes the lines of each kind for stdout.
    """

    def __init__(
        self,
        folder: Folder,
        settings: Settings,
        day_of: Callable[[float], str],
        events: Events,
        emit: Mapping[str, Callable[[list[bytes]], None]],
        clock: Callable[[], float],
        sync: SyncPolicy = ALWAYS,
        system: Any = os,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._rules = fold_of(settings)
        self._day_of = day_of
        self._events = events
        self._emit = emit
        self._clock = clock
        self._raw = Appender(folder, "raw", sync, system)
        self._averages = Appender(folder, "averages", SyncPolicy(max(sync.delay_s, DERIVED)), system)
        self._day = max(day_of(clock()), folder.newest_day("raw"))
        self._windows: Windows | None = None
        self._transports: Mapping[str, Transport] = {}
        self._records: Mapping[str, ParsedResult] = {}
        self._inbox: deque[tuple[Poll, float]] = deque()
        self._taken: list[bytes] = []
        self._wake = threading.Event()
        self._all_in = threading.Event()
        self._flying = threading.Lock()
        self._writing = threading.Lock()
        self._ending = False
        self._refused = 0
        self.in_flight: dict[str, float] = {}
        self.down: dict[str, tuple[float, Failure]] = {}
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.lateness: deque[float] = deque(maxlen=LATENESS)
        self.latest: dict[Machine, bytes] = {}
        self.traces: Traces | None = None
        self.stuck: OSError | None = None
        self.last_write: float | None = None

    def use(self, transports: Mapping[str, Transport], records: Mapping[str, ParsedResult] | None = None) -> None:
        """Read each source, by its name, through this transport from now on; what is not among them is forgotten.

        `records` takes the readings out of a source's answers, where it has an expression for that.
        """
        with self._writing:
            self._transports = transports
            self._records = records or {}
            self.down = {name: state for name, state in self.down.items() if name in transports}
            self.latest = {machine: line for machine, line in self.latest.items() if machine[0] in transports}
            if self.traces:
                self.traces.keep(transports)

    def reconfigure(
        self, settings: Settings, emit: Mapping[str, Callable[[list[bytes]], None]], sync: SyncPolicy
    ) -> None:
        """Go on with other settings, and open the files anew."""
        with self._writing:
            self._settings = settings
            self._rules = fold_of(settings)
            self._emit = emit
            self._raw.policy = sync
            self._averages.policy = SyncPolicy(max(sync.delay_s, DERIVED))
            self._windows = None
            self._events.reopen()
        self._wake.set()

    def start(self, names: Iterable[str], due: float | None = None) -> None:
        """Begin one poll of each source; one that is still in flight is skipped, counted and, if overdue, down.

        `due` is the moment (seconds since the epoch) the polls are late against; now without it.
        """
        due = self._clock() if due is None else due
        polls: dict[int, tuple[Transport, list[str]]] = {}
        with self._flying:
            for name in names:
                if name in self.in_flight:
                    self.counts["skipped"] += 1
                    if due - self.in_flight[name] >= LONGEST * self._settings.interval:
                        late = Poll(name, self._clock(), failure=Failure("timeout", "still no answer"))
                        self._inbox.append((late, due))
                elif transport := self._transports.get(name):
                    self.in_flight[name] = due
                    self._all_in.clear()
                    polls.setdefault(id(transport), (transport, []))[1].append(name)
        for transport, started in polls.values():
            transport.start(started, self.deliver)

    def deliver(self, poll: Poll) -> None:
        """Take what a poll gave."""
        with self._flying:
            self._inbox.append((poll, self.in_flight.pop(poll.source, poll.at)))
            if not self.in_flight:
                self._all_in.set()
        if not self._wake.is_set():
            self._wake.set()

    @property
    def ahead(self) -> str | None:
        """The day that readings go to although it is more than a day ahead, as the folder's day never goes back."""
        return self._day if self._day > day_after(self._day_of(self._clock())) else None

    def run(self) -> None:
        """Write what is delivered, until `end`."""
        if self.ahead:
            log.error(
                "The newest file in %s is that of %s: readings go there until that day is over. Was the clock wrong? "
                "Move the files of that day away and start again.", self._folder.root, self.ahead,
            )  # fmt: skip
        self.write()
        while not self._ending:
            self._wake.wait(self._patience())
            if self.in_flight:
                self._all_in.wait(GATHER)
            self._wake.clear()
            self.write()
        self.finish()

    def finish(self) -> None:
        """Write everything that was delivered and make it durable."""
        self.write()
        try:
            self._raw.sync()
            self._averages.sync()
        except (OSError, DisturbedError) as error:
            log.error("The last lines may not be durable: %s", error)

    def _patience(self) -> float | None:
        """How long to wait for a delivery, at most, before there is something to write without one."""
        if self.stuck:
            return RETRY
        return DERIVED if self._raw.needs_sync or self._averages.needs_sync else None

    def wait(self, patience: float) -> bool:
        """Wait up to `patience` seconds for the polls in flight; whether all are in."""
        with self._flying:
            if not self.in_flight:
                return True
        return self._all_in.wait(patience)

    def wake(self) -> None:
        """Write soon, although nothing was delivered."""
        self._wake.set()

    def end(self) -> None:
        """Let `run` return, once what was delivered is written or cannot be written."""
        self._ending = True
        self._wake.set()

    @property
    def unwritten(self) -> int:
        """Raw lines that wait for the disk or were refused."""
        return len(self._raw) + self._refused

    @property
    def held(self) -> int:
        """Bytes of lines that wait for the disk."""
        return self._raw.waiting_bytes + self._averages.waiting_bytes

    @property
    def sources(self) -> int:
        """How many sources are read."""
        return len(self._transports)

    @contextmanager
    def still(self) -> Iterator[bool]:
        """Nothing is written or put right meanwhile; whether the folder was put right before."""
        with self._writing:
            yield self._windows is not None

    def close_day(self, day: str) -> bool:
        """Let no further line go to this day's file; False while some still wait for it."""
        with self._writing:
            if self._windows is None or self._raw.has_waiting(day) or self._averages.has_waiting(day):
                return False
            self._day = max(self._day, day_after(day))
            return True

    def write(self) -> None:
        """Write everything that was delivered."""
        with self._writing:
            polls = self._handle()
            try:
                self._write_lines()
                self._events.flush()
            except OSError as error:
                self._stick(error)
            else:
                self._unstick()
            if polls:
                self.counts["held" if self.stuck else "written"] += 1

    @property
    def finished(self) -> int:
        """How many ticks came to their end; one whose lines wait for the disk did, as nothing else can be done."""
        return self.counts["written"] + self.counts["held"]

    def _handle(self) -> int:
        """Turn what was delivered into raw lines that wait to be written; how many polls that were."""
        polls = []
        now = self._clock()
        while self._inbox:
            poll, due = self._inbox.popleft()
            if poll.failure == CLOSED:
                continue
            polls.append((poll, due))
        for poll, due in sorted(polls, key=lambda one: (one[0].at, one[0].source)):
            failure = poll.failure or self._take(poll)
            if failure:
                self._goes_down(poll, failure)
            else:
                self.lateness.append(now - due)
                self._comes_up(poll)
        self._put_taken()
        return len(polls)

    def _take(self, poll: Poll) -> Failure | None:
        """Take the readings of a poll; a failure if it has answers and none is a reading."""
        failure = None
        lines: list[bytes] = []
        at = round(poll.at, 3)
        records = self._records.get(poll.source)
        for answer in poll.answers:
            try:
                if records is None:
                    lines.append(raw_line(parse(answer.body), poll.source, at, answer.position))
                else:
                    failure = self._take_records(poll.source, at, answer, records, lines)
            except RejectedError as error:
                failure = self._reject(poll.source, error)
        if not lines:
            return failure
        day = self._day_of(at)
        if day > self._day:
            self._put_taken()
            self._day = day
        self._taken += lines
        return None

    def _take_records(
        self, source: str, at: float, answer: Answer, records: ParsedResult, lines: list[bytes]
    ) -> Failure | None:
        """Take the readings out of an answer; the failure of the last one that is none."""
        failure = None
        for record in extract(answer.body, records):
            try:
                lines.append(raw_line(as_reading(record), source, at, answer.position))
            except RejectedError as error:
                failure = self._reject(source, error)
        return failure

    def _reject(self, source: str, error: RejectedError) -> Failure:
        self.counts["rejected"] += 1
        self._events.record("rejected", source=source, reason=error.reason, why=str(error))
        return Failure(error.reason, str(error))

    def _put_taken(self) -> None:
        """Let what was taken wait for the disk, as far as there is room to hold it."""
        lines, self._taken = self._taken, []
        room = HELD - self.held
        if sum(map(len, lines)) > room:
            kept = takewhile(lambda held: held <= room, accumulate(map(len, lines)))
            count = sum(1 for _ in kept)
            self._refused += len(lines) - count
            lines = lines[:count]
        if lines:
            self.counts["readings"] += len(lines)
            self._raw.put(self._day, lines)

    def _goes_down(self, poll: Poll, failure: Failure) -> None:
        self.failures[failure.reason] += 1
        if poll.source not in self.down:
            self.down[poll.source] = (poll.at, failure)
            log.error("Error fetching data from %s: %s", poll.source, failure.why)
            self._events.record("source_down", source=poll.source, reason=failure.reason, why=failure.why)

    def _comes_up(self, poll: Poll) -> None:
        self.counts["answered"] += 1
        if poll.source in self.down:
            since, failure = self.down.pop(poll.source)
            seconds = round(poll.at - since, 3)
            log.warning("%s answers again after %g s", poll.source, seconds)
            self._events.record("source_up", source=poll.source, reason=failure.reason, seconds=seconds)

    def _write_lines(self) -> None:
        for attempt in range(3):
            try:
                self._write_through()
                return
            except DisturbedError as error:
                log.error("%s. The folder is put right from the raw log.", error)
                file = str(error.path.relative_to(self._folder.root))
                self._events.record("truncated", reason=error.reason, file=file)
                self._windows = None
                if attempt == 2:
                    raise OSError(f"{error}, again and again") from error

    def _write_through(self) -> None:
        if self._windows is None:
            with suppress(DisturbedError):
                self._raw.sync()
            self._raw.reset()
            self._averages.reset()
            self._windows = recover(self._folder, self._settings, self._day, self._events.record)
            self._raw.adopt(self._day)
            self._averages.adopt(self._day)
            self._print("averages", self._averages.drain())
        for day, lines in self._raw.flush():
            self.last_write = self._clock()
            self._print("raw", lines)
            derived = []
            for machine, averages in derive(self._windows, lines, self._rules):
                self.latest[machine] = averages
                if self.traces:
                    self.traces.add(machine, self._windows[machine])
                derived.append(averages)
            self._averages.put(day, derived)
        for _, lines in self._averages.flush():
            self._print("averages", lines)

    def _print(self, kind: str, lines: list[bytes]) -> None:
        if lines and kind in self._emit:
            self._emit[kind](lines)

    def _stick(self, error: OSError) -> None:
        if self.stuck is None:
            log.error(
                "Cannot write to %s: %s. Readings wait in memory, up to %d MiB, until it can be written again.",
                self._folder.root, error.strerror or error, HELD >> 20,
            )  # fmt: skip
        self.stuck = error

    def _unstick(self) -> None:
        if self.stuck is not None:
            log.warning("%s can be written again; %d readings were refused", self._folder.root, self._refused)
            self._events.record(
                "dropped",
                reason=self.stuck.strerror or str(self.stuck),
                lines=self._refused,
                until=rfc3339(self._clock()),
            )
            self.counts["dropped"] += self._refused
            self._refused = 0
            self.stuck = None
            self._wake.set()
