"""The readings of a chart as attributes of its element, from which values.js shows times and values."""

from collections.abc import Sequence
from math import floor

from etl.readings.digits import average_decimals

SHORT_RANGE_S = 3600.0
"""Times are in milliseconds where a chart spans at most an hour, else in whole seconds, which take fewer bytes."""
MAX_INTEGER, MAX_PLACES = 2**53, 20
"""Values are integers, multiples of the last decimal place. A chart with values that are not exact in JavaScript, or
with more decimal places, has no attributes."""

Points = Sequence[Sequence[tuple[float, float]]]
"""Times (seconds since the epoch) and values, split at each gap."""


def attributes(readings: Points, averages: Points, start: float, end: float, places: int) -> str:
    """The attributes of a chart from `start` to `end`: its range, and its traces as differences from point to point."""
    tick = 0.001 if end - start <= SHORT_RANGE_S else 1.0
    traces = [("readings", readings, places), ("averages", averages, average_decimals(places))]
    largest = max((abs(value) for _, trace, _ in traces for part in trace for _, value in part), default=0.0)
    if not readings or places > MAX_PLACES or largest * 10.0 ** average_decimals(places) >= MAX_INTEGER:
        return ""
    texts = [
        f' data-{name}="{digits} {_encoded(trace, floor(start), tick, digits)}"'
        for name, trace, digits in traces
        if trace
    ]
    return f' data-start="{floor(start)}" data-end="{end:.3f}" data-tick="{tick:g}"{"".join(texts)}'


def _encoded(trace: Points, start: int, tick: float, places: int) -> str:
    """Pairs of a time, in ticks since the point before, and a value, less that of the point before; ";" at a gap."""
    parts, time_before, value_before, factor = [], 0, 0, 10**places
    for segment in trace:
        pairs = []
        for moment, value in segment:
            time, level = floor((moment - start) / tick), round(value * factor)
            pairs.append(f"{time - time_before} {level - value_before}")
            time_before, value_before = time, level
        parts.append(" ".join(pairs))
    return ";".join(parts).replace(" -", "-")
