"""A day's readings as columns per machine, and the figures of analyze_values for each column."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from math import fsum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from etl.readings.records import Machine, Rows

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Lines = NDArray[np.intp]

OTHER_STATUS_CODE = 255
"""The code of all statuses after the first 255: a field with that many texts is a comment, not a status."""


class Codes(dict[str | None, int]):
    """The code of each status, in order of first appearance; looking up a new status assigns a code to it."""

    def __missing__(self, status: str | None) -> int:
        code = len(self)
        if code < OTHER_STATUS_CODE:
            self[status] = code
        return code


class Columns(NamedTuple):
    """One machine's day, a row per reading, in the order of the raw log; rows are counted from 0.

    `name` is the last one sent, `readings` the number of rows. `times` are in seconds since the epoch; `values` has a
    column per parameter, NaN where a reading has no number; `codes` are those of `statuses`, or OTHER_STATUS_CODE.
    `times` and `codes` are empty if the day was read without them.
    """

    name: Any
    readings: int
    times: Floats
    values: list[Floats]
    codes: NDArray[np.uint8]
    statuses: Codes


class Part(NamedTuple):
    """The rows of a part of a day, grouped by machine in order of first appearance.

    `length` is the number of lines, damaged ones included. `machines`, `names` and `counts` (rows) have an item per
    machine; `lines` (counted from 0 in the part), `times`, `values` and `codes` (indices into `statuses`) have one per
    row. Times and values are as in Columns.
    """

    length: int
    machines: list[Machine]
    names: list[Any]
    statuses: list[str | None]
    counts: list[int]
    lines: NDArray[np.uint32]
    times: Floats
    values: list[Floats]
    codes: NDArray[np.uint32]


class Figures(NamedTuple):
    """The figures of one column, and the row, value and deviation of each anomaly."""

    average: float | None
    highest: float | None
    lowest: float | None
    rows: Lines
    values: Floats
    deviations: Floats


def collect(blocks: Iterable[Rows], parameters: int) -> Part:
    """Group the rows of blocks by machine, in order of first appearance; of damaged lines only the number remains."""
    # By machine, in order of first appearance; damaged lines belong to the machine (None, None).
    numbers: dict[tuple[str | None, Any], int] = defaultdict(count(1).__next__, {(None, None): 0})
    names, statuses = dict[int, Any](), defaultdict[str | None, int](count().__next__)
    owners, codes, times = [np.empty(0, np.uint32)], [np.empty(0, np.uint32)], [np.empty(0)]
    columns = [[np.empty(0)] for _ in range(parameters)]
    for rows in blocks:
        # No Python code runs per row here: a loop over the rows would take longer than decoding them.
        block_owners = list(map(numbers.__getitem__, zip(rows.sources, rows.ids, strict=True)))
        owners.append(np.array(block_owners, np.uint32))
        named = zip(block_owners, rows.names, strict=True)
        names.update(named if None not in rows.names else (pair for pair in named if pair[1] is not None))
        times.append(np.array(() if rows.times is None else rows.times, float))
        codes.append(np.array(list(map(statuses.__getitem__, rows.statuses or ())), np.uint32))
        for column, values in zip(columns, rows.values, strict=True):
            column.append(np.array(values, float))
    machines = [(source, key) for source, key in numbers if source is not None]
    owner = np.concatenate(owners)
    damaged, *counts = np.bincount(owner, minlength=len(numbers)).tolist()
    # numpy sorts integers of up to 16 bits by radix sort, several times as fast as longer ones.
    lines = np.argsort(owner.astype(np.min_scalar_type(len(numbers))), kind="stable")[damaged:]
    polled, code = np.concatenate(times), np.concatenate(codes)
    return Part(
        len(owner),
        machines,
        [names.get(number) for number in range(1, len(numbers))],
        list(statuses),
        counts,
        lines.astype(np.uint32),
        polled[lines] if len(polled) else polled,
        [np.concatenate(column)[lines] for column in columns],
        code[lines] if len(code) else code,
    )


def figures(column: Floats, threshold: float) -> Figures:
    """The figures of analyze_values for one column, equal to the last bit; anomalies are identified by their rows."""
    rows = np.flatnonzero(~np.isnan(column))
    values = column[rows]
    if not len(values):
        return Figures(None, None, None, rows, values, values)
    average = fsum(values.tolist()) / len(values)
    deviations = np.abs(values - average)
    far = np.flatnonzero(deviations > threshold * abs(average))
    # 0.0 and -0.0 are equal; like Python's max and min, argmax and argmin choose the first.
    highest, lowest = float(values[values.argmax()]), float(values[values.argmin()])
    return Figures(average, highest, lowest, rows[far], values[far], deviations[far])
