"""Charts as SVG: a trace over time with its average, its band and what lies outside of it marked. Pure.

They are styled by templates/charts.css, and so follow the page's colours in light, dark and print. Text keeps its size
at any width: only the drawing is stretched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from math import ceil, floor, log10
from typing import NamedTuple
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

BUCKETS = 288
"""Pieces of time that a trace is thinned to; each keeps its lowest and its highest reading."""
SILENCE = 3.0
"""Intervals without a reading after which there is a gap."""
WIDTH, HEIGHT = 2000, 360
"""Units of the drawing, which is stretched to the room there is."""
SHOWN = 180
"""Pixels it is high."""
LABELS = 9
"""Steps of the time axis, at most; where seconds are told, half of them."""
LIMIT = 1e300
"""What values and the band's margin stay within: sums and differences of them are finite."""
STEPS = (1, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)

Point = tuple[float, float]
"""A time (seconds since the epoch) and a value."""


class Axis(NamedTuple):
    """A stretch of time (seconds since the epoch), with its grid and its labels drawn."""

    start: float
    end: float
    drawn: Markup

    def x(self, at: float) -> int:
        """Where a moment stands; one beyond an end is not to be seen."""
        return int((at - self.start) / (self.end - self.start) * WIDTH)


class Scale(NamedTuple):
    """The values between the bottom and the top of a chart."""

    low: float
    high: float

    def y(self, value: float) -> int:
        """Where a value stands, counted from the top."""
        return int((self.high - value) / (self.high - self.low) * HEIGHT)


def time_axis(start: float, end: float, zone: ZoneInfo) -> Axis:
    """An axis labelled with the local time at round moments; where the clocks change, the hours are as they were."""
    end = max(end, start + 1)
    step = next((step for step in STEPS if end - start <= step * (LABELS if step >= 60 else LABELS / 2)), STEPS[-1])
    days = ceil((end - start) / (LABELS * STEPS[-1]))
    form = "%H:%M:%S" if step < 60 else "%H:%M" if days == 1 else "%m-%d"
    labels = []
    for moment in _moments(start, end, min(step, 900)):
        local = datetime.fromtimestamp(moment, zone)
        if (local.hour * 3600 + local.minute * 60 + local.second) % step == 0 and local.toordinal() % days == 0:
            labels.append((f"{100 * (moment - start) / (end - start):.2f}%", local.strftime(form)))
    lines = "".join(f'<line x1="{x}" x2="{x}" y2="{SHOWN}"/>' for x, _ in labels)
    texts = "".join(f'<text x="{x}" y="{SHOWN + 16}">{text}</text>' for x, text in labels)
    return Axis(start, end, Markup(f'<g class="grid">{lines}</g><g class="times">{texts}</g>'))  # noqa: S704


def _moments(start: float, end: float, step: int) -> range:
    return range(ceil(start / step) * step, floor(end) + 1, step)


def chart(
    times: Sequence[float],
    values: Sequence[float],
    axis: Axis,
    interval: float,
    average: float | None,
    threshold: float,
    label: str,
    incidents: Iterable[tuple[float, float]] = (),
) -> Markup:
    """Draw the readings of one parameter.

    Args:
        times: seconds since the epoch.
        values: one for each time, NaN where the reading had none.
        axis: the time to show.
        interval: seconds between two readings, as the config has it.
        average: what the band lies around; None if there is no reading.
        threshold: the share of the average that the band extends to either side.
        label: what the chart shows, for those who cannot see it.
        incidents: the start and the end of each stretch to be marked.

    """
    segments = thin(times, values, axis, interval)
    shown = [value for segment in segments for _, value in segment]
    margin = 0.0
    if average is not None:
        margin = min(threshold * abs(average), LIMIT)
        shown += [average - margin, average + margin]
    scale = _scale(shown)
    drawn = [
        f'<path class="gaps" d="{_gaps(segments, axis, SILENCE * interval)}"/>',
        f'<path class="incidents" d="{_stretches(incidents, axis)}"/>',
    ]
    if average is not None:
        drawn.append(_band(average, margin, scale))
    drawn.append(_trace(segments, axis, scale))
    if average is not None:
        drawn.append(_outside(segments, average, margin, axis, scale))
    return Markup(  # noqa: S704  nothing in it but numbers and the label
        f'<div class="chart" role="img" aria-label="{escape(label)}">{_values(scale)}'
        f'<svg class="plot" height="{SHOWN + 20}" aria-hidden="true">{axis.drawn}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" width="100%" height="{SHOWN}">{"".join(drawn)}'
        "</svg></svg></div>"
    )


def _band(average: float, margin: float, scale: Scale) -> str:
    top, bottom = scale.y(average + margin), scale.y(average - margin)
    return (
        f'<rect class="band" width="{WIDTH}" y="{top}" height="{bottom - top}"/>'
        f'<path class="average" d="M0 {scale.y(average)}H{WIDTH}"/>'
    )


def _trace(segments: list[list[Point]], axis: Axis, scale: Scale) -> str:
    """The readings as lines; one that stands alone as a dot."""
    lines = (
        "M" + " ".join([f"{axis.x(at)} {scale.y(value)}" for at, value in segment]) + "h0" * (len(segment) == 1)
        for segment in segments
    )
    return f'<path class="trace" d="{"".join(lines)}"/>'


def _outside(segments: list[list[Point]], average: float, margin: float, axis: Axis, scale: Scale) -> str:
    marks = (
        f"M{axis.x(at)} {scale.y(value)}h0" for at, value in chain(*segments) if abs(value - average) > margin
    )  # fmt: skip
    return f'<path class="outside" d="{"".join(marks)}"/>'


def thin(times: Sequence[float], values: Sequence[float], axis: Axis, interval: float) -> list[list[Point]]:
    """The readings to draw, in stretches without a gap: the lowest and the highest of each bucket of time.

    What is next to a gap is kept as well.
    """
    import numpy as np  # noqa: PLC0415  who draws the night's report has it loaded; the server never draws

    at, drawn = np.asarray(times, float), np.asarray(values, float)
    at, drawn = at[np.isfinite(drawn)], drawn[np.isfinite(drawn)]
    count = len(at)
    if not count:
        return []
    if (np.diff(at) < 0).any():  # the clock was set back
        order = np.argsort(at, kind="stable")
        at, drawn = at[order], drawn[order]
    begins = np.flatnonzero(np.diff(at) > SILENCE * interval) + 1
    edges = np.searchsorted(at, axis.start + np.arange(1, BUCKETS) * ((axis.end - axis.start) / BUCKETS))
    firsts = np.unique(np.concatenate([[0], begins, edges[edges < count]]))
    piece = np.repeat(np.arange(len(firsts)), np.diff(firsts, append=count))
    extremes = [np.flatnonzero(drawn == most.reduceat(drawn, firsts)[piece]) for most in (np.minimum, np.maximum)]
    # Of each piece the first of its extremes, as there may be many.
    kept = [found[np.unique(piece[found], return_index=True)[1]] for found in extremes]
    shown = np.unique(np.concatenate([*kept, [0, count - 1], begins, begins - 1]))
    stretches = np.split(shown, np.searchsorted(shown, begins))
    return [list(zip(at[own].tolist(), drawn[own].tolist(), strict=True)) for own in stretches]


def _gaps(segments: list[list[Point]], axis: Axis, silence: float) -> str:
    """The stretches without readings, those before the first and after the last among them."""
    ends = [axis.start, *(segment[-1][0] for segment in segments)]
    starts = [*(segment[0][0] for segment in segments), axis.end]
    return _stretches(((end, start) for end, start in zip(ends, starts, strict=True) if start - end > silence), axis)


def _stretches(stretches: Iterable[tuple[float, float]], axis: Axis) -> str:
    places = ((axis.x(start), axis.x(end)) for start, end in stretches)
    return "".join(f"M{left} 0H{max(right, left + 3)}V{HEIGHT}H{left}z" for left, right in places)


def _scale(shown: list[float]) -> Scale:
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    room = 0.06 * (high - low)
    if not room > 1e-9 * max(abs(low), abs(high), 1e-290):
        room = abs(high) * 0.05 or 1.0
    return Scale(low - room, high + room)


def _values(scale: Scale) -> str:
    texts = (
        f'<text x="100%" y="{scale.y(value) * SHOWN / HEIGHT + 4:.0f}">{value:.6g}</text>'
        for value in _round_values(scale)
    )
    return f'<svg class="values" height="{SHOWN + 20}" aria-hidden="true">{"".join(texts)}</svg>'


def _round_values(scale: Scale) -> Iterator[float]:
    """Two to five round numbers of a scale."""
    rough = (scale.high - scale.low) / 5
    magnitude = 10.0 ** floor(log10(rough))
    step = next(step for step in (magnitude, 2 * magnitude, 5 * magnitude, 10 * magnitude) if step >= 0.999 * rough)
    return (n * step for n in range(ceil(scale.low / step), floor(scale.high / step) + 1))
