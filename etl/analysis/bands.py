"""The band a value is expected in: from the readings before it, rolling. Pure, with numpy."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import floor, log10
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etl.analysis.columns import Floats
from etl.analysis.past import MEMORY

LAG = 30
"""The newest readings are left out of what a reading is compared with: what is just beginning must not hide itself.
As many as one incident may bridge; with many more, a slow wave would outrun its band."""

KNOWN = 120
"""Readings it takes to know something, a machine, a status or a phase of it: 20 minutes at 10 s. Before, nothing is
judged. Twice SPAN, so that a level is compared within what is known."""

MOST = 1e6
"""Deviations end here: they stay finite, and beyond it the number says nothing more."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Band(NamedTuple):
    """For each reading: what is expected, the third lowest and third highest before it, and of how many readings.

    NaN where too little is known.
    """

    low: Floats
    high: Floats
    least: Floats
    most: Floats
    readings: Floats


def band_of(series: Floats, limit: float, resolution: float, own: Bools | None = None) -> Band:
    """The band of `series`, NaN where it has no number, around each of its readings; of its `own` readings only.

    It reaches from the middle between the third extremes as far as plain noise with these third extremes has its
    `limit` sigma, and at least one step of the sensor beyond them, as a coarse one hides its noise. Two strays a window
    do not widen it.
    """
    used = np.isfinite(series) if own is None else own & np.isfinite(series)
    least = third_lowest(np.where(used, series, np.inf))
    most = -third_lowest(np.where(used, -series, np.inf))
    count = counts(used)
    known = count >= KNOWN
    with np.errstate(invalid="ignore"):
        middle = least / 2 + most / 2
        half = most / 2 - least / 2
        half = np.where(half > 0, np.maximum(half * limit / _sigmas()[count], half + 1.5 * resolution), 0.0)
    return Band(*(np.where(known, part, np.nan) for part in (middle - half, middle + half, least, most, count)))


def resolution_of(values: Floats) -> float:
    """The smallest step of the sensor: that of one change in a hundred; 0 if nothing changes."""
    steps = np.abs(np.diff(values))
    steps = steps[steps > 0]
    return float(np.partition(steps, len(steps) // 100)[len(steps) // 100]) if len(steps) else 0.0


def at_least(band: Band, share: float, whole: Band) -> Band:
    """The band, widened to this share of the whole one where it is narrower."""
    middle, half = band.low / 2 + band.high / 2, band.high / 2 - band.low / 2
    half = np.fmax(half, share * (whole.high / 2 - whole.low / 2))
    return band._replace(low=middle - half, high=middle + half)


def deviation_from(series: Floats, band: Band, values: Band) -> Floats:
    """How far from the middle of the band, 1 at its ends; 0 where there is no band.

    A band narrower than a billionth of what the band of `values` reaches to is none: the value never moved, or only by
    what rounding leaves, and how far it may move is not known.
    """
    half = band.high / 2 - band.low / 2
    scale = np.abs(values.low) + np.abs(values.high)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        far = np.abs(series - (band.low / 2 + band.high / 2)) / half
        return np.where((half > 1e-9 * scale) & np.isfinite(series), np.minimum(far, MOST), 0.0)


def counts(used: Bools) -> Ints:
    """How many of the MEMORY readings before each one, LAG left out, are used."""
    total: Ints = np.cumsum(np.concatenate(([False], used)))
    end = np.maximum(np.arange(len(used)) - LAG, 0)
    found: Ints = total[end] - total[np.maximum(end - MEMORY, 0)]
    return found


def third_lowest(series: Floats) -> Floats:
    """The third lowest of the MEMORY readings before each one, LAG left out; infinite if there are fewer than three.

    Any MEMORY readings in a row are the end of one block of that many and the beginning of the next. The three lowest
    of each beginning and each end are found in one pass over all blocks.
    """
    size = len(series)
    blocks = -(-(size + LAG) // MEMORY) + 1
    padded = np.full(blocks * MEMORY, np.inf)
    padded[MEMORY + LAG : MEMORY + size] = series[: max(size - LAG, 0)]
    table = padded.reshape(blocks, MEMORY)
    ends = [part[:, ::-1].ravel()[:size] for part in _lowest_so_far(table[:, ::-1])]
    beginnings = []
    for part in _lowest_so_far(table):
        part[:, 1:] = part[:, :-1].copy()
        part[:, 0] = np.inf
        beginnings.append(part.ravel()[MEMORY : MEMORY + size])
    (a, b, c), (x, y, z) = ends, beginnings
    third: Floats = np.minimum(np.minimum(c, z), np.minimum(np.maximum(a, y), np.maximum(b, x)))
    return third


def _lowest_so_far(table: Floats) -> list[Floats]:
    """The lowest, second and third lowest of each row up to each place."""
    found = []
    for _ in range(3):
        lowest = np.minimum.accumulate(table, axis=1)
        found.append(lowest)
        # What a new lowest displaces, and what is not the lowest, goes on to the next rank.
        table = np.maximum(table, np.c_[np.full(len(table), np.inf), lowest[:, :-1]])
    return found


@cache
def _sigmas() -> Floats:
    """Where the third highest of n readings of plain noise lies, in sigmas (Blom's approximation), for n to MEMORY."""
    plain = NormalDist()
    return np.array([np.nan] * KNOWN + [plain.inv_cdf((n - 2.375) / (n + 0.25)) for n in range(KNOWN, MEMORY + 1)])


def outside(value: float, band: Band, i: int) -> str:
    """Say that a value is outside of what is known at reading i."""
    say = digits_of(band.most[i] - band.least[i] or band.high[i] - band.low[i])
    least, most = say(band.least[i]), say(band.most[i])
    return f"{say(value)} is far from {least}" if least == most else f"{say(value)} is far outside {least} to {most}"


def digits_of(width: float) -> Callable[[float], str]:
    """The function that writes numbers as exactly as differences of this width need: to its second digit."""
    digits = 1 - floor(log10(width)) if width > 0 else 2

    def say(value: float) -> str:
        if abs(value) >= 1e15 or digits > 9:
            return f"{value:.3g}"
        return f"{round(value, digits) + 0.0:,.{max(digits, 0)}f}"

    return say
