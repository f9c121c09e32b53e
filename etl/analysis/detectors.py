"""Detectors: how far each reading of a day is from what its machine did before. Pure, with numpy.

A detector is a function of two `Readings` of one parameter of one machine: those before the day (up to MEMORY of them,
in order) and the day's. It gives a `Judged` for the day. DETECTORS names them all. `telemetry` and `status_band` judge
a reading by the MEMORY readings before it alone, so that midnight is no border to them.

Nothing here is fitted to a data set; each constant says where it comes from. Importing numpy costs a tenth of a second
and 20 MB: only the nightly report does it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from etl.analysis.bands import (
    KNOWN,
    LAG,
    Band,
    Bools,
    Ints,
    at_least,
    band_of,
    counts,
    deviation_from,
    digits_of,
    outside,
    resolution_of,
)
from etl.analysis.columns import Floats
from etl.analysis.past import MEMORY

NOISE = 5.0
"""The band reaches as far as plain noise of the same spread does at 5 sigma. A machine gives 8,640 readings a day: of
noise alone that is a false alarm in some months, where 4 sigma would be one every second day."""

CHANGE = 10.0
"""The same for changes, from reading to reading and from level to level. Neighbours share readings, and a machine may
change seldom, so that few of them are independent: twice as far, which is 3.3 times the largest change known."""

SPAN = 60
"""Readings whose mean is a level, and readings that may be all the same before a sensor is called stuck: 10 minutes at
10 s. Longer than a transition lasts, shorter than a shift of work."""

STUCK = 3
"""A value must stand still this many times longer than it ever did before."""

REGULATED = 5.0
"""`history_mad`: robust sigmas from the median at which a regulated value is out of control."""

STATUSES = 16
"""A field with more different texts than this is no status of a machine but a remark, and is ignored."""

PHASES = (
    "just as",
    "1 to 4 s after",
    "4 to 16 s after",
    "16 to 64 s after",
    "1 to 4 minutes after",
    "4 to 17 minutes after",
    "more than 17 minutes after",
)
"""How long a status lasts, in powers of 4 seconds, as transitions die out exponentially."""

STAYS = 0.1
"""The band of a status is at least this share as wide as that of all readings. MEMORY holds few stays in a status, and
how far one differs from another, by the load and the hall, is not in the noise of a single one."""


class Readings(NamedTuple):
    """Readings of one parameter of one machine, in order: those that have a number.

    `times` in seconds, `values` finite and within ±1e300, `statuses` anything hashable, such as the text or None.
    """

    times: Floats
    values: Floats
    statuses: Sequence[Hashable]


class Judged(NamedTuple):
    """What a detector says of each reading of a day.

    `deviation` is 1 at the limit and more beyond it, 0 where the detector has nothing to say, never NaN or infinite;
    `low` and `high` are the values it expected (finite where the deviation is more); `why(i)` is the sentence about
    reading i of the day.
    """

    deviation: Floats
    low: Floats
    high: Floats
    why: Callable[[int], str]


Detector = Callable[[Readings, Readings], Judged]


def telemetry(before: Readings, day: Readings) -> Judged:
    """A rolling band, level shifts, rates of change and flatlines, whichever is strongest.

    A machine in a status it was hardly ever in during the last MEMORY readings is not judged: that it is switched on
    in the morning is no incident.
    """
    times, values, statuses = _joined(before, day)
    known = _known(statuses)
    resolution = resolution_of(values)
    band = band_of(values, NOISE, resolution)
    holes = _holes(times)
    parts = (
        _values(values, band, known),
        _level(values, holes, band, known, resolution),
        _rate(values, holes, band, known, resolution),
        _flatline(values, statuses, band, known),
    )
    return _last(_strongest(parts), len(day.values))


def status_band(before: Readings, day: Readings) -> Judged:
    """A rolling band for each status and phase, the time since the status began.

    A fan that stands still is normal while IDLE and is not while STARTED; just after the change both are. Of a machine
    whose status never changes it has nothing to say.
    """
    times, values, statuses = _joined(before, day)
    phases = _phases(times, statuses)
    keys = statuses * len(PHASES) + phases
    resolution = resolution_of(values)
    bands = Band(*np.full((len(Band._fields), len(values)), np.nan))
    if np.any(statuses != statuses[:1]):
        for key, count in zip(*np.unique(keys, return_counts=True), strict=True):
            if count <= KNOWN:
                continue
            own = keys == key
            for column, part in zip(bands, band_of(values, NOISE, resolution, own), strict=True):
                column[own] = part[own]
        bands = at_least(bands, STAYS, band_of(values, NOISE, resolution))

    def why(i: int) -> str:
        status = [*before.statuses, *day.statuses][i]
        return (
            f"{outside(values[i], bands, i)}, where nearly all of {bands.readings[i]:,.0f} earlier readings were "
            f"{PHASES[phases[i]]} the status became {status}"
        )

    deviation = _once(deviation_from(values, bands, bands), keys)
    return _last(Judged(deviation, bands.low, bands.high, why), len(day.values))


def history_mad(before: Readings, day: Readings) -> Judged:
    """REGULATED robust sigmas around the median of the readings before the day: for values that are held constant.

    It sees a slow drift over hours, which a rolling band follows, and calls every reading out of control until the next
    day: right for a cold room, wrong for a machine with shifts.
    """
    size = len(day.values)
    if len(before.values) < KNOWN:
        nothing = np.zeros(size)
        return Judged(nothing, nothing, nothing, lambda _: "")
    median = float(np.median(before.values))
    sigma = max(1.4826 * float(np.median(np.abs(before.values - median))), resolution_of(before.values))
    low, high = np.full(size, median - REGULATED * sigma), np.full(size, median + REGULATED * sigma)
    band = Band(low, high, low, high, np.full(size, len(before.values)))

    def why(i: int) -> str:
        say = digits_of(sigma)
        return (
            f"{say(day.values[i])} is more than {REGULATED:g} times the usual spread of {say(sigma)} away from "
            f"{say(median)}, the middle of the {len(before.values):,} readings before this day"
        )

    return Judged(deviation_from(day.values, band, band), low, high, why)


DETECTORS: dict[str, Detector] = {"telemetry": telemetry, "status_band": status_band, "history_mad": history_mad}


def _once(deviation: Floats, keys: Ints) -> Floats:
    """The deviations, 0 where they only repeat what a lasting change has shown already.

    When LAG readings in a row are outside, what was known of all keys is outdated. Each counts again when KNOWN of its
    readings have come since, so that one change of level is not told for each status and phase anew.
    """
    new = np.ones(len(deviation), np.bool_)
    flagged = np.flatnonzero(deviation > 1)
    for part in np.split(flagged, np.flatnonzero(np.diff(flagged) > LAG) + 1):
        if np.sum(new[part]) >= LAG:
            after = slice(part[-1] + 1, part[-1] + 1 + MEMORY)
            for key in np.unique(keys[after]):
                own = keys[after] == key
                since = np.sum(keys[part[0] : part[-1] + 1] == key) + np.cumsum(own)
                new[after] &= ~own | (since > KNOWN)
    return np.where(new, deviation, 0.0)


def _values(values: Floats, band: Band, known: Bools) -> Judged:
    """Values outside the band of values."""

    def why(i: int) -> str:
        return f"{outside(values[i], band, i)}, where nearly all of the {band.readings[i]:,.0f} readings before it were"

    return Judged(np.where(known, deviation_from(values, band, band), 0.0), band.low, band.high, why)


def _level(values: Floats, holes: Ints, band: Band, known: Bools, resolution: float) -> Judged:
    """The mean of SPAN readings against that of the SPAN before, by what such changes were before."""
    now, then = np.full(len(values), np.nan), np.full(len(values), np.nan)
    if len(values) >= 2 * SPAN:
        means = sliding_window_view(values, SPAN).mean(axis=1)
        whole = holes[2 * SPAN - 1 :] == holes[: 1 - 2 * SPAN]
        now[2 * SPAN - 1 :], then[2 * SPAN - 1 :] = np.where(whole, means[SPAN:], np.nan), means[:-SPAN]
    changes = band_of(now - then, CHANGE, resolution)

    def why(i: int) -> str:
        say = digits_of(changes.high[i] - changes.low[i])
        return (
            f"the mean of {SPAN} readings went from {say(then[i])} to {say(now[i])}; in the {changes.readings[i]:,.0f} "
            f"readings before, such changes were within {say(changes.least[i])} to {say(changes.most[i])}"
        )

    deviation = np.where(known, deviation_from(now - then, changes, band), 0.0)
    return Judged(deviation, then + changes.low, then + changes.high, why)


def _rate(values: Floats, holes: Ints, band: Band, known: Bools, resolution: float) -> Judged:
    """The step from the reading before, by what steps were before.

    Only where the parameter moves slowly, so that the largest step allowed is less than half as wide as the band of its
    values: of one that jumps about, the band says all there is.
    """
    steps, then = np.full(len(values), np.nan), np.r_[np.nan, values[:-1]][: len(values)]
    steps[1:] = np.where(holes[1:] == holes[:-1], np.diff(values), np.nan)
    allowed = band_of(steps, CHANGE, resolution)
    with np.errstate(invalid="ignore"):
        slow = allowed.high - allowed.low < (band.high - band.low) / 2

    def why(i: int) -> str:
        say = digits_of(allowed.high[i] - allowed.low[i])
        return (
            f"went from {say(then[i])} to {say(values[i])} in one reading; the steps of the {allowed.readings[i]:,.0f} "
            f"readings before were within {say(allowed.least[i])} to {say(allowed.most[i])}"
        )

    deviation = np.where(known & slow, deviation_from(steps, allowed, band), 0.0)
    return Judged(deviation, then + allowed.low, then + allowed.high, why)


def _flatline(values: Floats, statuses: Ints, band: Band, known: Bools) -> Judged:
    """The same value for more than SPAN readings, and STUCK times longer than any value was held before.

    Where the machine, in the same status, rested for LAG readings before, or its sensor is that coarse, standing still
    says nothing. Nor does 0, which machines that are off show: a sensor that falls to 0 leaves its band.
    """
    deviation, longest = np.zeros(len(values)), np.zeros(len(values), np.int64)
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else np.zeros(0, np.int64)
    ends = np.r_[starts[1:], len(values)]
    for run in np.flatnonzero(ends - starts > SPAN):
        start, end = starts[run], ends[run]
        first = max(start - MEMORY, 0)
        earlier = slice(int(np.searchsorted(ends, first, side="right")), run)
        lengths = ends[earlier] - np.maximum(starts[earlier], first)
        lengths = lengths[statuses[starts[earlier]] == statuses[start]]
        if values[start] and start >= KNOWN and known[start] and np.all(lengths < LAG):
            # After MEMORY readings nothing is left of how it moved: standing still is normal then.
            end = min(end, start + MEMORY - KNOWN)
            longest[start:end] = lengths.max(initial=1)
            deviation[start:end] = np.arange(1, end - start + 1) / max(SPAN, STUCK * lengths.max(initial=1))

    def why(i: int) -> str:
        run = starts[np.searchsorted(starts, i, side="right") - 1]
        return (
            f"exactly {values[i]:g} for {i - run + 1:,} readings in a row; "
            f"before, it never stood still for more than {longest[i]:,}"
        )

    return Judged(deviation, band.low, band.high, why)


def _joined(before: Readings, day: Readings) -> tuple[Floats, Floats, Ints]:
    """Times, values and statuses, as codes, of both, in order."""
    codes: dict[Hashable, int] = {}
    given = [codes.setdefault(status, len(codes)) for status in (*before.statuses, *day.statuses)]
    statuses = np.array(given if len(codes) <= STATUSES else [0] * len(given), np.int64)
    return np.concatenate((before.times, day.times)), np.concatenate((before.values, day.values)), statuses


def _holes(times: Floats) -> Ints:
    """How many holes there were up to each reading: over one, neither steps nor levels are compared.

    A hole is a time between readings of more than three times the usual.
    """
    apart = np.diff(times, prepend=times[:1])
    return np.cumsum(apart > 3 * np.median(apart)) if len(apart) else np.zeros(0, np.int64)


def _known(statuses: Ints) -> Bools:
    """Whether a reading's status is one the machine was in for KNOWN of the readings it is compared with."""
    known = np.zeros(len(statuses), np.bool_)
    for status in np.unique(statuses):
        own = statuses == status
        known |= own & (counts(own) >= KNOWN)
    return known


def _phases(times: Floats, statuses: Ints) -> Ints:
    """How long the status of a reading has lasted, by its place in PHASES.

    What was before the first reading is not known; it is taken to be long ago.
    """
    began = np.flatnonzero(np.r_[False, statuses[1:] != statuses[:-1]])
    since = np.searchsorted(began, np.arange(len(statuses)), side="right")
    start = np.r_[-np.inf, times[began]][since]
    phases: Ints = np.ceil(np.log2(np.clip(times - start, 1.0, 4.0 ** (len(PHASES) - 1))) / 2).astype(np.int64)
    return phases


def _strongest(parts: Sequence[Judged]) -> Judged:
    """For each reading what the part says that deviates most; the first of equals."""
    chosen = np.argmax([part.deviation for part in parts], axis=0)

    def choose(columns: Sequence[Floats]) -> Floats:
        picked: Floats = np.choose(chosen, columns)
        return picked

    return Judged(
        choose([part.deviation for part in parts]),
        choose([part.low for part in parts]),
        choose([part.high for part in parts]),
        lambda i: parts[chosen[i]].why(i),
    )


def _last(judged: Judged, size: int) -> Judged:
    """The last `size` readings of what was judged."""
    first = len(judged.deviation) - size
    deviation, low, high = (part[first:] for part in judged[:3])
    return Judged(deviation, low, high, lambda i: judged.why(first + i))
