"""The moving-average window of a machine: state in, state out. Pure."""

from collections.abc import Iterable
from math import fsum
from typing import Any

import msgspec

MAX_ABS_VALUE = 1e300
"""Values beyond ±MAX_ABS_VALUE are not averaged: their sum could overflow."""


class Window(msgspec.Struct, frozen=True, gc=False):
    """The state of one machine.

    `readings` counts since the machine's last fresh start, up to the window's size; `at` is the time of its last
    reading (seconds). For each parameter, `values` holds its last values and `seen` the time of the last one.
    """

    readings: int
    at: float
    values: tuple[tuple[float, ...], ...]
    seen: tuple[float, ...]


def number(value: Any) -> float | None:
    """The value as a float if it is a finite number within ±MAX_ABS_VALUE, else None. Nothing is coerced."""
    if isinstance(value, (float, int)) and type(value) is not bool:
        return float(value) if -MAX_ABS_VALUE <= value <= MAX_ABS_VALUE else None
    return None


def step(window: Window | None, at: float, values: Iterable[Any], size: int, silence: float) -> Window:
    """Add one reading, polled `at` (seconds), to a machine's window of `size` readings.

    After more than `silence` seconds without a reading the window starts over; a parameter that was missing that long
    starts over alone. A value that is not a number leaves its parameter's values unchanged.
    """
    if window is None or at - window.at > silence:
        first = [() if (v := number(value)) is None else (v,) for value in values]
        return Window(1, at, tuple(first), (at,) * len(first))
    stepped: list[tuple[float, ...]] = []
    seen: list[float] = []
    for value, previous, last_seen in zip(values, window.values, window.seen, strict=True):
        recent = previous if at - last_seen <= silence else ()
        # `number` inlined: this is the hottest line of the program.
        if (type(value) is float or type(value) is int) and -MAX_ABS_VALUE <= value <= MAX_ABS_VALUE:
            stepped.append((*recent, float(value))[-size:])
            seen.append(at)
        else:
            stepped.append(recent)
            seen.append(last_seen)
    return Window(min(window.readings + 1, size), at, tuple(stepped), tuple(seen))


def means(window: Window) -> list[float | None]:
    """The average of each parameter, not rounded; None where it has no values."""
    return [fsum(values) / len(values) if values else None for values in window.values]


def silence_s(interval: float) -> float:
    """Seconds without a reading after which a window starts over: an hour or 100 intervals, whichever is longer."""
    return max(3600.0, 100 * interval)
