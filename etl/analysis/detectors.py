"""Detectors: how far each reading of a day deviates from the earlier readings of its machine.

A detector takes two `Readings` of one parameter of one machine: those before the day (at most BASELINE_READINGS) and
those of the day. No constant is fitted to a data set; the reason for each stands beside it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from etl.analysis.bands import (
    LAG_READINGS,
    MIN_BASELINE_READINGS,
    Band,
    at_least,
    band_of,
    baseline_sizes,
    deviation_from,
    formatter,
    outside,
    resolution_of,
)
from etl.analysis.columns import Bools, Floats, Ints
from etl.analysis.past import BASELINE_READINGS

VALUE_SIGMAS = 5.0
"""The half width of a band of values, in sigmas of Gaussian noise. At 8,640 readings a day noise alone causes a false
incident once in some months; at 4 sigma every second day."""
CHANGE_SIGMAS = 10.0
"""The half width of a band of changes: twice VALUE_SIGMAS, 3.3 times the largest earlier change, because few changes
are independent. Neighbouring means share readings, and a machine may change seldom."""
LEVEL_READINGS = 60
"""The readings in the mean that is a level, and the shortest flatline of a stuck sensor: 10 minutes at 10 s. Longer
than a transition, shorter than a shift of work."""
FLATLINE_FACTOR = 3
"""A flatline is flagged if it lasts this many times longer than any earlier one."""
REGULATED_SIGMAS = 5.0
"""`history_mad` flags values at this many robust sigmas from the median."""
MAX_STATUSES = 16
"""A status field with more different texts is a comment, and is ignored."""
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
"""A time between two readings of more than this many times the median is a hole: no change is computed across it."""


class Readings(NamedTuple):
    """Readings that have a number, in order: `times` in seconds since the epoch, `values` within ±1e300."""

    times: Floats
    values: Floats
    statuses: Sequence[str | None]


class Detection(NamedTuple):
    """The result of a detector, with an item for each reading of the day.

    `deviation` is finite: 1 at the limit and larger beyond it, 0 where the detector cannot compare. `low` to `high` is
    the expected range, finite where the deviation exceeds 1. `explain(i)` is a sentence about reading i.
    """

    deviation: Floats
    low: Floats
    high: Floats
    explain: Callable[[int], str]


def telemetry(before: Readings, day: Readings) -> Detection:
    """Values outside a rolling band, level shifts, rates of change and flatlines; the strongest for each reading.

    Readings in a status that hardly occurs in the baseline are not flagged: a machine that is switched on in the
    morning is no incident.
    """
    times, values, statuses = _joined(before, day)
    comparable = _has_baseline(statuses)
    resolution = resolution_of(values)
    band = band_of(values, VALUE_SIGMAS, resolution)
    holes = _holes(times)
    parts = (
        _value_deviation(values, band, comparable),
        _level_shift(values, holes, band, comparable, resolution),
        _rate_of_change(values, holes, band, comparable, resolution),
        _flatline(values, statuses, band, comparable),
    )
    return _last(_strongest(parts), len(day.values))


def status_band(before: Readings, day: Readings) -> Detection:
    """A rolling band for each status and phase, that is the time since the status began.

    A fan at rest is normal while IDLE and abnormal while STARTED; both are normal just after the change. Nothing is
    flagged if the status never changes.
    """
    times, values, statuses = _joined(before, day)
    phases = _phases(times, statuses)
    groups = statuses * len(PHASES) + phases
    resolution = resolution_of(values)
    bands = Band(*np.full((len(Band._fields), len(values)), np.nan))
    if np.any(statuses != statuses[:1]):
        for group, size in zip(*np.unique(groups, return_counts=True), strict=True):
            if size > MIN_BASELINE_READINGS:
                members = groups == group
                for column, part in zip(bands, band_of(values, VALUE_SIGMAS, resolution, members), strict=True):
                    column[members] = part[members]
        bands = at_least(bands, MIN_STATUS_BAND_SHARE, band_of(values, VALUE_SIGMAS, resolution))

    def explain(i: int) -> str:
        status = [*before.statuses, *day.statuses][i]
        return (
            f"{outside(values[i], bands, i)}, the range of nearly all {bands.readings[i]:,.0f} earlier readings "
            f"{PHASES[phases[i]]} the status became {status}"
        )

    deviation = _without_repetitions(deviation_from(values, bands, bands), groups)
    return _last(Detection(deviation, bands.low, bands.high, explain), len(day.values))


def history_mad(before: Readings, day: Readings) -> Detection:
    """REGULATED_SIGMAS robust sigmas around the median of the readings before the day, for values held constant.

    It detects a slow drift over hours, which a rolling band follows, and flags every reading until the next day: right
    for a cold room, wrong for a machine with shifts.
    """
    size = len(day.values)
    if len(before.values) < MIN_BASELINE_READINGS:
        zeros = np.zeros(size)
        return Detection(zeros, zeros, zeros, lambda _: "")
    median = float(np.median(before.values))
    sigma = max(1.4826 * float(np.median(np.abs(before.values - median))), resolution_of(before.values))
    low, high = np.full(size, median - REGULATED_SIGMAS * sigma), np.full(size, median + REGULATED_SIGMAS * sigma)
    band = Band(low, high, low, high, np.full(size, len(before.values)))

    def explain(i: int) -> str:
        text = formatter(sigma)
        return (
            f"{text(day.values[i])} is more than {REGULATED_SIGMAS:g} robust standard deviations ({text(sigma)}) from "
            f"{text(median)}, the median of the {len(before.values):,} readings before this day"
        )

    return Detection(deviation_from(day.values, band, band), low, high, explain)


DETECTORS = {"telemetry": telemetry, "status_band": status_band, "history_mad": history_mad}


def _without_repetitions(deviation: Floats, groups: Ints) -> Floats:
    """The deviations, set to 0 where they only repeat a lasting change in another status or phase.

    After LAG_READINGS consecutive flagged readings the baselines of all groups are outdated. A group counts again once
    it has MIN_BASELINE_READINGS new readings.
    """
    valid = np.ones(len(deviation), np.bool_)
    flagged = np.flatnonzero(deviation > 1)
    for part in np.split(flagged, np.flatnonzero(np.diff(flagged) > LAG_READINGS) + 1):
        if np.sum(valid[part]) >= LAG_READINGS:
            after = slice(part[-1] + 1, part[-1] + 1 + BASELINE_READINGS)
            for group in np.unique(groups[after]):
                members = groups[after] == group
                since_change = np.sum(groups[part[0] : part[-1] + 1] == group) + np.cumsum(members)
                valid[after] &= ~members | (since_change > MIN_BASELINE_READINGS)
    return np.where(valid, deviation, 0.0)


def _value_deviation(values: Floats, band: Band, comparable: Bools) -> Detection:
    def explain(i: int) -> str:
        return f"{outside(values[i], band, i)}, the range of nearly all {band.readings[i]:,.0f} readings before it"

    return Detection(np.where(comparable, deviation_from(values, band, band), 0.0), band.low, band.high, explain)


def _level_shift(values: Floats, holes: Ints, band: Band, comparable: Bools, resolution: float) -> Detection:
    """The mean of LEVEL_READINGS minus the mean of as many before, compared with earlier such differences."""
    new, old = np.full(len(values), np.nan), np.full(len(values), np.nan)
    if len(values) >= 2 * LEVEL_READINGS:
        means = sliding_window_view(values, LEVEL_READINGS).mean(axis=1)
        without_hole = holes[2 * LEVEL_READINGS - 1 :] == holes[: 1 - 2 * LEVEL_READINGS]
        new[2 * LEVEL_READINGS - 1 :] = np.where(without_hole, means[LEVEL_READINGS:], np.nan)
        old[2 * LEVEL_READINGS - 1 :] = means[:-LEVEL_READINGS]
    changes = band_of(new - old, CHANGE_SIGMAS, resolution)

    def explain(i: int) -> str:
        text = formatter(changes.high[i] - changes.low[i])
        return (
            f"the mean of {LEVEL_READINGS} readings changed from {text(old[i])} to {text(new[i])}; in the "
            f"{changes.readings[i]:,.0f} readings before, such changes were within {text(changes.least[i])} to "
            f"{text(changes.most[i])}"
        )

    deviation = np.where(comparable, deviation_from(new - old, changes, band), 0.0)
    return Detection(deviation, old + changes.low, old + changes.high, explain)


def _rate_of_change(values: Floats, holes: Ints, band: Band, comparable: Bools, resolution: float) -> Detection:
    """The step from the reading before, compared with earlier steps.

    Only where the band of steps is less than half as wide as that of values, which otherwise detects as much.
    """
    steps, previous = np.full(len(values), np.nan), np.r_[np.nan, values[:-1]][: len(values)]
    steps[1:] = np.where(holes[1:] == holes[:-1], np.diff(values), np.nan)
    expected = band_of(steps, CHANGE_SIGMAS, resolution)
    with np.errstate(invalid="ignore"):
        slow = expected.high - expected.low < (band.high - band.low) / 2

    def explain(i: int) -> str:
        text = formatter(expected.high[i] - expected.low[i])
        return (
            f"changed from {text(previous[i])} to {text(values[i])} in one reading; the steps of the "
            f"{expected.readings[i]:,.0f} readings before were within {text(expected.least[i])} to "
            f"{text(expected.most[i])}"
        )

    deviation = np.where(comparable & slow, deviation_from(steps, expected, band), 0.0)
    return Detection(deviation, previous + expected.low, previous + expected.high, explain)


def _flatline(values: Floats, statuses: Ints, band: Band, comparable: Bools) -> Detection:
    """The same value for more than LEVEL_READINGS, and FLATLINE_FACTOR times longer than any earlier flatline.

    Not flagged where the value was constant for LAG_READINGS in the same status before. Nor is 0, the value of a
    machine that is off; a sensor that drops to 0 leaves its band.
    """
    deviation, longest = np.zeros(len(values)), np.zeros(len(values), np.int64)
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    ends = np.r_[starts[1:], len(values)]
    for run in np.flatnonzero(ends - starts > LEVEL_READINGS):
        start, end = starts[run], ends[run]
        first = max(start - BASELINE_READINGS, 0)
        earlier = slice(int(np.searchsorted(ends, first, side="right")), run)
        lengths = ends[earlier] - np.maximum(starts[earlier], first)
        lengths = lengths[statuses[starts[earlier]] == statuses[start]]
        moved = np.all(lengths < LAG_READINGS)
        if values[start] and start >= MIN_BASELINE_READINGS and comparable[start] and moved:
            # At the end of a flatline of BASELINE_READINGS no baseline shows a movement: constant is normal by then.
            end = min(end, start + BASELINE_READINGS - MIN_BASELINE_READINGS)
            longest[start:end] = lengths.max(initial=1)
            limit = max(LEVEL_READINGS, FLATLINE_FACTOR * lengths.max(initial=1))
            deviation[start:end] = np.arange(1, end - start + 1) / limit

    def explain(i: int) -> str:
        run = starts[np.searchsorted(starts, i, side="right") - 1]
        return (
            f"exactly {values[i]:g} for {i - run + 1:,} readings in a row; "
            f"the longest earlier run of equal values was {longest[i]:,}"
        )

    return Detection(deviation, band.low, band.high, explain)


def _joined(before: Readings, day: Readings) -> tuple[Floats, Floats, Ints]:
    """Times, values and statuses (as codes) of the readings before the day and those of the day."""
    codes: dict[str | None, int] = {}
    sequence = [codes.setdefault(status, len(codes)) for status in (*before.statuses, *day.statuses)]
    statuses = np.array(sequence if len(codes) <= MAX_STATUSES else [0] * len(sequence), np.int64)
    return np.concatenate((before.times, day.times)), np.concatenate((before.values, day.values)), statuses


def _holes(times: Floats) -> Ints:
    """The number of holes up to each reading."""
    intervals = np.diff(times, prepend=times[:1])
    return np.cumsum(intervals > HOLE_FACTOR * np.median(intervals)) if len(intervals) else np.zeros(0, np.int64)


def _has_baseline(statuses: Ints) -> Bools:
    """For each reading: whether its baseline has MIN_BASELINE_READINGS in the same status."""
    sufficient = np.zeros(len(statuses), np.bool_)
    for status in np.unique(statuses):
        members = statuses == status
        sufficient |= members & (baseline_sizes(members) >= MIN_BASELINE_READINGS)
    return sufficient


def _phases(times: Floats, statuses: Ints) -> Ints:
    """The phase of each reading, an index into PHASES. The first status is assumed to have begun long ago."""
    changes = np.flatnonzero(np.r_[False, statuses[1:] != statuses[:-1]])
    number = np.searchsorted(changes, np.arange(len(statuses)), side="right")
    start = np.r_[-np.inf, times[changes]][number]
    phases: Ints = np.ceil(np.log2(np.clip(times - start, 1.0, 4.0 ** (len(PHASES) - 1))) / 2).astype(np.int64)
    return phases


def _strongest(parts: Sequence[Detection]) -> Detection:
    """For each reading the detection with the largest deviation; the first of equal ones."""
    index = np.argmax([part.deviation for part in parts], axis=0)
    deviation, low, high = (np.choose(index, columns) for columns in zip(*(part[:3] for part in parts), strict=True))
    return Detection(deviation, low, high, lambda i: parts[index[i]].explain(i))


def _last(detection: Detection, size: int) -> Detection:
    """The part of a detection for the last `size` readings."""
    first = len(detection.deviation) - size
    deviation, low, high = (column[first:] for column in detection[:3])
    return Detection(deviation, low, high, lambda i: detection.explain(first + i))
