"""One thread: answers become durable raw lines, then averages lines, and each written batch goes to the sinks."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from itertools import accumulate, takewhile
from math import inf
from operator import attrgetter
from threading import Lock
from typing import NamedTuple

from etl.live.alarms import AlarmLog
from etl.live.poller import Delivery, Poller
from etl.live.receipts import Receipts
from etl.live.standing import MAX_PENDING_BYTES, Standing
from etl.readings.alarms.conditions import Change
from etl.readings.alarms.fold import alarm_line
from etl.readings.answers import raw_lines
from etl.readings.averages.alive import Alive
from etl.readings.averages.fold import Update, Windows, derive, fold_of, forget
from etl.readings.days import day_after
from etl.readings.records import CLOSED, Failure, Machine, RejectedError, Settings
from etl.storage.appender import Appender, DisturbedError
from etl.storage.events import Events
from etl.storage.recovery.start import Written, recover

RETRY_S = 1.0
"""Seconds between two attempts to write to a disk that rejects writes."""
AVERAGES_SYNC_S = 10.0
"""Averages are fsynced within this time: a power cut takes the last ones, and the next start derives them again."""
FORGET_S = 60.0
"""Seconds between two looks for machines that are silent for so long that their windows start over."""
MAX_RECOVERIES = 3
"""Recoveries in one write: somebody who changes the files faster than they are written is an error."""

log = logging.getLogger("etl")


class Batch(NamedTuple):
    """Lines of one kind ("raw", "averages" or "alarms") that were just written.

    Raw ones come with what each reading updated, those of alarms with their changes.
    """

    kind: str
    lines: list[bytes]
    updates: Sequence[Update] = ()
    changes: Sequence[Change] = ()


Sink = Callable[[Batch], None]
"""Takes each written batch, in order; it must not block."""
Restore = Callable[[Sequence[Change]], None]
"""Takes all alarms that are raised after a recovery; who was told of them before is not told again."""
Forget = Callable[[Set[Machine]], None]
"""Forgets every machine but these."""


class Logs(NamedTuple):
    """The logs that a writer appends to; `day_of` gives the local day of a moment (seconds since the epoch)."""

    raw: Appender
    averages: Appender
    alarms: Appender
    events: Events
    day_of: Callable[[float], str]

    @property
    def of_readings(self) -> tuple[Appender, ...]:
        """The logs that hold readings and what follows from them."""
        return self.raw, self.averages, self.alarms

    def close(self) -> None:
        """Close the files; what waits is not written."""
        for appender in (*self.of_readings, self.events.appender):
            appender.close()

    def use(self, sync_delay_s: float) -> None:
        """Fsync raw lines at most this many seconds after their write, averages within AVERAGES_SYNC_S."""
        self.raw.sync_delay_s = sync_delay_s
        self.averages.sync_delay_s = max(sync_delay_s, AVERAGES_SYNC_S)


class Writer:
    """Writes what the poller collects. `run` and `tick` belong to one thread; the other methods to any.

    A reading steps its machine's window when, and only when, its raw line is durable; its averages line and the sinks
    follow. What the disk rejects waits in memory, in order.
    """

    def __init__(
        self, logs: Logs, poller: Poller, standing: Standing, settings: Settings, clock: Callable[[], float]
    ) -> None:
        self.sinks: Sequence[Sink] = ()
        self.forgetters: Sequence[Forget] = ()
        self.restorers: Sequence[Restore] = ()
        self.keep_days: int | None = None
        """`output.keep_days`: recovery does not derive the averages again that it deletes."""
        self._logs = logs
        self._poller = poller
        self._standing = standing
        self._settings = settings
        self._clock = clock
        self._fold = fold_of(settings)
        self._folder = logs.raw.folder
        self._day = max(logs.day_of(clock()), self._folder.newest_day("raw"))
        self._windows: Windows | None = None
        self._alarms = AlarmLog(logs.alarms, settings)
        self._alive = Alive(self._fold.silence)
        self._forgotten_before = -inf
        self._receipts = Receipts()
        self._lock = Lock()
        self._ending = False
        self._refused = 0
        self._unparsed = 0

    def reconfigure(self, settings: Settings, sync_delay_s: float, sinks: Sequence[Sink]) -> None:
        """Continue with other settings, and open the files again."""
        with self._lock:
            self._settings = settings
            self._fold = fold_of(settings)
            self._alive = Alive(self._fold.silence)
            self._logs.use(sync_delay_s)
            self._logs.events.appender.reset()
            self.sinks = sinks
            self._windows = None
        self._poller.wake()

    def run(self) -> None:
        """Write what is delivered, until `end`."""
        if self.day_ahead:
            log.error(
                "The newest day file in %s is %s: readings go to it until that day is over. Was the clock wrong? "
                "If so, stop the process, move the files of that day away and start again.",
                self._folder.root,
                self.day_ahead,
            )
        self.tick()
        while not self._ending:
            self._poller.wait(self._timeout())
            self.tick()
        self.finish()

    def tick(self) -> None:
        """Write everything that was delivered: raw lines, averages lines, events; then count the finished ticks."""
        with self._lock:
            self._handle(self._poller.collect())
            while self._poller.has_deliveries:
                self._handle(self._poller.collect())
            self._forget(self._clock())

    def _handle(self, delivered: Iterable[Delivery]) -> None:
        if self._windows is None:
            with suppress(OSError, DisturbedError):  # `_write` tries again, and reports it
                self._recover()  # so that the machines in the raw log count from the first answer on
        deliveries = [delivery for delivery in delivered if delivery.poll.failure != CLOSED]
        self._unparsed = sum(len(delivery.poll.answers) for delivery in deliveries)
        self._accept(deliveries)
        self._unparsed = 0
        try:
            self._write()
            self._logs.events.flush()
        except OSError as error:
            self._standing.rejected_write(error)
        else:
            if self._standing.stuck:
                self._standing.accepted_write(self._refused, self._clock())
                self._refused = 0
                self._poller.wake()
        self._standing.finish(delivery.tick for delivery in deliveries)

    def finish(self) -> None:
        """Write everything that was delivered and fsync it."""
        self.tick()
        try:
            self._logs.raw.sync()
            self._logs.averages.sync()
        except (OSError, DisturbedError) as error:
            log.error("The last lines in %s may not be durable: %s", self._folder.root, error)

    def end(self) -> None:
        """Let `run` return once everything delivered is written or cannot be written."""
        self._ending = True
        self._poller.wake()

    @contextmanager
    def paused(self) -> Iterator[bool]:
        """Nothing is written meanwhile; yields whether the folder is consistent, so that its files may be replaced."""
        with self._lock:
            yield self._windows is not None

    def close_day(self, day: str) -> bool:
        """Append no further line to this day's file; False while lines still wait for it."""
        with self._lock:
            waiting = any(appender.has_waiting(day) for appender in self._logs.of_readings)
            if self._windows is None or waiting:
                return False
            self._day = max(self._day, day_after(day))
            return True

    @property
    def day_ahead(self) -> str | None:
        """The folder's day if it is more than a day ahead of the clock: the folder's day never goes back."""
        return self._day if self._day > day_after(self._logs.day_of(self._clock())) else None

    @property
    def unwritten(self) -> int:
        """Readings that wait for the disk or were refused, and answers that this thread has not parsed yet."""
        return len(self._logs.raw) + self._refused + self._unparsed + self._poller.uncollected

    @property
    def pending_bytes(self) -> int:
        """Bytes of lines that wait for the disk."""
        return sum(appender.waiting_bytes for appender in self._logs.of_readings)

    def _timeout(self) -> float | None:
        """Seconds to wait for a delivery before there is something to do without one."""
        if self._standing.stuck:
            return RETRY_S
        return AVERAGES_SYNC_S if self._logs.raw.needs_sync or self._logs.averages.needs_sync else None

    def _accept(self, deliveries: Iterable[Delivery]) -> None:
        """Queue the readings of the polls, in the order they were answered."""
        now, room = self._clock(), MAX_PENDING_BYTES - self.pending_bytes
        lines: list[bytes] = []
        for delivery in sorted(deliveries, key=attrgetter("poll.at", "poll.source")):
            if delivery.poll.at - self._fold.silence < self._forgotten_before:
                self._windows = None  # the clock was set back: what was forgotten may go on, so recovery looks for it
            readings = self._judge(delivery, now)
            if readings and (day := self._logs.day_of(round(delivery.poll.at, 3))) > self._day:
                self._queue(lines)
                lines, self._day = [], day
            if sum(map(len, readings)) > room and not delivery.poll.receipt:
                fitting = _fitting(readings, room)
                self._refused += len(readings) - len(fitting)
                readings = fitting
            room -= sum(map(len, readings))
            lines += readings
            self._receipts.expect(delivery.poll, len(lines))
        self._queue(lines)

    def _judge(self, delivery: Delivery, now: float) -> list[bytes]:
        """The raw lines of a poll; whether it was answered, failed or was rejected is counted."""
        poll = delivery.poll
        lines, rejections = raw_lines(poll, self._alive)
        for restart in poll.restarts:
            self._standing.restarted(poll.source, restart)
        for errors in _by_reason(rejections).values():
            self._standing.rejected(poll.source, errors[0], len(errors), poll.at if poll.receipt else None)
        failure = poll.failure
        if rejections and not lines and not poll.receipt:  # a message that is no reading says nothing of its source
            failure = Failure(rejections[-1].reason, str(rejections[-1]))
        if failure:
            self._standing.failed(poll.source, poll.at, failure)
        else:
            self._standing.answered(poll.source, poll.at, now - delivery.due, len(lines))
        return lines

    def _queue(self, lines: list[bytes]) -> None:
        if lines:
            self._receipts.put(len(lines))
            self._standing.counts["readings"] += len(lines)
            self._logs.raw.put(self._day, lines)

    def _write(self) -> None:
        """Write what waits; after a disturbance by another program, recover the folder and try again."""
        for _ in range(MAX_RECOVERIES):
            try:
                return self._write_queues()
            except DisturbedError as error:
                disturbance = error
                file = str(error.path.relative_to(self._folder.root))
                codes = self._logs.events.record("truncated", reason=error.reason, file=file)
                log.error("%s. It is recovered from the raw log.", error, extra=codes)
                self._windows = None
        raise OSError(f"{disturbance} {MAX_RECOVERIES} times in a row")

    def _write_queues(self) -> None:
        windows = self._windows if self._windows is not None else self._recover()
        raw, averages = self._logs.raw, self._logs.averages
        for day, lines in raw.flush():
            self._receipts.wrote(len(lines))
            self._standing.last_write = self._clock()
            updates = list(derive(windows, lines, self._fold))
            self._alarms.add(day, self._settings, updates)
            averages.put(day, [update.averages for update in updates])
            _emit(Batch("raw", lines, updates), self.sinks)
        self._receipts.wrote(0)
        for lines, changes in self._alarms.flush():  # before the averages: who finds those, finds their alarms
            _emit(Batch("alarms", lines, changes=changes), self.sinks)
        for _, lines in averages.flush():
            _emit(Batch("averages", lines), self.sinks)

    def _recover(self) -> Windows:
        raw, averages = self._logs.raw, self._logs.averages
        with suppress(DisturbedError):
            raw.sync()
        raw.reset()
        averages.reset()
        record, written = self._logs.events.record, Written(self.keep_days, raw.sync_delay_s)
        recovered = recover(self._folder, self._settings, self._day, record, written, self._clock())
        self._windows = windows = recovered.windows
        self._alive.adopt((machine, window.at) for machine, window in windows.items())
        self._forgotten_before = -inf
        raw.adopt(self._day)
        averages.adopt(self._day)
        self._alarms.adopt(recovered.alarms, self._day)
        for restore in self.restorers:
            restore(self._alarms.raised())
        if changes := recovered.changes:
            _emit(Batch("alarms", [alarm_line(change) for change in changes], changes=changes), self.sinks)
        _emit(Batch("averages", averages.drain()), self.sinks)  # recovery derived and wrote them
        return windows

    def _forget(self, now: float) -> None:
        """Forget the machines whose windows start over with their next reading, everywhere."""
        before = now - self._fold.silence - FORGET_S
        if self._windows is None or len(self._logs.raw) or before < self._forgotten_before + FORGET_S:
            return
        self._forgotten_before = before
        forget(self._windows, before)
        self._alarms.keep(self._windows.keys())
        for keep in self.forgetters:
            keep(self._windows.keys())


def _emit(batch: Batch, sinks: Iterable[Sink]) -> None:
    for sink in sinks:
        sink(batch)


def _fitting(lines: list[bytes], room: int) -> list[bytes]:
    """The first lines that take at most so many bytes."""
    return lines[: sum(1 for _ in takewhile(lambda size: size <= room, accumulate(map(len, lines))))]


def _by_reason(rejections: Iterable[RejectedError]) -> dict[str, list[RejectedError]]:
    """Rejections by their reason: an answer of thousands of records must not become thousands of events."""
    grouped: dict[str, list[RejectedError]] = {}
    for error in rejections:
        grouped.setdefault(error.reason, []).append(error)
    return grouped
