"""What the console shows of a running process: the last readings of every machine, as JSON and plain dicts."""

import re
import threading
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from math import isfinite, nan
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import orjson

from etl.config.load import Loaded
from etl.live.sinks.alarms import RaisedAlarms
from etl.live.standing import Standing
from etl.readings.alarms.conditions import Change, crossed_limit, limits_of
from etl.readings.averages.window import Window, number
from etl.readings.lines import MAX_TEXT_CHARACTERS
from etl.readings.records import Machine, Reading
from etl.readings.text import shortened
from etl.readings.times import SILENT_AFTER_INTERVALS, rfc3339

TRACE_READINGS = 60
"""Readings kept of each machine: ten minutes at 10 s."""
RECENT_READINGS = 1 << 16
"""Readings whose order is remembered: who asks before so many have come gets only the new ones."""
MAX_ANSWER_READINGS = 60_000
"""Readings in one answer, at most: large fleets get shorter traces."""
MACHINES_PER_CHUNK = 200
"""Machines encoded at once: the answer for a large fleet needs little memory."""
_SIMULATED = re.compile(r"/data|/machines/([1-9][0-9]{0,8})/data")

Row = tuple[float, ...]
"""When a reading was polled (seconds since the epoch), then the value of each parameter, NaN where it had none."""


class News(NamedTuple):
    """For each machine the numbers of the readings to show; `whole`: all that are kept, not only the new ones."""

    mark: int
    whole: bool
    numbers: dict[Machine, range]


class Traces:
    """A ring buffer of readings for each machine; 10,000 machines of two parameters take 8 MB. For any thread.

    Marks count the readings, from `now` (seconds since the epoch) on: no mark of an earlier process is known.
    """

    def __init__(self, parameters: int, now: float) -> None:
        self._width = 1 + parameters
        self._lock = threading.Lock()
        self._clear(int(now) * RECENT_READINGS)

    def _clear(self, mark: int) -> None:
        self._slots: dict[Machine, int] = {}
        self._rows = array("f")  # a row is the seconds since the reading before, then the values
        self._last = array("d")
        self._counts = array("Q")
        self._recent = array("I")
        self._mark = mark

    def add_all(self, readings: Iterable[tuple[Machine, Window]]) -> None:
        """Keep the readings that these machines' windows have just been stepped by."""
        with self._lock:
            for machine, window in readings:
                at, pairs = window.at, zip(window.values, window.seen, strict=True)
                self._add(machine, at, (v[-1] if v and seen == at else nan for v, seen in pairs))

    def restore(self, readings: Iterable[Reading]) -> None:
        """Keep readings that an earlier process wrote, the oldest first."""
        with self._lock:
            for reading in readings:
                values = (nan if (v := number(value)) is None else v for value in reading.values)
                self._add(reading.machine, reading.polled_at, values)

    def _add(self, machine: Machine, at: float, values: Iterator[float]) -> None:
        slot = self._slots.get(machine)
        if slot is None:
            slot = self._slots[machine] = len(self._slots)
            self._rows.frombytes(bytes(4 * TRACE_READINGS * self._width))
            self._last.append(at)
            self._counts.append(0)
        start = (slot * TRACE_READINGS + self._counts[slot] % TRACE_READINGS) * self._width
        self._rows[start : start + self._width] = array("f", (at - self._last[slot], *values))
        self._last[slot] = at
        self._counts[slot] += 1
        if len(self._recent) < RECENT_READINGS:
            self._recent.append(slot)
        else:
            self._recent[self._mark % RECENT_READINGS] = slot
        self._mark += 1

    def of(self, machine: Machine, numbers: range | None = None) -> list[Row]:
        """The readings kept of a machine, or those of these numbers, oldest first; none of an unknown machine."""
        with self._lock:
            slot = self._slots.get(machine)
            return [] if slot is None else self._read(slot, numbers or self._numbers(slot))

    def since(self, mark: int) -> News:
        """What was added after `mark`, or everything where that mark is not known (any more)."""
        with self._lock:
            if mark <= self._mark <= mark + RECENT_READINGS:
                machines = list(self._slots)
                new = Counter(self._recent[n % RECENT_READINGS] for n in range(mark, self._mark))
                numbers = {machines[slot]: self._numbers(slot)[-count:] for slot, count in new.items()}
                return News(self._mark, False, numbers)
            return News(self._mark, True, {machine: self._numbers(slot) for machine, slot in self._slots.items()})

    def keep_sources(self, sources: Collection[str]) -> None:
        """Forget the machines of other sources."""
        with self._lock:
            self._keep([machine for machine in self._slots if machine[0] in sources])

    def keep(self, machines: Set[Machine]) -> None:
        """Forget every machine but these."""
        with self._lock:
            if not self._slots.keys() <= machines:
                self._keep([machine for machine in self._slots if machine in machines])

    def _keep(self, machines: Iterable[Machine]) -> None:
        slots, rows, last, counts = self._slots, self._rows, self._last, self._counts
        size = TRACE_READINGS * self._width
        self._clear((self._mark // RECENT_READINGS + 2) * RECENT_READINGS)
        for machine in machines:
            slot = slots[machine]
            self._slots[machine] = len(self._slots)
            self._rows += rows[slot * size : (slot + 1) * size]
            self._last.append(last[slot])
            self._counts.append(counts[slot])

    def _numbers(self, slot: int) -> range:
        return range(max(0, self._counts[slot] - TRACE_READINGS), self._counts[slot])

    def _read(self, slot: int, numbers: range) -> list[Row]:
        rows: list[Row] = []
        at, step = self._last[slot], 0.0
        for n in reversed(self._numbers(slot)):
            at -= step
            start = (slot * TRACE_READINGS + n % TRACE_READINGS) * self._width
            step, *values = self._rows[start : start + self._width]
            if n in numbers:
                rows.append((at, *values))
        return rows[::-1]


class Console:
    """The console's answers; `not_ready` says why nobody should rely on the process now."""

    def __init__(self, loaded: Loaded, standing: Standing, traces: Traces, alarms: RaisedAlarms) -> None:
        self._loaded = loaded
        self._standing = standing
        self._traces = traces
        self._alarms = alarms

    def overview(self, now: float, mark: int, not_ready: list[str]) -> Iterator[bytes]:
        """JSON in chunks: the machines with readings since the `mark` of an earlier answer, and what is down or raised.

        The `id` of each is JSON as text: numbers of the page are doubles. A trace is a list of [milliseconds since the
        epoch, value of each parameter or null].
        """
        latest, news, settings = self._standing.latest.copy(), self._traces.since(mark), self._loaded.settings
        head = {
            "now": round(now * 1000),
            "mark": news.mark,
            "whole": news.whole,
            "interval": settings.interval,
            "silent_after": SILENT_AFTER_INTERVALS * settings.interval,
            "window": settings.window,
            "threshold": settings.threshold,
            "timezone": settings.timezone,
            "parameters": list(settings.parameters),
            "units": self._loaded.config.units,
            "sources": len(self._loaded.sources),
            "down": [
                {"source": source, "since": rfc3339(since), "reason": failure.reason, "why": failure.why}
                for source, (since, failure) in self._standing.down().items()
            ],
            "flapping": [
                {"source": source, "outages": outages, "since": rfc3339(since)}
                for source, (outages, since) in self._standing.flapping(now, settings.interval).items()
            ],
            "alarms": [_alarm(change, self._loaded.config.units) for change in self._alarms.raised()],
            "not_ready": not_ready,
        }
        yield orjson.dumps(head)[:-1] + b',"machines":['
        length = max(1, MAX_ANSWER_READINGS // max(1, len(latest)))
        machines = [machine for machine in news.numbers if machine in latest]
        comma = b""
        for first in range(0, len(machines), MACHINES_PER_CHUNK):
            chunk = machines[first : first + MACHINES_PER_CHUNK]
            traces = [_trace(self._traces.of(machine, news.numbers[machine][-length:])) for machine in chunk]
            lines = [latest[machine].rstrip() for machine in chunk]
            items = zip(map(_id_text, chunk), lines, traces, strict=True)
            yield comma + b",".join(b'{"id":%b,"latest":%b,"trace":[%b]}' % item for item in items)
            comma = b","
        yield b"]}"

    def machine(self, source: str, machine_id: Any) -> dict[str, Any] | None:
        """A machine's last readings in columns, the limits of its alarms, and its number if this process simulates it.

        None if the machine is unknown.
        """
        rows = self._traces.of((source, machine_id))
        if not rows:
            return None
        times, *columns = zip(*rows, strict=True)
        settings = self._loaded.settings
        return {
            "times": times,
            "values": dict(zip(settings.parameters, columns, strict=True)),
            "limits": limits_of(settings.alarms, settings.parameters, source),
            "units": self._loaded.config.units,
            "interval": settings.interval,
            "threshold": settings.threshold,
            "timezone": settings.timezone,
            "simulated": simulated(self._loaded, source),
        }


def _alarm(change: Change, units: Mapping[str, str]) -> dict[str, str]:
    """A raised alarm as the console shows it: what holds, and since when."""
    rule, condition = change.rule, change.condition
    limit = crossed_limit(change, units.get(rule.parameter or ""))
    holds = f"status {rule.status}" if rule.status is not None else f"{rule.parameter} {limit}"
    since = rfc3339(condition.since / 1000)
    return {
        "source": change.machine[0],
        "id": _id_json(change.machine),
        "alarm": rule.name,
        "holds": holds,
        "since": since,
    }


def _id_json(machine: Machine) -> str:
    """The id of a machine as JSON."""
    machine_id = shortened(machine[1], MAX_TEXT_CHARACTERS) if isinstance(machine[1], str) else machine[1]
    return msgspec.json.encode(machine_id).decode()


def _id_text(machine: Machine) -> bytes:
    return msgspec.json.encode(_id_json(machine))


def _trace(rows: list[Row]) -> bytes:
    """Rows as JSON, to the six digits that their single precision has."""
    return b",".join(
        b"[%d,%b]"
        % (round(row[0] * 1000), b",".join(b"%.6g" % value if isfinite(value) else b"null" for value in row[1:]))
        for row in rows
    )


def simulated(loaded: Loaded, name: str) -> int | None:
    """The number of the simulated machine that a source polls, if this process' API serves it."""
    api = loaded.config.api
    address = next((source.address for source in loaded.sources if source.name == name), "")
    parts = urlsplit(address)
    path = _SIMULATED.fullmatch(parts.path)
    if path is None or parts.hostname not in (api.host, "localhost", "127.0.0.1") or parts.port != api.port:
        return None
    number = int(path[1] or 1)
    return number if number <= api.machines else None
