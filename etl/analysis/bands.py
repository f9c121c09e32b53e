"""Rolling bands: the range in which a value is expected, derived from the readings before it."""

from collections.abc import Callable
from functools import cache, partial
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from etl.analysis.columns import Bools, Floats, Ints
from etl.analysis.past import BASELINE_BLOCKS, BASELINE_READINGS, BLOCK_READINGS
from etl.readings.digits import decimals, number, sample_step

SIGMAS = 5.0
"""The half width of a band, in sigmas of Gaussian noise. At 8,640 readings a day noise alone leaves a band of 5 sigma
once in months, one of 4 sigma every second day."""
JUDGED_AFTER_S = 7200.0
"""A machine is judged after two hours, 720 readings at 10 s: in fewer its usual extremes have not all occurred. At any
interval between MIN_READINGS and MAX_NEEDED_READINGS."""
MIN_READINGS = 120
"""Fewer readings show no third-lowest value that one can rely on. The baseline of each status needs as many."""
MAX_NEEDED_READINGS = 720
"""At intervals below 10 s two hours would be more than the baseline holds."""
MAX_DEVIATION = 1e6
"""Deviations are capped, so that they stay finite."""
MIN_RELATIVE_WIDTH = 1e-9
"""A band that is narrower than this share of the values has only rounding errors in it: the value never moved."""


class Band(NamedTuple):
    """Arrays of one shape, NaN where the baseline is too small; or the same figures of a single band.

    `low` and `high` are the edges of the band, `least` and `most` the third-lowest and third-highest value of the
    baseline, `readings` its size.
    """

    low: Floats
    high: Floats
    least: Floats
    most: Floats
    readings: Floats


def needed_readings(interval: float) -> int:
    """The readings that a machine must have sent before it is judged, by its interval in seconds."""
    return int(min(max(JUDGED_AFTER_S / interval, MIN_READINGS), MAX_NEEDED_READINGS))


def band_of(series: Floats, resolution: float, needed: int = MIN_READINGS) -> Band:
    """The band of each block of BLOCK_READINGS; NaNs in `series` are not in the baseline.

    Centred between the 3rd-lowest and 3rd-highest value, so that two outliers cannot widen it; edges at SIGMAS of
    Gaussian noise with those order statistics. At least 1.5 `resolution` beyond these values, because a coarse sensor
    hides its noise.
    """
    finite = np.isfinite(series)
    least, most = (_third_lowest(np.where(finite, side, np.inf)) for side in (series, -series))
    most, sizes = -most, baseline_sizes(finite)
    with np.errstate(invalid="ignore"):
        middle, half = least / 2 + most / 2, most / 2 - least / 2
        half = np.where(half > 0, np.maximum(half * SIGMAS / _sigmas()[sizes], half + 1.5 * resolution), 0.0)
    columns = (middle - half, middle + half, least, most, sizes.astype(float))
    return Band(*(np.where(sizes >= needed, column, np.nan) for column in columns))


def at_least(band: Band, share: float, reference: Band) -> Band:
    """The band, widened around its centre to `share` of the width of `reference` where it is narrower."""
    middle, half = band.low / 2 + band.high / 2, band.high / 2 - band.low / 2
    half = np.fmax(half, share * (reference.high / 2 - reference.low / 2))
    return band._replace(low=middle - half, high=middle + half)


def deviation_from(series: Floats, band: Band, values: Band, places: Any = ...) -> Floats:
    """The distance from the centre of the band in units of its half width: 1 at its edges, 0 without a band.

    `places` are the indices of the band of each item. A band narrower than MIN_RELATIVE_WIDTH, relative to the edges of
    the band of `values`, does not count as one.
    """
    middle, half = band.low / 2 + band.high / 2, band.high / 2 - band.low / 2
    half = np.where(half > MIN_RELATIVE_WIDTH * (np.abs(values.low) + np.abs(values.high)), half, np.nan)
    with np.errstate(over="ignore"):
        distance = np.abs(series - middle[places]) / half[places]
    return np.where(np.isnan(distance), 0.0, np.minimum(distance, MAX_DEVIATION))


def block_numbers(size: int) -> Ints:
    """The block of each of `size` readings."""
    return np.arange(size) // BLOCK_READINGS


def baseline_sizes(used: Bools) -> Ints:
    """For each block: how many used readings are in its baseline."""
    counts = _blocks(used.astype(np.float64), 0.0).sum(axis=1).astype(np.int64)
    sizes: Ints = sliding_window_view(counts, BASELINE_BLOCKS).sum(axis=1)
    return sizes


def _third_lowest(series: Floats) -> Floats:
    """For each block the third-lowest value of its baseline; infinite if that has fewer than three."""
    lowest = np.sort(_blocks(series, np.inf), axis=1)[:, :3]
    third: Floats = _lowest(np.ascontiguousarray(lowest.T), BASELINE_BLOCKS)[2]
    return third


def _lowest(blocks: Floats, width: int) -> Floats:
    """The three lowest values of each `width` neighbouring blocks; `blocks` has a row each for the three of a block.

    Merging the three of neighbouring windows takes a tenth of the time of partitioning every window.
    """
    if width == 1:
        return blocks
    half, shift = _lowest(blocks, width // 2), width // 2
    windows = _merged(half[:, :-shift], half[:, shift:])
    return _merged(windows[:, :-1], blocks[:, width - 1 :]) if width % 2 else windows


def _merged(left: Floats, right: Floats) -> Floats:
    """The three lowest of two times three values in ascending order, column by column."""
    (a, b, c), (x, y, z) = left, right
    second = np.minimum(np.maximum(a, x), np.minimum(b, y))
    third = np.minimum(np.minimum(np.maximum(a, y), np.maximum(b, x)), np.minimum(c, z))
    return np.array((np.minimum(a, x), second, third))


def _blocks(series: Floats, fill: float) -> Floats:
    """The series in rows of BLOCK_READINGS, such that row k to k + BASELINE_BLOCKS - 1 are the baseline of block k."""
    count = -(-len(series) // BLOCK_READINGS)
    rows = np.full((BASELINE_BLOCKS + 1 + count, BLOCK_READINGS), fill)
    rows.reshape(-1)[(BASELINE_BLOCKS + 1) * BLOCK_READINGS :][: len(series)] = series
    return rows[: BASELINE_BLOCKS - 1 + count]


@cache
def _sigmas() -> Floats:
    """By n: the expected third-highest of n Gaussian values in sigmas (Blom's approximation)."""
    gaussian = NormalDist()
    sizes = range(MIN_READINGS, BASELINE_READINGS + 1)
    return np.array([np.nan] * MIN_READINGS + [gaussian.inv_cdf((n - 2.375) / (n + 0.25)) for n in sizes])


def resolution_of(values: Floats) -> float:
    """The smallest step of the sensor: the 1 % quantile of the changes from reading to reading; 0 without changes."""
    steps = np.abs(np.diff(values))
    steps = steps[steps > 0]
    return float(np.partition(steps, len(steps) // 100)[len(steps) // 100]) if len(steps) else 0.0


def places_of(values: Floats) -> int:
    """The decimal places that these readings have."""
    return decimals(values[:: sample_step(len(values))].tolist())


def formatter(values: Floats) -> Callable[[float], str]:
    """Build the function that formats numbers to the decimal places of these readings."""
    return partial(number, places=places_of(values))
