"""Rolling bands: the range in which a value is expected, derived from the readings before it."""

from collections.abc import Callable
from functools import cache
from math import floor, log10
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from etl.analysis.columns import Bools, Floats, Ints
from etl.analysis.past import BASELINE_READINGS

LAG_READINGS = 30
"""The newest readings are left out of the baseline, so that a developing fault cannot widen its own band; with many
more, a slow wave would leave its band."""
MIN_BASELINE_READINGS = 120
"""A baseline, of all readings or of those in one status or phase, needs this many readings: 20 minutes at 10 s. With
fewer nothing is flagged. Twice LEVEL_READINGS, so that both means of a level change lie inside it."""
MAX_DEVIATION = 1e6
"""Deviations are capped, so that they stay finite."""
MIN_RELATIVE_WIDTH = 1e-9
"""A band that is narrower than this share of the values has only rounding errors in it: the value never moved."""


class Band(NamedTuple):
    """One item per reading, NaN where the baseline is too small.

    `low` and `high` are the edges of the band, `least` and `most` the third-lowest and third-highest value of the
    baseline, `readings` its size.
    """

    low: Floats
    high: Floats
    least: Floats
    most: Floats
    readings: Floats


def band_of(series: Floats, limit: float, resolution: float, selected: Bools | None = None) -> Band:
    """The band of each reading; NaNs in `series` and, with `selected`, all other readings are not in the baseline.

    Centred between the 3rd-lowest and 3rd-highest value, so that two outliers cannot widen it; edges at `limit` sigma
    of Gaussian noise with those order statistics. At least 1.5 `resolution` beyond these values, because a coarse
    sensor hides its noise.
    """
    used = np.isfinite(series) if selected is None else selected & np.isfinite(series)
    least = third_lowest(np.where(used, series, np.inf))
    most = -third_lowest(np.where(used, -series, np.inf))
    sizes = baseline_sizes(used)
    sufficient = sizes >= MIN_BASELINE_READINGS
    with np.errstate(invalid="ignore"):
        middle = least / 2 + most / 2
        half = most / 2 - least / 2
        half = np.where(half > 0, np.maximum(half * limit / _sigmas()[sizes], half + 1.5 * resolution), 0.0)
    return Band(*(np.where(sufficient, part, np.nan) for part in (middle - half, middle + half, least, most, sizes)))


def resolution_of(values: Floats) -> float:
    """The smallest step of the sensor: the 1 % quantile of the changes from reading to reading; 0 without changes."""
    steps = np.abs(np.diff(values))
    steps = steps[steps > 0]
    return float(np.partition(steps, len(steps) // 100)[len(steps) // 100]) if len(steps) else 0.0


def at_least(band: Band, share: float, reference: Band) -> Band:
    """The band, widened around its centre to `share` of the width of `reference` where it is narrower."""
    middle, half = band.low / 2 + band.high / 2, band.high / 2 - band.low / 2
    half = np.fmax(half, share * (reference.high / 2 - reference.low / 2))
    return band._replace(low=middle - half, high=middle + half)


def deviation_from(series: Floats, band: Band, values: Band) -> Floats:
    """The distance from the centre of the band in units of its half width: 1 at its edges, 0 without a band.

    A band narrower than MIN_RELATIVE_WIDTH, relative to the edges of the band of `values`, does not count as one.
    """
    half = band.high / 2 - band.low / 2
    scale = np.abs(values.low) + np.abs(values.high)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        distance = np.abs(series - (band.low / 2 + band.high / 2)) / half
        usable = (half > MIN_RELATIVE_WIDTH * scale) & np.isfinite(series)
        return np.where(usable, np.minimum(distance, MAX_DEVIATION), 0.0)


def baseline_sizes(used: Bools) -> Ints:
    """For each reading: how many used ones are among the BASELINE_READINGS before it, without the LAG_READINGS."""
    total: Ints = np.cumsum(np.concatenate(([False], used)))
    end = np.maximum(np.arange(len(used)) - LAG_READINGS, 0)
    sizes: Ints = total[end] - total[np.maximum(end - BASELINE_READINGS, 0)]
    return sizes


def third_lowest(series: Floats) -> Floats:
    """For each reading the third-lowest value of its baseline; infinite if that has fewer than three values.

    With the series cut into blocks of BASELINE_READINGS, every baseline is the end of one block and the start of the
    next; one pass over the blocks finds the three lowest values of all ends and starts.
    """
    size = len(series)
    blocks = -(-(size + LAG_READINGS) // BASELINE_READINGS) + 1
    padded = np.full(blocks * BASELINE_READINGS, np.inf)
    padded[BASELINE_READINGS + LAG_READINGS : BASELINE_READINGS + size] = series[: max(size - LAG_READINGS, 0)]
    table = padded.reshape(blocks, BASELINE_READINGS)
    ends = [part[:, ::-1].ravel()[:size] for part in _running_lowest(table[:, ::-1])]
    starts = []
    for part in _running_lowest(table):
        # A block start ends before its reading, and has no values at the first reading of a block.
        part[:, -1] = np.inf
        starts.append(part.ravel()[BASELINE_READINGS - 1 : BASELINE_READINGS - 1 + size])
    (a, b, c), (x, y, z) = ends, starts
    third: Floats = np.minimum(np.minimum(c, z), np.minimum(np.maximum(a, y), np.maximum(b, x)))
    return third


def _running_lowest(table: Floats) -> list[Floats]:
    """The lowest, second-lowest and third-lowest value of each row up to each column."""
    ranks = []
    for _ in range(3):
        lowest = np.minimum.accumulate(table, axis=1)
        ranks.append(lowest)
        # The next rank is the lowest of the values that are not the lowest, or that a new lowest value replaces.
        table = np.maximum(table, np.c_[np.full(len(table), np.inf), lowest[:, :-1]])
    return ranks


@cache
def _sigmas() -> Floats:
    """By n: the expected third-highest of n Gaussian values in sigmas (Blom's approximation)."""
    gaussian = NormalDist()
    sizes = range(MIN_BASELINE_READINGS, BASELINE_READINGS + 1)
    return np.array([np.nan] * MIN_BASELINE_READINGS + [gaussian.inv_cdf((n - 2.375) / (n + 0.25)) for n in sizes])


def outside(value: float, band: Band, i: int) -> str:
    """A clause that compares a value with the baseline of reading i."""
    text = formatter(band.most[i] - band.least[i] or band.high[i] - band.low[i])
    least, most = text(band.least[i]), text(band.most[i])
    return f"{text(value)} is far from {least}" if least == most else f"{text(value)} is far outside {least} to {most}"


def formatter(width: float) -> Callable[[float], str]:
    """Build the function that formats numbers to the second significant digit of differences of this width."""
    digits = 1 - floor(log10(width)) if width > 0 else 2

    def text(value: float) -> str:
        if abs(value) >= 1e15 or digits > 9:
            return f"{value:.3g}"
        return f"{round(value, digits) + 0.0:,.{max(digits, 0)}f}"

    return text
