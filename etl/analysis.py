"""analyze_values, and the day's analysis that gives the same for many machines at once. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from math import fsum, isfinite, nan
from typing import Any, NamedTuple

from etl.averages import LIMIT
from etl.records import Machine


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


Row = tuple[Any, ...]
"""Of a line of the raw log: source, id, name, when it was polled (a datetime), then the value of each parameter."""


_IDS = (int, str, float)
_NUMBERS = (float, int)


class Columns:
    """One machine's day, or a part of it, in the order of its lines.

    `lines` holds the number of each line, counted from 0; `times` when each was polled, in seconds since the epoch;
    `values` a column for each parameter, NaN where the reading has no number; `holes` says whether there is such a
    place.
    """

    __slots__ = ("holes", "lines", "name", "times", "values")

    def __init__(self, parameters: int) -> None:
        self.name: Any = None
        self.lines = array("I")
        self.times = array("d")
        self.values = tuple(array("d") for _ in range(parameters))
        self.holes = False


class Figures(NamedTuple):
    """What is said of one column: average, maximum, minimum, and (line, value, deviation) of each anomaly."""

    average: float | None
    highest: float | None
    lowest: float | None
    anomalies: list[tuple[int, float, float]]


def collect(rows: Iterable[Row | None], parameters: int) -> dict[Machine, Columns]:
    """Sort rows into columns, machines in order of appearance; None stands for a damaged line."""
    machines: dict[Machine, Columns] = {}
    for line, row in enumerate(rows):
        if row is None:
            continue
        source, key, name, at, *values = row
        machine = source, (key if type(key) in _IDS else None)
        columns = machines.get(machine)
        if columns is None:
            columns = machines[machine] = Columns(parameters)
        columns.lines.append(line)
        columns.times.append(at.timestamp())
        if name is not None:
            columns.name = name
        for column, value in zip(columns.values, values):  # noqa: B905  as many as there are parameters
            # What `number` says, written out: a call for each value would cost a fifth of the analysis.
            if type(value) in _NUMBERS and -LIMIT <= value <= LIMIT:
                column.append(value)
            else:
                column.append(nan)
                columns.holes = True
    return machines


def figures(values: array[float], lines: array[int], threshold: float, *, holes: bool) -> Figures:
    """What analyze_values gives for one column, to the last bit; anomalies are named by their lines."""
    if holes:
        kept = [i for i, value in enumerate(values) if value == value]  # noqa: PLR0124  NaN is not itself
        values, lines = array("d", [values[i] for i in kept]), array("I", [lines[i] for i in kept])
    if not values:
        return Figures(None, None, None, [])
    average = fsum(values) / len(values)
    highest, lowest = max(values), min(values)
    limit = threshold * abs(average)
    anomalies = []
    if abs(highest - average) > limit or abs(lowest - average) > limit:
        anomalies = [
            (line, value, abs(value - average))
            for line, value in zip(lines, values, strict=True)
            if abs(value - average) > limit
        ]
    return Figures(average, highest, lowest, anomalies)
