"""What is known of every source now: up, silent or down, and whether readings are written."""

import logging
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Set
from math import inf
from pathlib import Path
from typing import NamedTuple

from etl.live.poller import Tick
from etl.readings.averages.fold import Update
from etl.readings.lines import shortened_line
from etl.readings.records import Failure, Machine, RejectedError, Restart
from etl.readings.text import plural, shown_address
from etl.readings.times import SILENT_AFTER_INTERVALS, rfc3339
from etl.storage.events import Record

STATES = ("down", "silent", "up")
"""The states of a source, the worst first: its polls fail; no reading came for some time; readings come."""
NOT_READY_AFTER_INTERVALS = 3
"""Intervals without a durable reading after which nobody should rely on this process."""
NOTIFY_AFTER_INTERVALS = 3
"""Intervals a source is down before somebody is notified: a switch that restarts wakes nobody."""
MAX_PENDING_BYTES = 64 << 20
"""Bytes of lines that wait for a disk that rejects writes, at most; newer readings are refused and counted."""
REJECTED_EVERY_S = 10.0
"""Seconds between two events on rejected messages of a source: a busy topic of other payloads would fill the log."""
LATENESS_SAMPLES = 10_000
"""Answered polls whose lateness is kept for the metrics."""
FLAPPING_OUTAGES = 3
"""Outages within `flapping_period` from which on a source flaps: one outage, or two, may be a restart."""
FLAPPING_PERIOD_S, FLAPPING_INTERVALS = 3600.0, 60
"""The longer of both is the period: an hour is what a shift still remembers, and 60 polls are enough for three outages
of a source that is polled less than once a minute."""
MAX_OUTAGES = 20
"""Outages that are remembered of a source, at most: a count of 20 means "20 or more"."""

log = logging.getLogger("etl")


def state_of(is_down: bool, last_reading: float | None, now: float, interval: float) -> str:
    """The state of a source, one of STATES; `last_reading` and `now` in seconds since the epoch."""
    if is_down:
        return "down"
    if last_reading is None or round(max(0.0, now - last_reading), 3) > SILENT_AFTER_INTERVALS * interval:
        return "silent"
    return "up"


class Down(NamedTuple):
    """Since when a source is down (seconds since the epoch), and why."""

    since: float
    failure: Failure


class Flapping(NamedTuple):
    """How often a source went down within a period, and when for the first time (seconds since the epoch)."""

    outages: int
    since: float


def flapping_period(interval: float) -> float:
    """The period in which outages are counted, in seconds."""
    return max(FLAPPING_PERIOD_S, FLAPPING_INTERVALS * interval)


def flapping_of(outages: Iterable[float], now: float, interval: float) -> Flapping | None:
    """Whether a source flaps that went down at these times (seconds since the epoch); None if it does not."""
    period = flapping_period(interval)
    recent = [at for at in outages if abs(now - at) < period]  # not those of a clock that was wrong
    return Flapping(len(recent), min(recent)) if len(recent) >= FLAPPING_OUTAGES else None


class Standing:
    """What the writer learns of every source; console, metrics, notifications and `/readyz` read it.

    Only the writer changes it; other threads read snapshots. `root` is the output folder, `record` records an event.
    """

    def __init__(self, root: Path, record: Record) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.lateness: deque[float] = deque(maxlen=LATENESS_SAMPLES)
        self.latest: dict[Machine, bytes] = {}
        self.stuck: OSError | None = None
        self.last_write: float | None = None
        self._root = root
        self._record = record
        self.addresses: Mapping[str, str] = {}
        self._down: dict[str, Down] = {}
        self._outages: dict[str, tuple[float, ...]] = {}
        self._last_readings: dict[str, float] = {}
        self._traced: set[str] = set()
        self._rejected_messages: dict[tuple[str, str], tuple[float, int]] = {}

    def use(self, names: Collection[str], now: float) -> None:
        """Forget the sources that are not among these names; a new one is silent only after its chance to answer."""
        self._down = {name: down for name, down in self._down.items() if name in names}
        self._outages = {name: outages for name, outages in self._outages.items() if name in names}
        self.latest = {machine: line for machine, line in self.latest.items() if machine[0] in names}
        self._last_readings = {name: self._last_readings.get(name, now) for name in names}
        self._traced.clear()
        self._rejected_messages.clear()

    def answered(self, source: str, at: float, lateness: float, readings: int) -> None:
        """A poll was answered, complete `at` (seconds), `lateness` seconds after it was due."""
        self.counts["answered"] += 1
        self.lateness.append(lateness)
        if readings and source in self._last_readings:
            self._last_readings[source] = at
        if source in self._down:
            since, failure = self._down.pop(source)
            seconds = round(at - since, 3)
            codes = self._record("source_up", source=source, reason=failure.reason, seconds=seconds)
            log.warning("%s answers again after %g s", source, seconds, extra=codes)

    def failed(self, source: str, at: float, failure: Failure) -> None:
        """A poll failed; only the first failure in a row is an event and a log line.

        The last poll of a source that a reload removed changes nothing.
        """
        self.failures[failure.reason] += 1
        if source in self._last_readings and source not in self._down:
            if address := self.addresses.get(source):
                failure = failure._replace(why=f"{failure.why} ({shown_address(address)})")
            self._down[source] = Down(at, failure)
            self.add_outages([(source, at)])
            codes = self._record("source_down", source=source, reason=failure.reason, why=failure.why)
            log.error("Error fetching data from %s: %s", source, failure.why, extra=codes)

    def rejected(self, source: str, error: RejectedError, count: int = 1, sent_at: float | None = None) -> None:
        """Answers or records of a poll are no readings, for one reason; a source's first unexpected error is logged.

        Of messages that were `sent_at` a moment (seconds) there is an event every REJECTED_EVERY_S for each reason.
        """
        self.counts["rejected"] += count
        if sent_at is not None and not (count := self._spaced((source, error.reason), count, sent_at)):
            return
        more = {"count": count} if count > 1 else {}
        codes = self._record("rejected", source=source, reason=error.reason, why=str(error), **more)
        if error.__cause__ and source not in self._traced:
            self._traced.add(source)
            log.error("An answer of %s was rejected: %s", source, error, exc_info=error.__cause__, extra=codes)

    def _spaced(self, key: tuple[str, str], count: int, at: float) -> int:
        """How many rejected messages the event has that is due now, those since the last one included; 0 if none is."""
        since, waiting = self._rejected_messages.get(key, (-inf, 0))
        is_due = abs(at - since) >= REJECTED_EVERY_S
        self._rejected_messages[key] = (at, 0) if is_due else (since, waiting + count)
        return waiting + count if is_due else 0

    def restarted(self, source: str, restart: Restart) -> None:
        """A followed file is read from its start again."""
        codes = self._record("truncated", source=source, reason=restart.reason, why=restart.why)
        log.warning("%s: %s", source, restart.why, extra=codes)

    def wrote(self, updates: Iterable[Update]) -> None:
        """The averages lines of new readings were derived."""
        for update in updates:
            self.latest[update.machine] = shortened_line(update.averages)

    def restore(self, latest: Mapping[Machine, bytes]) -> None:
        """Start with the latest averages line of each machine, from an earlier process."""
        self.latest = {machine: shortened_line(line) for machine, line in latest.items()}

    def add_outages(self, outages: Iterable[tuple[str, float]]) -> None:
        """Note outages, also those of an earlier process: sources and when they went down, the oldest first."""
        for source, at in outages:
            if source in self._last_readings:
                self._outages[source] = (*self._outages.get(source, ()), at)[-MAX_OUTAGES:]

    def keep(self, machines: Set[Machine]) -> None:
        """Forget every machine but these."""
        if not self.latest.keys() <= machines:
            self.latest = {machine: line for machine, line in self.latest.items() if machine in machines}

    def rejected_write(self, error: OSError) -> None:
        """The disk rejected a write; only the first error in a row is logged."""
        if self.stuck is None:
            why, limit = error.strerror or str(error), MAX_PENDING_BYTES >> 20
            text = "Cannot write to %s: %s. Readings wait in memory, up to %d MiB of them."
            log.error(text, self._root, why, limit, extra={"reason": why})
        self.stuck = error

    def accepted_write(self, refused: int, now: float) -> None:
        """The disk accepts writes again; `refused` readings were more than MAX_PENDING_BYTES could hold."""
        codes: Mapping[str, object] = {}
        if self.stuck:
            reason = self.stuck.strerror or str(self.stuck)
            codes = self._record("dropped", reason=reason, lines=refused, until=rfc3339(now))
        log.warning("%s can be written again; %s refused", self._root, plural(refused, "reading"), extra=codes)
        self.counts["dropped"] += refused
        self.stuck = None

    def finish(self, ticks: Iterable[Tick]) -> None:
        """A poll of each of these ticks was handled; one whose lines wait for the disk finishes as well."""
        for tick in ticks:
            tick.unfinished_polls -= 1
            if not tick.unfinished_polls:
                self.counts["ticks_held" if self.stuck else "ticks_written"] += 1

    @property
    def finished_ticks(self) -> int:
        """How many ticks came to their end; one whose lines wait for the disk did, as it can do nothing else."""
        return self.counts["ticks_written"] + self.counts["ticks_held"]

    def down(self) -> dict[str, Down]:
        """The sources that are down."""
        return self._down.copy()

    def states(self, now: float, interval: float) -> Counter[str]:
        """How many sources are in each of STATES."""
        down = self._down
        readings = self._last_readings.copy()
        return Counter(state_of(name in down, at, now, interval) for name, at in readings.items())

    def long_down(self, now: float, interval: float) -> dict[str, Down]:
        """The sources that are down long enough to notify somebody."""
        limit = NOTIFY_AFTER_INTERVALS * interval
        return {name: down for name, down in self.down().items() if now - down.since >= limit}

    def flapping(self, now: float, interval: float) -> dict[str, Flapping]:
        """The sources that flap, whether they are down or answer now."""
        outages = {name: times for name, times in self._outages.copy().items() if len(times) >= FLAPPING_OUTAGES}
        states = {name: flapping_of(times, now, interval) for name, times in outages.items()}
        return {name: state for name, state in states.items() if state}

    def not_ready(self, now: float, interval: float) -> list[str]:
        """Why nobody should rely on the written readings now; empty if all is well."""
        if self.last_write is None:
            return ["no reading was written yet"]
        if now - self.last_write > NOT_READY_AFTER_INTERVALS * interval:
            return [f"no reading was written for {NOT_READY_AFTER_INTERVALS} intervals"]
        return []
