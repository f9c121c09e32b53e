"""Numbers for people: with the digits that a sensor resolves, and with their unit."""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import ceil, floor, inf, isfinite, log10

NO_BREAK = "\N{NO-BREAK SPACE}"
"""Between a number and its unit, so that no line ends between them."""
MAX_SAMPLE = 100
"""Readings whose digits are counted, or up to twice as many: a hundred of a sensor with two decimals do not all end in
0."""
MAX_DIGITS, COMPUTED_DIGITS, COMPUTED_STEP = 9, 6, 0.001
"""No sensor resolves more than nine digits: a longer number is the result of a computation, and is shown with at most
six, and no finer than a thousandth of the range of the readings."""
MAX_PLACES, MAX_FIXED = 9, 1e15
"""A number with more decimal places, or a larger one, is shown with three digits and an exponent."""


def decimals(values: Sequence[float]) -> int:
    """The decimal places that a sensor with these readings resolves; float noise (20.180000000000003) aside.

    One reading of twenty may have more.
    """
    sample = tuple(value for value in values[:: sample_step(len(values))] if isfinite(value))
    return _resolved(sample) if sample else 0


@lru_cache(maxsize=8)  # a chart, its label and its table ask for the same series
def _resolved(sample: tuple[float, ...]) -> int:
    largest, step = max(map(abs, sample)), COMPUTED_STEP * (max(sample) - min(sample))
    whole_digits = floor(log10(largest)) + 1 if largest else 0
    # The digits of double precision without the noisy last ones; if they are many, perhaps those of single precision.
    places = _usual_places("%.12g", sample)
    if places + whole_digits > MAX_DIGITS and _are_single(sample):
        places = _usual_places("%.7g", sample)
    if places + whole_digits <= MAX_DIGITS:
        return places
    needed = COMPUTED_DIGITS - whole_digits
    return max(0, min(needed, -floor(log10(step))) if 0 < step < inf else needed)


def _are_single(values: Iterable[float]) -> bool:
    """Whether all of these were numbers of single precision."""
    try:
        return all(struct.unpack("f", struct.pack("f", value))[0] == value for value in values)
    except OverflowError:
        return False


def _usual_places(form: str, values: Iterable[float]) -> int:
    """The decimal places of values in this format; one of twenty may have more."""
    counts = sorted(_places(form % value) for value in values)
    return counts[ceil(0.95 * (len(counts) - 1))]


def sample_step(count: int) -> int:
    """Every how many-th of so many readings is looked at.

    It is odd: a thinned series alternates between lowest and highest, of which an even step would see only one kind.
    """
    return count // MAX_SAMPLE | 1


def _places(text: str) -> int:
    mantissa, _, exponent = text.partition("e")
    return max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))


def average_decimals(places: int) -> int:
    """The decimal places of an average of readings with `places`: one more, up to two, as a mean resolves finer."""
    return max(places, min(places + 1, 2))


def number(value: float, places: int) -> str:
    """A value with this many decimal places, with negative `places` rounded to tens and more; never -0.

    Where that would be too long, it has three digits and an exponent.
    """
    if places > MAX_PLACES or abs(value) >= MAX_FIXED:
        return f"{value:.3g}"
    return f"{round(value, places) + 0.0:,.{max(places, 0)}f}"


def quantity(value: float, unit: str | None = None) -> str:
    """A single value with the digits that it has, and its unit if it has one, in plain text: "81.2 °C"."""
    text = f"{value:,}" if isinstance(value, int) else number(value, decimals([value]))
    return f"{text} {unit}" if unit else text


def with_unit(text: str, unit: str) -> str:
    """A number on a page with its unit, which no line break separates."""
    return f"{text}{NO_BREAK}{unit}" if unit else text
