"""Charts as SVG, styled by templates/charts.css: a parameter over time, its average, the band, markers outside it."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from math import ceil, floor, isfinite
from operator import itemgetter
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from etl.pages.points import attributes
from etl.pages.scale import HEIGHT, HEIGHT_PX, Scale, beyond, fitted, value_labels
from etl.pages.text import plain
from etl.readings.digits import average_decimals, decimals
from etl.readings.times import SILENT_AFTER_INTERVALS

WIDTH = 2000
"""Width of the drawing in its own units; the browser stretches it to the width of the page."""
MAX_LABELS = 9
"""Labels of the time axis; half as many where they have seconds, as those are wider."""
MAX_VALUE = 1e300
"""Bound of values, of the band's margin and of limits, so that their sums and differences are finite."""
MAX_OUTSIDE_SHARE = 0.5
"""If more of the readings are outside of the band, no reading is marked."""
STEPS_S = (1, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)
"""Distances between two labels."""

Point = tuple[float, float]
"""A time (seconds since the epoch) and a finite value."""
Segments = list[list[Point]]
"""Readings in order of time, split at each gap."""


class Axis(NamedTuple):
    """A time range (seconds since the epoch) in a time zone, its grid and labels, the seconds between two readings."""

    start: float
    end: float
    zone: str
    svg: Markup
    interval: float

    def x(self, time: float) -> int:
        """The horizontal position of a time, which lies outside the drawing if the time is outside the range."""
        return int((time - self.start) / (self.end - self.start) * WIDTH)


class Band(NamedTuple):
    """An average, and the distance from it beyond which a value is outside."""

    average: float
    margin: float

    @classmethod
    def around(cls, average: float | None, threshold: float) -> Self | None:
        """The band that extends `threshold` times the average to either side; None without an average."""
        return None if average is None else cls(average, min(threshold * abs(average), MAX_VALUE))

    @property
    def edges(self) -> tuple[float, float]:
        """The lowest and the highest value that are not outside."""
        return self.average - self.margin, self.average + self.margin


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
    return Axis(start, end, zone.key, Markup(f'<g class="grid">{lines}</g><g class="times">{texts}</g>'), interval)  # noqa: S704


def split_at_gaps(times: Sequence[float], values: Sequence[float], interval: float) -> Segments:
    """Split a short series at its gaps; every reading is kept, except those whose value is NaN."""
    points = (point for point in zip(times, values, strict=True) if isfinite(point[1]))
    segments: Segments = []
    for point in sorted(points, key=itemgetter(0)):  # times step back where the clock was set back
        if not segments or point[0] - segments[-1][-1][0] > SILENT_AFTER_INTERVALS * interval:
            segments.append([])
        segments[-1].append(point)
    return segments


def decimals_of(segments: Sequence[list[Point]]) -> int:
    """The decimal places that the readings of a series have."""
    return decimals([value for segment in segments for _, value in segment])


def chart(
    segments: Segments,
    axis: Axis,
    band: Band | None,
    label: str,
    marks: Marks = NO_MARKS,
    unit: str = "",
) -> Markup:
    """Draw the readings of one parameter, each of them; the caller thins a long series.

    The scale fits the readings. Those beyond the `band` are marked; edges of the band and limits outside of the chart
    are named below it. The `label`, for screen readers, is what the chart shows.
    """
    unit, values = plain(unit), [value for segment in (*segments, *marks.averages) for _, value in segment]
    scale, places = fitted(values), decimals_of(segments)
    paths = [
        f'<path class="gaps" d="{_gaps(segments, axis)}"/>',
        f'<path class="incidents" d="{_periods(marks.incidents, axis)}"/>',
        _band(band, scale) if band else "",
        "".join(f'<path class="limit" d="M0 {scale.y(limit)}H{WIDTH}"/>' for limit in marks.limits if scale.has(limit)),
        _trace("trace", segments, axis, scale),
        _trace("averages", marks.averages, axis, scale) if marks.averages else "",
        _outside(segments, band, axis, scale) if band else "",
    ]
    data = attributes(segments, marks.averages, axis.start, axis.end, places)
    if data:
        data += f' data-low="{scale.low}" data-high="{scale.high}" data-zone="{escape(axis.zone)}"'
        data += f' data-unit="{escape(unit)}"'
    edges = band.edges if band else None
    words = beyond(scale, edges, marks.limits, average_decimals(places), unit) if values else ""
    below = f'<p class="beyond">{escape(words)}</p>' if words else ""
    return Markup(  # noqa: S704  it holds only numbers and escaped text
        f'<div class="chart" role="img" aria-label="{escape(label)}"{data}>'
        f"{value_labels(scale if values else None, places)}"
        f'<svg class="plot" height="{HEIGHT_PX + 20}" aria-hidden="true">{axis.svg}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" width="100%" height="{HEIGHT_PX}">'
        f"{''.join(paths)}</svg></svg></div>{below}"
    )


def _band(band: Band, scale: Scale) -> str:
    """The band, as far as it lies in the chart, and the average."""
    bottom, top = (scale.y(scale.within(edge)) for edge in band.edges)
    average = f'<path class="average" d="M0 {scale.y(band.average)}H{WIDTH}"/>' if scale.has(band.average) else ""
    return f'<rect class="band" width="{WIDTH}" y="{top}" height="{bottom - top}"/>{average}'


def _trace(name: str, segments: Sequence[list[Point]], axis: Axis, scale: Scale) -> str:
    """One line for each segment, in steps from point to point; a segment of one reading is a dot."""
    lines = []
    for segment in segments:
        (x, y), *steps = _steps((axis.x(time), scale.y(value)) for time, value in segment)
        lines.append(f"M{x} {y}l" + " ".join([f"{dx} {dy}" for dx, dy in steps or [(0, 0)]]))
    return f'<path class="{name}" d="{_compact("".join(lines))}"/>'


def _outside(segments: Segments, band: Band, axis: Axis, scale: Scale) -> str:
    """A dot on each reading outside of the band; none where they would cover the trace."""
    average, margin = band
    points = list(chain(*segments))
    outside = [(axis.x(time), scale.y(value)) for time, value in points if abs(value - average) > margin]
    dots = outside if len(outside) <= MAX_OUTSIDE_SHARE * len(points) else []
    return f'<path class="outside" d="{_compact("".join([f"m{dx} {dy}h0" for dx, dy in _steps(dots)]))}"/>'


def _steps(points: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The differences from point to point, which take fewer bytes than the points; the first one is from 0, 0."""
    x0 = y0 = 0
    for x, y in points:
        yield x - x0, y - y0
        x0, y0 = x, y


def _compact(path: str) -> str:
    """A path without the spaces that its minus signs replace."""
    return path.replace(" -", "-")


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
