"""Detectors: how far each reading of a parameter deviates from the earlier readings of its machine.

Rules for values, steps and stuck sensors are `telemetry`, a rule for values in each status is `status_band`. No
constant is fitted to a data set; the reason for each stands beside it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

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


class Series(NamedTuple):
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


class Detection(NamedTuple):
    """The result of a rule or a detector, with an item for each reading of the series.

    `deviation` is finite: 1 at the limit and larger beyond it, 0 where nothing can be compared. `low` to `high` is the
    expected range, finite where the deviation exceeds 1. `explain(i)` is a sentence about reading i, and `first(i)` is
    the reading with which began what is flagged at reading i.
    """

    deviation: Floats
    low: Floats
    high: Floats
    explain: Callable[[int], str]
    first: Callable[[int], int] = int


class Bands(NamedTuple):
    """The bands of groups of readings: `table` has a row per group and a column per block.

    `keys` name the groups, alike on every day; `baselines` say what they are compared with; `groups` are indices into
    both, for each reading.
    """

    keys: list[str]
    baselines: list[str]
    groups: Ints
    table: Band

    def rolling(self) -> Band:
        """The band of each reading."""
        return Band(*(column[self.groups, block_numbers(len(self.groups))] for column in self.table))

    def freeze(self, i: int) -> FrozenBands:
        """The bands of all groups at reading i."""
        rows = np.stack([column[:, i // BLOCK_READINGS] for column in self.table], axis=1).tolist()
        return {key: row for key, row in zip(self.keys, rows, strict=True) if np.isfinite(row).all()}

    def frozen(self, bands: FrozenBands) -> Band:
        """The band of each reading if these are the bands of the groups."""
        unknown = [np.nan] * len(Band._fields)
        return Band(*np.array([bands.get(key, unknown) for key in self.keys])[self.groups].T)


def telemetry(series: Series) -> tuple[Detection, Bands]:
    """Values and steps outside of rolling bands, and flatlines; the strongest for each reading.

    Readings in a status that hardly occurs in the baseline are not flagged: a machine that is switched on in the
    morning is no incident.
    """
    table = band_of(series.values, resolution_of(series.values), needed_readings(series.interval))
    groups = np.zeros(len(series.values), np.int64)
    bands = Bands([""], ["readings before it"], groups, Band(*(column[np.newaxis] for column in table)))
    band = bands.rolling()
    rules = values_outside(series, bands, band), _steps_outside(series, band), _flatlines(series, band)
    deviations = np.where(_has_baseline(series.codes), [rule.deviation for rule in rules], 0.0)
    strongest = np.argmax(deviations, axis=0)
    low, high = (np.choose(strongest, edges) for edges in zip(*(rule[1:3] for rule in rules), strict=True))
    detection = Detection(
        deviations.max(axis=0),
        low,
        high,
        lambda i: rules[strongest[i]].explain(i),
        lambda i: rules[strongest[i]].first(i),
    )
    return detection, bands


def status_band(series: Series) -> tuple[Detection, Bands]:
    """A rolling band for each status and phase, that is the time since the status began.

    A fan at rest is normal while IDLE and abnormal while STARTED; both are normal just after the change. Nothing is
    flagged if the status never changes.
    """
    resolution = resolution_of(series.values)
    numbers, groups = np.unique(series.codes * len(PHASES) + _phases(series), return_inverse=True)
    names = [(series.statuses[number // len(PHASES)], PHASES[number % len(PHASES)]) for number in numbers]
    whole = band_of(series.values, resolution, needed_readings(series.interval))
    table = Band(*np.full((len(Band._fields), len(names), len(whole.low)), np.nan))
    if np.any(series.codes != series.codes[:1]):
        for group in np.flatnonzero(np.bincount(groups) > MIN_READINGS):
            group_band = band_of(np.where(groups == group, series.values, np.nan), resolution)
            for row, column, reference in zip(table, group_band, whole, strict=True):
                row[group] = np.where(np.isnan(reference), np.nan, column)
        table = at_least(table, MIN_STATUS_BAND_SHARE, whole)
    keys = [f"{phase} {status!r}" for status, phase in names]
    bands = Bands(keys, [f"earlier readings {phase} the status became {status}" for status, phase in names],
                  groups, table)  # fmt: skip
    return values_outside(series, bands, bands.rolling()), bands


DETECTORS: dict[DetectorName, Callable[[Series], tuple[Detection, Bands]]] = {
    "telemetry": telemetry,
    "status_band": status_band,
}


def values_outside(series: Series, bands: Bands, band: Band) -> Detection:
    """Values compared with the band of each reading, which is one of `bands`, rolling or frozen."""

    def explain(i: int) -> str:
        text = formatter(series.values)
        value, least, most = text(series.values[i]), text(band.least[i]), text(band.most[i])
        position = f"far from {least}" if least == most else f"outside {least} to {most}"
        baseline = bands.baselines[bands.groups[i]]
        return f"{value} is {position}, the range of nearly all {band.readings[i]:,.0f} {baseline}"

    return Detection(deviation_from(series.values, band, band), band.low, band.high, explain)


def _steps_outside(series: Series, band: Band) -> Detection:
    """The step from the reading before compared with earlier steps; `band` is that of the values."""
    times, values = series.times, series.values
    intervals = np.diff(times, prepend=times[:1])
    usual = np.median(intervals) if len(times) else 0.0
    steps = np.where(intervals > HOLE_FACTOR * usual, np.nan, np.diff(values, prepend=np.nan))
    resolution, previous = resolution_of(values), np.concatenate(([np.nan], values[:-1]))[: len(values)]
    rows = band_of(steps, resolution, needed_readings(series.interval))
    expected = Band(*(column[block_numbers(len(values))] for column in rows))

    def explain(i: int) -> str:
        text = formatter(values)
        return (
            f"changed from {text(previous[i])} to {text(values[i])} in one reading; nearly all "
            f"{expected.readings[i]:,.0f} steps before it were within {text(expected.least[i])} to "
            f"{text(expected.most[i])}"
        )

    deviation = deviation_from(steps, expected, band)
    return Detection(deviation, previous + expected.low, previous + expected.high, explain)


def _flatlines(series: Series, band: Band) -> Detection:
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
        if values[start] and np.isfinite(band.low[start]) and np.all(lengths < BLOCK_READINGS):
            # At the end of a flatline of BASELINE_READINGS no baseline shows a movement: constant is normal by then.
            end = min(end, start + BASELINE_READINGS - MIN_READINGS)
            longest[start:end] = lengths.max(initial=1)
            limit = max(FLATLINE_READINGS, FLATLINE_FACTOR * lengths.max(initial=1))
            deviation[start:end] = np.arange(1, end - start + 1) / limit

    def first(i: int) -> int:
        return int(starts[np.searchsorted(starts, i, side="right") - 1])

    def explain(i: int) -> str:
        return (
            f"exactly {formatter(values)(values[i])} for {i - first(i) + 1:,} readings in a row; "
            f"the longest earlier run of equal values was {longest[i]:,}"
        )

    return Detection(deviation, band.low, band.high, explain, first)


def _has_baseline(codes: Ints) -> Bools:
    """For each reading: whether its baseline has MIN_READINGS in the same status."""
    sufficient = np.zeros(len(codes), np.bool_)
    for code in np.unique(codes):
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
