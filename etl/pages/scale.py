"""The value axis of a chart: it fits the readings; what lies outside of it is named in words."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import NamedTuple

from etl.readings.digits import number, quantity, with_unit

HEIGHT = 360
"""Height of the drawing in its own units."""
HEIGHT_PX = 180
"""Height on the page."""
MIN_LABELS_PX, CHARACTER_PX = 42, 6.4
"""Width of the column of labels, at least, and of each of their characters."""
PADDING = 0.06
"""Space above and below the readings, as a share of their range."""
CONSTANT_PADDING = 0.05
"""The same for readings that are all equal, as a share of the value."""


class Scale(NamedTuple):
    """The values at the bottom and at the top of a chart."""

    low: float
    high: float

    def y(self, value: float) -> int:
        """The vertical position of a value in the chart, counted from the top."""
        return int((self.high - value) / (self.high - self.low) * HEIGHT)

    def within(self, value: float) -> float:
        """The value, or the end of the chart beyond which it lies."""
        return min(max(value, self.low), self.high)

    def has(self, value: float) -> bool:
        """Whether the value lies in the chart."""
        return self.low <= value <= self.high


def fitted(values: Sequence[float]) -> Scale:
    """The scale that fits these values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    padding = PADDING * (high - low)
    if not padding > 1e-9 * max(abs(low), abs(high), 1e-290):
        padding = abs(high) * CONSTANT_PADDING or 1.0
    return Scale(low - padding, high + padding)


def value_labels(scale: Scale | None, places: int) -> str:
    """The labels of a scale, at most as fine as readings with `places`; none without one."""
    labels = _labels(scale, places) if scale else []
    width = max([MIN_LABELS_PX, *(ceil(CHARACTER_PX * len(text)) for _, text in labels)])
    texts = "".join(f'<text x="100%" y="{y:.0f}">{text}</text>' for y, text in labels)
    return f'<svg class="values" width="{width}" height="{HEIGHT_PX + 20}" aria-hidden="true">{texts}</svg>'


def _labels(scale: Scale, places: int) -> list[tuple[float, str]]:
    """One to five round numbers with their positions."""
    min_step = max((scale.high - scale.low) / 5, 10.0**-places)
    magnitude = 10.0 ** floor(log10(min_step))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor >= 0.999 * min_step)
    step_places = max(0, -floor(log10(step) + 1e-9))
    values = (n * step for n in range(ceil(scale.low / step), floor(scale.high / step) + 1))
    return [(scale.y(value) * HEIGHT_PX / HEIGHT + 4, number(value, step_places)) for value in values]


def beyond(scale: Scale, band: tuple[float, float] | None, limits: Sequence[float], places: int, unit: str) -> str:
    """A sentence on the limits, and the edges of the band, that lie outside of a chart; empty if none does."""
    parts = []
    for side, outside in (
        ("above", [limit for limit in limits if limit > scale.high]),
        ("below", [limit for limit in limits if limit < scale.low]),
    ):
        texts = [with_unit(quantity(limit), unit) for limit in outside]
        if texts:
            noun, verb = ("limit", "is") if len(texts) == 1 else ("limits", "are")
            parts.append(f"{noun} {' and '.join(texts)} {verb} {side} this chart")
    if band and not all(map(scale.has, band)):
        low, high = (number(edge, places) for edge in band)
        parts.append(f"the band is {low} to {with_unit(high, unit)}")
    return "; ".join(parts)
