"""analyze_values, and the day's analysis that gives the same for many machines at once. Pure."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count
from math import fsum, isfinite, isnan, nan
from operator import itemgetter
from typing import Any, NamedTuple

from etl.records import Machine, Rows


def analyze_values(data: list[tuple[str, float]], anomaly_threshold: float = 0.2) -> dict[str, Any]:
    """Average, maximum, minimum and anomalies of (timestamp, value) pairs.

    An anomaly is a value whose deviation, |value - average|, is more than `anomaly_threshold` times |average|.

    Returns:
        {"average", "max", "min", "anomalies": [{"timestamp", "value", "deviation"}]}; of no data the three figures
        are None and there are no anomalies.

    Raises:
        ValueError: a value is NaN or infinite; the message names its timestamp.

    """
    for timestamp, value in data:
        if not isfinite(value):
            raise ValueError(f"the value at {timestamp} is {value}: only finite numbers can be analyzed")
    if not data:
        return {"average": None, "max": None, "min": None, "anomalies": []}
    values = [value for _, value in data]
    average = fsum(values) / len(values)
    limit = anomaly_threshold * abs(average)
    anomalies = [
        {"timestamp": timestamp, "value": value, "deviation": abs(value - average)}
        for timestamp, value in data
        if abs(value - average) > limit
    ]
    return {"average": average, "max": max(values), "min": min(values), "anomalies": anomalies}


OTHER = 255
"""The code of every status that comes after as many different ones: no machine has so many, it is a remark."""


class Codes(dict["str | None", int]):
    """Statuses by their codes, in the order of their first appearance."""

    def __missing__(self, status: str | None) -> int:
        code = len(self)
        if code < OTHER:
            self[status] = code
        return code


class Columns(NamedTuple):
    """One machine's day, or a part of it, in the order of its lines.

    `lines` holds the number of each line, counted from 0; `times` when it was polled (seconds since the epoch);
    `values` a column for each parameter, NaN where the reading has no number; `name` is the one last seen. Where
    statuses were read, `codes` holds the place of each line's in `statuses`, or OTHER.
    """

    name: Any
    lines: array[int]
    times: array[float]
    values: tuple[array[float], ...]
    codes: array[int]
    statuses: Codes


class Figures(NamedTuple):
    """What is said of one column: average, maximum, minimum, and (line, value, deviation) of each anomaly."""

    average: float | None
    highest: float | None
    lowest: float | None
    anomalies: list[tuple[int, float, float]]


class _Table(dict[Machine | None, "tuple[Any, ...]"]):
    """For each machine, in order of appearance, its lines, times, codes and statuses, and then its columns."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self._parameters = parameters

    def __missing__(self, machine: Machine | None) -> tuple[Any, ...]:
        columns = [array("d") for _ in range(self._parameters)]
        fresh = self[machine] = (array("I"), array("d"), array("B"), Codes(), *columns)
        return fresh


def collect(blocks: Iterable[Rows], parameters: int) -> dict[Machine, Columns]:
    """Sort the rows of blocks into columns, machines in order of appearance; damaged lines only count."""
    table = _Table(parameters)
    names: dict[Machine | None, Any] = {}
    line = 0
    # No Python code runs for a single row: a loop that sorts them one by one costs twice as much.
    for rows in blocks:
        here = list(map(table.__getitem__, rows.machines))
        _run(map(array.append, map(itemgetter(0), here), count(line)))
        _run(map(array.append, map(itemgetter(1), here), rows.times))
        if rows.statuses is not None:
            codes = map(Codes.__getitem__, map(itemgetter(3), here), rows.statuses)
            _run(map(array.append, map(itemgetter(2), here), codes))
        for number, values in enumerate(rows.values, 4):
            known = [nan if value is None else value for value in values] if None in values else values
            _run(map(array.append, map(itemgetter(number), here), known))
        named = zip(rows.machines, rows.names, strict=True)
        names.update([pair for pair in named if pair[1] is not None] if None in rows.names else named)
        line += len(here)
    return {
        machine: Columns(names.get(machine), lines, times, tuple(values), codes, statuses)
        for machine, (lines, times, codes, statuses, *values) in table.items() if machine is not None
    }  # fmt: skip


def _run(calls: Iterable[Any]) -> None:
    deque(calls, maxlen=0)


def join(parts: Iterable[tuple[int, dict[Machine, Columns]]]) -> dict[Machine, Columns]:
    """Put the columns of a day's parts (each with the number of its lines, damaged ones too) together, in order."""
    machines: dict[Machine, Columns] = {}
    before = 0
    for lines, part in parts:
        for machine, later in part.items():
            columns = machines.setdefault(machine, later)
            moved = array("I", [line + before for line in later.lines]) if before else later.lines
            if columns is later:
                machines[machine] = later._replace(lines=moved)
                continue
            columns.lines.extend(moved)
            columns.times.extend(later.times)
            codes = bytes(columns.statuses[status] for status in later.statuses).ljust(OTHER + 1, bytes([OTHER]))
            columns.codes.frombytes(later.codes.tobytes().translate(codes))
            for column, values in zip(columns.values, later.values, strict=True):
                column.extend(values)
            if later.name is not None:
                machines[machine] = columns._replace(name=later.name)
        before += lines
    return machines


def figures(values: array[float], lines: array[int], threshold: float) -> Figures:
    """What analyze_values gives for one column, to the last bit; anomalies are named by their lines."""
    column: Sequence[float] = values.tolist()
    total = fsum(column)
    if isnan(total):
        kept = [i for i, value in enumerate(column) if not isnan(value)]
        column, lines = [column[i] for i in kept], array("I", [lines[i] for i in kept])
        total = fsum(column)
    if not column:
        return Figures(None, None, None, [])
    average = total / len(column)
    highest, lowest = max(column), min(column)
    limit = threshold * abs(average)
    anomalies = []
    if abs(highest - average) > limit or abs(lowest - average) > limit:
        # Nearly all values lie within a slightly narrower band: two comparisons leave few to be judged exactly.
        near = 0.999999 * limit if threshold > 1e-6 else 0.0
        low, high = average - near, average + near
        outside = [(line, value) for line, value in zip(lines, column, strict=True) if not low <= value <= high]
        anomalies = [(line, value, deviation) for line, value in outside if (deviation := abs(value - average)) > limit]
    return Figures(average, highest, lowest, anomalies)
