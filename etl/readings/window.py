"""Moving averages: state in, state out. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from typing import Any

import msgspec

LIMIT = 1e300
"""Values beyond ±LIMIT are not averaged: sums of them could overflow."""


class Window(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of one machine.

    `readings` counts since the machine's last new start, at most the window's size; `at` is the last reading's time
    (seconds); `values` and `seen` hold, for each parameter, its last values and when it was last seen.
    """

    readings: int
    at: float
    values: tuple[tuple[float, ...], ...]
    seen: tuple[float, ...]


def number(value: Any) -> float | None:
    """The value as a float if it is a finite number within ±LIMIT, else None. Nothing is coerced."""
    if type(value) is float or type(value) is int:
        return float(value) if -LIMIT <= value <= LIMIT else None
    return None


def step(window: Window | None, at: float, values: Iterable[Any], size: int, silence: float) -> Window:
    """Add one reading, taken at `at` (seconds), to a machine's window of `size` readings.

    After more than `silence` seconds without a reading the machine starts anew; a parameter that was missing that
    long starts anew alone. A value that is no number leaves its parameter's window as it is.
    """
    if window is None or at - window.at > silence:
        fresh = [() if (v := number(value)) is None else (v,) for value in values]
        return Window(1, at, tuple(fresh), (at,) * len(fresh))
    kept: list[tuple[float, ...]] = []
    seen: list[float] = []
    for value, before, last in zip(values, window.values, window.seen, strict=True):
        old = before if at - last <= silence else ()
        # What `number` says, written out: this is the hottest line of the program.
        if (type(value) is float or type(value) is int) and -LIMIT <= value <= LIMIT:
            kept.append((*old, float(value))[-size:])
            seen.append(at)
        else:
            kept.append(old)
            seen.append(last)
    return Window(min(window.readings + 1, size), at, tuple(kept), tuple(seen))


def means(window: Window) -> list[float | None]:
    """The average of each parameter, unrounded; None where its window is empty."""
    return [fsum(values) / len(values) if values else None for values in window.values]


def silence(interval: float) -> float:
    """Seconds without a reading after which a window starts anew: an hour or 100 intervals, whichever is longer."""
    return max(3600.0, 100 * interval)
