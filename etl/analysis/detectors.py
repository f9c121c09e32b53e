"""Detectors: how far each reading of a parameter deviates from the earlier readings of its machine.

Rules for values, steps and stuck sensors are `telemetry`, a rule for values in each status is `status_band`. No
constant is fitted to a data set; the reason for each stands beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from etl.analysis.bands import (
    MIN_READINGS,
    Band,
    at_least,
    band_of,
    baseline_sizes,
    block_numbers,
    deviation_from,
    formatter,
    needed_readings,
    resolution_of,
)
from etl.analysis.columns import Bools, Floats, Ints
from etl.analysis.past import BASELINE_READINGS, BLOCK_READINGS, FrozenBands
from etl.readings.records import DetectorName

FLATLINE_READINGS = 60
"""The shortest flatline of a stuck sensor: 10 minutes at 10 s."""
FLATLINE_FACTOR = 3
"""A flatline is flagged if it lasts this many times longer than any earlier one."""
PHASES = (
    "immediately after",
    "1 to 4 s after",
    "4 to 16 s after",
    "16 to 64 s after",
    "1 to 4 minutes after",
    "4 to 17 minutes after",
    "more than 17 minutes after",
)
"""The time since the status changed, in powers of 4 seconds, because transitions decay exponentially."""
MIN_STATUS_BAND_SHARE = 0.1
"""The band of a status is at least this share as wide as the band of all readings, because the noise within the few
periods of a status does not show how far periods differ, for example with the load."""
HOLE_FACTOR = 3
"""A time between two readings of more than this many times the median is a hole: no step is computed across it."""


@dataclass(frozen=True, eq=False)
class Series:
    """The readings of one parameter that have a number: those of a day, from `start` on, and the ones before it.

    There is at least one. `times` are in seconds since the epoch, `values` within ±1e300, `codes` are indices into
    `statuses`; `interval` is that of the polls, in seconds.
    """

    times: Floats
    values: Floats
    codes: Ints
    statuses: Sequence[str | None]
    start: int
    interval: float

    @cached_property
    def resolution(self) -> float:
        """The smallest step of the sensor."""
        return resolution_of(self.values)

    @cached_property
    def band(self) -> Band:
        """The rolling band of all readings, whatever their status; a column per block."""
        return band_of(self.values, self.resolution, needed_readings(self.interval))


class Detection(NamedTuple):
    """The result of a rule or a detector.

    `deviation` has an item for each reading of the series: 1 at the limit and larger beyond it, 0 where nothing can be
    compared, always finite. Where it exceeds 1, `expected(i)` is the expected range of reading i, `explain(i)` is a
    sentence about it, and `first(i)` the reading with which began what is flagged there.
    """

    deviation: Floats
    expected: Callable[[int], tuple[float, float]]
    explain: Callable[[int], str]
    first: Callable[[int], int] = int


class Bands(NamedTuple):
    """The bands of groups of readings: `table` has a row per group and a column per block, or one for all blocks.

    `keys` name the groups, alike on every day; `baselines` say what they are compared with; `groups` are indices into
    both, for each reading.
    """

    keys: list[str]
    baselines: list[str]
    groups: Ints
    table: Band

    def at(self, i: int) -> Band:
        """The band of reading i."""
        block = min(i // BLOCK_READINGS, self.table.low.shape[1] - 1)
        return Band(*(column[self.groups[i], block] for column in self.table))

    def deviation(self, values: Floats) -> Floats:
        """The deviation of each reading from its band."""
        blocks = np.minimum(block_numbers(len(values)), self.table.low.shape[1] - 1)
        return deviation_from(values, self.table, self.table, (self.groups, blocks))

    def freeze(self, i: int) -> FrozenBands:
        """The bands of all groups at reading i."""
        rows = np.stack([column[:, i // BLOCK_READINGS] for column in self.table], axis=1).tolist()
        return {key: row for key, row in zip(self.keys, rows, strict=True) if np.isfinite(row).all()}

    def frozen(self, bands: FrozenBands) -> Self:
        """These are the bands of the groups, for all blocks."""
        unknown = [np.nan] * len(Band._fields)
        columns = np.array([bands.get(key, unknown) for key in self.keys]).T
        return self._replace(table=Band(*columns[:, :, np.newaxis]))


def telemetry(series: Series) -> tuple[Detection, Bands]:
    """Values and steps outside of rolling bands, and flatlines; the strongest for each reading.

    Readings in a status that hardly occurs in the baseline are not flagged: a machine that is switched on in the
    morning is no incident.
    """
    groups = np.zeros(len(series.values), np.int64)
    bands = Bands([""], ["readings before it"], groups, Band(*(column[np.newaxis] for column in series.band)))
    rules = values_outside(series, bands), _steps_outside(series), _flatlines(series)
    deviations = [rule.deviation for rule in rules]

    def strongest(i: int) -> Detection:
        return rules[int(np.argmax([deviation[i] for deviation in deviations]))]

    detection = Detection(
        np.where(_has_baseline(series.codes), np.maximum(np.maximum(*deviations[:2]), deviations[2]), 0.0),
        lambda i: strongest(i).expected(i),
        lambda i: strongest(i).explain(i),
        lambda i: strongest(i).first(i),
    )
    return detection, bands


def status_band(series: Series) -> tuple[Detection, Bands]:
    """A rolling band for each status and phase, that is the time since the status began.

    A fan at rest is normal while IDLE and abnormal while STARTED; both are normal just after the change. Nothing is
    flagged if the status never changes.
    """
    numbers = series.codes * len(PHASES) + _phases(series)
    used = np.bincount(numbers) > 0
    groups = (np.cumsum(used) - 1)[numbers]
    names = [(series.statuses[n // len(PHASES)], PHASES[n % len(PHASES)]) for n in np.flatnonzero(used).tolist()]
    table = Band(*np.full((len(Band._fields), len(names), block_numbers(len(groups))[-1] + 1), np.nan))
    if np.any(series.codes != series.codes[0]):
        for group in np.flatnonzero(np.bincount(groups) > MIN_READINGS):
            band = band_of(np.where(groups == group, series.values, np.nan), series.resolution)
            for row, column, reference in zip(table, band, series.band, strict=True):
                row[group] = np.where(np.isnan(reference), np.nan, column)
        table = at_least(table, MIN_STATUS_BAND_SHARE, series.band)
    keys = [f"{phase} {status!r}" for status, phase in names]
    bands = Bands(keys, [f"earlier readings {phase} the status became {status}" for status, phase in names],
                  groups, table)  # fmt: skip
    return values_outside(series, bands), bands


DETECTORS: dict[DetectorName, Callable[[Series], tuple[Detection, Bands]]] = {
    "telemetry": telemetry,
    "status_band": status_band,
}


def values_outside(series: Series, bands: Bands) -> Detection:
    """Values compared with the band of each reading, rolling or frozen."""

    def expected(i: int) -> tuple[float, float]:
        band = bands.at(i)
        return float(band.low), float(band.high)

    def explain(i: int) -> str:
        text, band, baseline = formatter(series.values), bands.at(i), bands.baselines[bands.groups[i]]
        value, least, most = map(text, (series.values[i], float(band.least), float(band.most)))
        position = f"far from {least}" if least == most else f"outside {least} to {most}"
        return f"{value} is {position}, the range of nearly all {band.readings:,.0f} {baseline}"

    return Detection(bands.deviation(series.values), expected, explain)


def _steps_outside(series: Series) -> Detection:
    """The step from the reading before compared with earlier steps."""
    times, values = series.times, series.values
    intervals = np.diff(times, prepend=times[:1])
    steps = np.where(intervals > HOLE_FACTOR * np.median(intervals), np.nan, np.diff(values, prepend=np.nan))
    band = band_of(steps, series.resolution, needed_readings(series.interval))

    def expected(i: int) -> tuple[float, float]:
        before, block = float(values[i - 1]), i // BLOCK_READINGS
        return before + float(band.low[block]), before + float(band.high[block])

    def explain(i: int) -> str:
        text, block = formatter(series.values), i // BLOCK_READINGS
        least, most, readings = text(band.least[block]), text(band.most[block]), band.readings[block]
        return (
            f"changed from {text(values[i - 1])} to {text(values[i])} in one reading; nearly all {readings:,.0f} "
            f"steps before it were within {least} to {most}"
        )

    return Detection(deviation_from(steps, band, series.band, block_numbers(len(steps))), expected, explain)


def _flatlines(series: Series) -> Detection:
    """The same value for more than FLATLINE_READINGS, and FLATLINE_FACTOR times longer than any earlier flatline.

    Not flagged where the value was constant for BLOCK_READINGS in the same status before. Nor is 0, the value of a
    machine that is off; a sensor that drops to 0 leaves its band.
    """
    values, codes = series.values, series.codes
    deviation, longest = np.zeros(len(values)), np.zeros(len(values), np.int64)
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    ends = np.append(starts[1:], len(values))
    for run in np.flatnonzero(ends - starts > FLATLINE_READINGS):
        start, end = starts[run], ends[run]
        oldest = max(start - BASELINE_READINGS, 0)
        earlier = slice(int(np.searchsorted(ends, oldest, side="right")), run)
        lengths = ends[earlier] - np.maximum(starts[earlier], oldest)
        lengths = lengths[codes[starts[earlier]] == codes[start]]
        is_judged = np.isfinite(series.band.low[start // BLOCK_READINGS])
        if values[start] and is_judged and np.all(lengths < BLOCK_READINGS):
            # At the end of a flatline of BASELINE_READINGS no baseline shows a movement: constant is normal by then.
            end = min(end, start + BASELINE_READINGS - MIN_READINGS)
            longest[start:end] = lengths.max(initial=1)
            limit = max(FLATLINE_READINGS, FLATLINE_FACTOR * lengths.max(initial=1))
            deviation[start:end] = np.arange(1, end - start + 1) / limit

    def expected(i: int) -> tuple[float, float]:
        block = i // BLOCK_READINGS
        return float(series.band.low[block]), float(series.band.high[block])

    def first(i: int) -> int:
        return int(starts[np.searchsorted(starts, i, side="right") - 1])

    def explain(i: int) -> str:
        return (
            f"exactly {formatter(values)(values[i])} for {i - first(i) + 1:,} readings in a row; "
            f"the longest earlier run of equal values was {longest[i]:,}"
        )

    return Detection(deviation, expected, explain, first)


def _has_baseline(codes: Ints) -> Bools:
    """For each reading: whether its baseline has MIN_READINGS in the same status."""
    sufficient = np.zeros(len(codes), np.bool_)
    for code in np.flatnonzero(np.bincount(codes)):
        members = codes == code
        sufficient |= members & (baseline_sizes(members) >= MIN_READINGS)[block_numbers(len(codes))]
    return sufficient


def _phases(series: Series) -> Ints:
    """The phase of each reading, an index into PHASES. The first status is assumed to have begun long ago."""
    times, codes = series.times, series.codes
    changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    number = np.searchsorted(changes, np.arange(len(codes)), side="right")
    start = np.concatenate(([-np.inf], times[changes]))[number]
    phases: Ints = np.ceil(np.log2(np.clip(times - start, 1.0, 4.0 ** (len(PHASES) - 1))) / 2).astype(np.int64)
    return phases
