"""What a report claims of its day, held against the readings as they go by, in memory that does not grow. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from math import fsum, nan
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from etl.averages import number
from etl.compare import differs, same, shown
from etl.days import length
from etl.records import Machine, Reading, Settings
from etl.wire import raw_decoder, timestamp

BLOCK = 64
"""Readings of a machine whose values are kept before they are summed up."""


class Anomaly(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An item of `anomalies`; nothing may stand beside these keys."""

    timestamp: Any
    value: float
    deviation: float


class Figures(msgspec.Struct):
    """What the report says of one parameter of a machine."""

    average: float | None
    max: float | None
    min: float | None
    anomalies: list[Anomaly]


class Entry(msgspec.Struct):
    """What the report says of one machine."""

    source: str
    id: Any
    name: Any
    readings: int
    expected: float
    parameters: dict[str, msgspec.Raw]


class Report(msgspec.Struct):
    """The contract's keys of a report; others may stand beside them."""

    date: str
    timezone: str
    interval: float
    threshold: float
    machines: list[Entry]


def read_report(data: bytes) -> Report:
    """Read what a report claims.

    Raises:
        ValueError: it is not JSON, or keys of the contract are missing or of another kind; the message says which.

    """
    return msgspec.json.decode(data, type=Report)


class Claims:
    """Takes a day's readings in order; `finish` gives what the report says that they do not."""

    def __init__(self, report: Report, day: str, settings: Settings) -> None:
        """Begin; `settings` are those of the day's last line.

        Raises:
            ValueError: the settings name a time zone that does not exist.

        """
        self.fields = tuple(settings.parameters.values())
        self.decode = raw_decoder(self.fields)
        self._report = report
        self._settings = settings
        self._expected = length(day, _zone(settings.timezone)) / settings.interval
        self._machines: dict[Machine, _Machine | None] = {}
        self._wrong = [
            differs(key, getattr(report, key), value)
            for key, value in {
                "date": day,
                "timezone": settings.timezone,
                "interval": float(settings.interval),
                "threshold": float(settings.threshold),
            }.items()
            if not same(getattr(report, key), value)
        ]

    def see(self, reading: Reading) -> None:
        """Take the next reading of the day."""
        try:
            machine = self._machines[reading.machine]
        except KeyError:
            machine = self._machines[reading.machine] = self._appears(reading.machine)
        if machine is None:
            return
        machine.readings += 1
        if reading.name is not None:
            machine.name = reading.name
        for value, column in zip(reading.values, machine.columns, strict=True):
            v = number(value)
            if v is not None:
                column.values.append(v)
                # Whether this average is the right one shows at the end; if it is, so are its anomalies.
                deviation = abs(v - column.average)
                if deviation > column.limit:
                    column.anomaly(Anomaly(timestamp(reading), v, deviation))
        if machine.readings % BLOCK == 0:
            machine.sum_up()

    def _appears(self, machine: Machine) -> _Machine | None:
        """Find what the report says of a machine that is seen for the first time."""
        index = len(self._machines)
        if index >= len(self._report.machines):
            self._wrong.append(f"{_title(machine)} is missing")
            return None
        entry = self._report.machines[index]
        if not (same(entry.source, machine[0]) and same(entry.id, machine[1])):
            self._wrong.append(f"machine {index + 1} is {_title((entry.source, entry.id))}, expected {_title(machine)}")
            return None
        return _Machine(entry, self._settings)

    def finish(self) -> Iterator[str]:
        """Say what the report says and the day's readings do not."""
        yield from self._wrong
        for machine in self._machines.values():
            if machine:
                yield from machine.finish(self._expected)
        for entry in self._report.machines[len(self._machines) :]:
            yield f"{_title((entry.source, entry.id))} is surplus"


class _Machine:
    """One machine's readings, and what the report says of them."""

    def __init__(self, entry: Entry, settings: Settings) -> None:
        self.readings = 0
        self.name: Any = None
        self._entry = entry
        self._parameters = list(settings.parameters)
        self.columns = [_Column(entry.parameters.get(key), settings.threshold) for key in self._parameters]

    def sum_up(self) -> None:
        """Make room for more values."""
        for column in self.columns:
            column.sum_up()

    def finish(self, expected: float) -> Iterator[str]:
        """Say what the report says of this machine and its readings do not."""
        entry = self._entry
        title = _title((entry.source, entry.id))
        for key, value in {"name": self.name, "readings": self.readings, "expected": expected}.items():
            if not same(getattr(entry, key), value):
                yield f"{title}: {differs(key, getattr(entry, key), value)}"
        for parameter, column in zip(self._parameters, self.columns, strict=True):
            for what in column.finish():
                yield f"{title}, {parameter}: {what}"


class _Column:
    """One parameter's values: summed up exactly, and held against the anomalies that the report lists."""

    __slots__ = (
        "_anomalies", "_claimed", "_count", "_highest", "_lowest", "_seen", "_sum", "_wrong",
        "average", "limit", "values",
    )  # fmt: skip

    def __init__(self, claimed: msgspec.Raw | None, threshold: float) -> None:
        self.values = array("d")
        self._sum: list[float] = []
        self._count = 0
        self._highest: float | None = None
        self._lowest: float | None = None
        self._seen = 0
        self._wrong: str | None = None
        self._claimed = self._read(claimed)
        self.average = nan
        self._anomalies: list[Anomaly] = []
        if self._claimed:
            self._anomalies = self._claimed.anomalies
            if self._claimed.average is not None:
                self.average = self._claimed.average
        self.limit = threshold * abs(self.average)

    def _read(self, claimed: msgspec.Raw | None) -> Figures | None:
        if claimed is None:
            self._wrong = "is missing"
            return None
        try:
            return msgspec.json.decode(claimed, type=Figures)
        except ValueError as error:
            self._wrong = str(error)
            return None

    def anomaly(self, expected: Anomaly) -> None:
        """Hold the next anomaly against the one that the report lists."""
        self._seen += 1
        if self._wrong:
            return
        if self._seen > len(self._anomalies):
            self._wrong = f"anomaly {self._seen} is missing, expected {_listed(expected)}"
            return
        found = self._anomalies[self._seen - 1]
        if not all(same(getattr(found, key), getattr(expected, key)) for key in Anomaly.__struct_fields__):
            self._wrong = differs(f"anomaly {self._seen}", msgspec.to_builtins(found), msgspec.to_builtins(expected))

    def sum_up(self) -> None:
        """Keep of the values what the figures need."""
        values = self.values
        if not values:
            return
        self._count += len(values)
        self._highest = max(values if self._highest is None else (self._highest, *values))
        self._lowest = min(values if self._lowest is None else (self._lowest, *values))
        self._sum = _exactly([*self._sum, *values])
        del values[:]

    def finish(self) -> Iterator[str]:
        """Say what the report says of this parameter and its values do not."""
        self.sum_up()
        claimed = self._claimed
        if claimed is None:
            yield self._wrong or ""
            return
        average = fsum(self._sum) / self._count if self._count else None
        for key, value in {"average": average, "max": self._highest, "min": self._lowest}.items():
            if not same(getattr(claimed, key), value):
                yield differs(key, getattr(claimed, key), value)
        if not same(claimed.average, average):
            return
        if self._wrong:
            yield self._wrong
        elif self._seen < len(self._anomalies):
            yield f"{len(self._anomalies) - self._seen} anomalies are surplus, the first is number {self._seen + 1}"


def _exactly(values: list[float]) -> list[float]:
    """Find a few numbers that have exactly the same sum: each is what the ones before it left over, rounded."""
    parts: list[float] = []
    while part := fsum([*values, *(-p for p in parts)]):
        parts.append(part)
    return parts


def _zone(timezone: str) -> ZoneInfo:
    try:
        return ZoneInfo(timezone)
    except (KeyError, OSError):
        raise ValueError(f"settings.jsonl names a time zone that does not exist: {shown(timezone)}") from None


def _title(machine: Machine) -> str:
    return f"source {shown(machine[0])} id {shown(machine[1])}"


def _listed(anomaly: Anomaly) -> str:
    return shown(msgspec.to_builtins(anomaly))
