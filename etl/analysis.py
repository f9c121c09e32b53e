"""analyze_values, and the day's analysis that gives the same for many machines at once. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from math import fsum, isfinite
from typing import Any

from etl.averages import number
from etl.records import Machine, Reading


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


class Columns:
    """One machine's day: for each parameter its values and the offsets of their lines, 8 bytes each."""

    __slots__ = ("name", "offsets", "readings", "values")

    def __init__(self, parameters: int) -> None:
        self.readings = 0
        self.name: Any = None
        self.values = [array("d") for _ in range(parameters)]
        self.offsets = [array("q") for _ in range(parameters)]


def collect(lines: Iterable[tuple[int, Reading]], parameters: int) -> dict[Machine, Columns]:
    """Sort the readings of a day, each with its line's offset, into columns; machines in order of appearance."""
    machines: dict[Machine, Columns] = {}
    for offset, reading in lines:
        columns = machines.get(reading.machine)
        if columns is None:
            columns = machines[reading.machine] = Columns(parameters)
        columns.readings += 1
        if reading.name is not None:
            columns.name = reading.name
        for value, values, offsets in zip(reading.values, columns.values, columns.offsets, strict=True):
            v = number(value)
            if v is not None:
                values.append(v)
                offsets.append(offset)
    return machines


def analyze_column(
    values: array[float], offsets: array[int], timestamp_at: Callable[[int], Any], threshold: float
) -> dict[str, Any]:
    """Give what analyze_values gives for one column; `timestamp_at` reads the timestamp of the line at an offset."""
    if not values:
        return analyze_values([], threshold)
    average = fsum(values) / len(values)
    highest, lowest = max(values), min(values)
    limit = threshold * abs(average)
    anomalies = []
    if abs(highest - average) > limit or abs(lowest - average) > limit:
        anomalies = [
            {"timestamp": timestamp_at(offset), "value": value, "deviation": abs(value - average)}
            for value, offset in zip(values, offsets, strict=True)
            if abs(value - average) > limit
        ]
    return {"average": average, "max": highest, "min": lowest, "anomalies": anomalies}
