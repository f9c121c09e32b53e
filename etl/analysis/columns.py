"""The day's analysis: what analyze_values gives, for many machines at once. Pure, with numpy."""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from etl.readings.records import Machine, Rows

Floats = NDArray[np.float64]
Lines = NDArray[np.intp]

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
    """One machine's day in the order of its lines; its rows count from 0.

    `times` holds when each was polled (seconds since the epoch), `values` a column for each parameter, NaN where the
    reading has no number, and `codes` the place of each one's status in `statuses`, or OTHER. Times and codes are empty
    where they were not asked for. `readings` counts the rows; `name` is the one last seen.
    """

    name: Any
    readings: int
    times: Floats
    values: list[Floats]
    codes: NDArray[np.uint8]
    statuses: Codes


class Part(NamedTuple):
    """The rows of a part of a day, sorted by machine: all those of the first machine, then all of the second.

    `counts` says how many each machine has; `lines` the number of each row's line in the part, counted from 0; `codes`
    the place of its status in the machine's `statuses`; the other columns are those of Columns. There are `length`
    lines, damaged ones too.
    """

    length: int
    machines: list[Machine]
    names: list[Any]
    statuses: list[list[str | None]]
    counts: list[int]
    lines: NDArray[np.uint32]
    times: Floats
    values: list[Floats]
    codes: NDArray[np.uint32]


class Figures(NamedTuple):
    """What is said of one column: average, maximum, minimum, and the row, value and deviation of each anomaly."""

    average: float | None
    highest: float | None
    lowest: float | None
    rows: Lines
    values: Floats
    deviations: Floats


class _Numbers(dict["tuple[str | None, Any]", int]):
    """Machines, numbered in order of their first appearance; damaged lines are one of them, without a source."""

    def __missing__(self, machine: tuple[str | None, Any]) -> int:
        number = self[machine] = len(self)
        return number


def collect(blocks: Iterable[Rows], parameters: int) -> Part:
    """Sort the rows of blocks by machine, machines in order of their first appearance; damaged lines only count."""
    numbers = _Numbers()
    names, statuses = list[Any](), list[str | None]()
    owners, times = [np.empty(0, np.uint32)], [np.empty(0)]
    columns = [[np.empty(0)] for _ in range(parameters)]
    for rows in blocks:
        # No Python code runs for a single row: a loop that sorts them one by one costs more than reading them.
        owner = map(numbers.__getitem__, zip(rows.sources, rows.ids, strict=True))
        owners.append(np.fromiter(owner, np.uint32, len(rows.ids)))
        names.extend(rows.names)
        times.append(np.array(rows.times or (), float))
        statuses.extend(rows.statuses or ())
        for column, values in zip(columns, rows.values, strict=True):
            column.append(np.array(values, float))
    machines, lines, counts = _by_machine(numbers, np.concatenate(owners))
    own = np.split(lines, np.cumsum(counts))[:-1]
    polled = np.concatenate(times)
    told: list[dict[str | None, int]] = [{} for _ in machines]
    codes = list[int]()
    if statuses:
        for known, of_machine in zip(told, own, strict=True):
            codes += [known.setdefault(statuses[line], len(known)) for line in of_machine.tolist()]
    return Part(
        len(names),
        machines,
        [_last(names, of_machine) for of_machine in own],
        list(map(list, told)),
        counts.tolist(),
        lines.astype(np.uint32),
        polled[lines] if len(polled) else polled,
        [np.concatenate(column)[lines] for column in columns],
        np.array(codes, np.uint32),
    )


def _by_machine(numbers: _Numbers, owners: NDArray[np.uint32]) -> tuple[list[Machine], Lines, Lines]:
    """The machines, the lines of the first one, of the second and so on, and how many each has."""
    counts = np.bincount(owners, minlength=len(numbers))
    # Numbers of 16 bits are sorted several times as fast as longer ones.
    lines = np.argsort(owners.astype(np.min_scalar_type(len(numbers))), kind="stable")
    machines = [(source, key) for source, key in numbers if source is not None]
    if len(machines) < len(numbers):
        damaged = numbers[None, None]
        start = counts[:damaged].sum()
        lines = np.delete(lines, np.s_[start : start + counts[damaged]])
        counts = np.delete(counts, damaged)
    return machines, lines, counts


def _last(names: list[Any], lines: Lines) -> Any:
    """The name in the last of these lines that has one."""
    name = names[lines[-1]]
    return name if name is not None else next((names[n] for n in lines[::-1].tolist() if names[n] is not None), None)


def figures(column: Floats, threshold: float) -> Figures:
    """What analyze_values gives for one column, to the last bit; anomalies are named by their rows."""
    rows = np.flatnonzero(~np.isnan(column))
    values = column[rows]
    if not len(values):
        return Figures(None, None, None, rows, values, values)
    average = fsum(values.tolist()) / len(values)
    deviations = np.abs(values - average)
    far = np.flatnonzero(deviations > threshold * abs(average))
    # Of 0.0 and -0.0, which are equal, the first one counts, as for Python's max and min.
    highest, lowest = float(values[values.argmax()]), float(values[values.argmin()])
    return Figures(average, highest, lowest, rows[far], values[far], deviations[far])
