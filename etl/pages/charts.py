"""Charts as SVG, styled by templates/charts.css: a parameter over time, its average, the band, markers outside it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from math import ceil, floor, isfinite, log10
from operator import itemgetter
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from etl.readings.times import SILENT_AFTER_INTERVALS

WIDTH, HEIGHT = 2000, 360
"""The drawing in its own units; the browser stretches it to the width of the page."""
HEIGHT_PX = 180
"""Height on the page."""
MAX_LABELS = 9
"""Labels of the time axis; half as many where they have seconds, as those are wider."""
MAX_VALUE = 1e300
"""Bound of values, of the band's margin and of limits, so that their sums and differences are finite."""
STEPS_S = (1, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
"""Distances between two labels."""

Point = tuple[float, float]
"""A time (seconds since the epoch) and a finite value."""
Segments = list[list[Point]]
"""Readings in order of time, split at each gap."""


class Axis(NamedTuple):
    """A time range (seconds since the epoch), the SVG of its grid and labels, and the seconds between two readings."""

    start: float
    end: float
    svg: Markup
    interval: float

    def x(self, time: float) -> int:
        """The horizontal position of a time, which lies outside the drawing if the time is outside the range."""
        return int((time - self.start) / (self.end - self.start) * WIDTH)


class Scale(NamedTuple):
    """The values at the bottom and at the top of a chart."""

    low: float
    high: float

    def y(self, value: float) -> int:
        """The vertical position of a value, counted from the top."""
        return int((self.high - value) / (self.high - self.low) * HEIGHT)


class Band(NamedTuple):
    """An average, and the distance from it beyond which a value is outside."""

    average: float
    margin: float

    @classmethod
    def around(cls, average: float | None, threshold: float) -> Self | None:
        """The band that extends `threshold` times the average to either side; None without an average."""
        return None if average is None else cls(average, min(threshold * abs(average), MAX_VALUE))


class Marks(NamedTuple):
    """What else a chart shows: periods to highlight (start and end in seconds since the epoch), limits, a second trace.

    The limits are those of alarms; the trace is that of the moving averages.
    """

    incidents: Iterable[tuple[float, float]] = ()
    limits: Sequence[float] = ()
    averages: Sequence[list[Point]] = ()


NO_MARKS = Marks()


def time_axis(start: float, end: float, zone: ZoneInfo, interval: float) -> Axis:
    """Build an axis with labels at round local times, each at its true position, also where the clocks change."""
    end = max(end, start + 1)
    step = next((s for s in STEPS_S if end - start <= s * (MAX_LABELS if s >= 60 else MAX_LABELS / 2)), STEPS_S[-1])
    days = ceil((end - start) / (MAX_LABELS * STEPS_S[-1]))
    form = "%H:%M:%S" if step < 60 else "%H:%M" if days == 1 else "%m-%d"
    # Zones are offset by multiples of a quarter of an hour: a coarser grid could miss the full local hours.
    grain = min(step, 900)
    labels = []
    for time in range(ceil(start / grain) * grain, floor(end) + 1, grain):
        local = datetime.fromtimestamp(time, zone)
        if (local.hour * 3600 + local.minute * 60 + local.second) % step == 0 and local.toordinal() % days == 0:
            labels.append((f"{100 * (time - start) / (end - start):.2f}%", local.strftime(form)))
    lines = "".join(f'<line x1="{x}" x2="{x}" y2="{HEIGHT_PX}"/>' for x, _ in labels)
    texts = "".join(f'<text x="{x}" y="{HEIGHT_PX + 16}">{text}</text>' for x, text in labels)
    return Axis(start, end, Markup(f'<g class="grid">{lines}</g><g class="times">{texts}</g>'), interval)  # noqa: S704


def split_at_gaps(times: Sequence[float], values: Sequence[float], interval: float) -> Segments:
    """Split a short series at its gaps; every reading is kept, except those whose value is NaN."""
    points = (point for point in zip(times, values, strict=True) if isfinite(point[1]))
    segments: Segments = []
    for point in sorted(points, key=itemgetter(0)):  # times step back where the clock was set back
        if not segments or point[0] - segments[-1][-1][0] > SILENT_AFTER_INTERVALS * interval:
            segments.append([])
        segments[-1].append(point)
    return segments


def chart(
    segments: Segments,
    axis: Axis,
    band: Band | None,
    label: str,
    marks: Marks = NO_MARKS,
    unit: str = "",
) -> Markup:
    """Draw the readings of one parameter, each of them; the caller thins a long series.

    Values beyond the `band` are marked. The `label`, for screen readers, is what the chart shows.
    """
    values = [value for segment in (*segments, *marks.averages) for _, value in segment]
    limits = [limit for limit in marks.limits if abs(limit) <= MAX_VALUE]
    values += limits
    if band:
        values += [band.average - band.margin, band.average + band.margin]
    scale = _scale(values)
    paths = [
        f'<path class="gaps" d="{_gaps(segments, axis)}"/>',
        f'<path class="incidents" d="{_periods(marks.incidents, axis)}"/>',
        _band(band, scale) if band else "",
        "".join(f'<path class="limit" d="M0 {scale.y(limit)}H{WIDTH}"/>' for limit in limits),
        _trace("trace", segments, axis, scale),
        _trace("averages", marks.averages, axis, scale) if marks.averages else "",
        _outside(segments, band, axis, scale) if band else "",
    ]
    return Markup(  # noqa: S704  it holds only numbers and the escaped label
        f'<div class="chart" role="img" aria-label="{escape(label)}">{_value_labels(scale if values else None, unit)}'
        f'<svg class="plot" height="{HEIGHT_PX + 20}" aria-hidden="true">{axis.svg}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" width="100%" height="{HEIGHT_PX}">'
        f"{''.join(paths)}</svg></svg></div>"
    )


def _band(band: Band, scale: Scale) -> str:
    top, bottom = scale.y(band.average + band.margin), scale.y(band.average - band.margin)
    return (
        f'<rect class="band" width="{WIDTH}" y="{top}" height="{bottom - top}"/>'
        f'<path class="average" d="M0 {scale.y(band.average)}H{WIDTH}"/>'
    )


def _trace(name: str, segments: Sequence[list[Point]], axis: Axis, scale: Scale) -> str:
    """One line for each segment; a segment of one reading is a dot."""
    lines = (
        "M" + " ".join([f"{axis.x(time)} {scale.y(value)}" for time, value in segment]) + "h0" * (len(segment) == 1)
        for segment in segments
    )
    return f'<path class="{name}" d="{"".join(lines)}"/>'


def _outside(segments: Segments, band: Band, axis: Axis, scale: Scale) -> str:
    average, margin = band
    outside = ((axis.x(time), scale.y(value)) for time, value in chain(*segments) if abs(value - average) > margin)
    return f'<path class="outside" d="{"".join(f"M{x} {y}h0" for x, y in outside)}"/>'


def _gaps(segments: Segments, axis: Axis) -> str:
    """The periods without readings, also before the first and after the last reading."""
    ends = [axis.start, *(segment[-1][0] for segment in segments)]
    starts = [*(segment[0][0] for segment in segments), axis.end]
    min_gap_s = SILENT_AFTER_INTERVALS * axis.interval
    return _periods((gap for gap in zip(ends, starts, strict=True) if gap[1] - gap[0] > min_gap_s), axis)


def _periods(periods: Iterable[tuple[float, float]], axis: Axis) -> str:
    """A rectangle over the whole height for each period, at least 3 units wide so that it can be seen."""
    edges = ((axis.x(start), axis.x(end)) for start, end in periods)
    return "".join(f"M{left} 0H{max(right, left + 3)}V{HEIGHT}H{left}z" for left, right in edges)


def _scale(values: Sequence[float]) -> Scale:
    low, high = min(values, default=0.0), max(values, default=1.0)
    padding = 0.06 * (high - low)
    if not padding > 1e-9 * max(abs(low), abs(high), 1e-290):
        padding = abs(high) * 0.05 or 1.0
    return Scale(low - padding, high + padding)


def _value_labels(scale: Scale | None, unit: str) -> str:
    """The unit, and two to five round numbers within a scale; none without a scale."""
    texts = f'<text x="100%" y="-6">{escape(unit)}</text>{_value_texts(scale)}' if scale else ""
    return f'<svg class="values" height="{HEIGHT_PX + 20}" aria-hidden="true">{texts}</svg>'


def _value_texts(scale: Scale) -> str:
    min_step = (scale.high - scale.low) / 5
    magnitude = 10.0 ** floor(log10(min_step))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor >= 0.999 * min_step)
    values = (n * step for n in range(ceil(scale.low / step), floor(scale.high / step) + 1))
    texts = (f'<text x="100%" y="{scale.y(value) * HEIGHT_PX / HEIGHT + 4:.0f}">{value:.6g}</text>' for value in values)
    return "".join(texts)
