"""Whether the wall clock runs as it should: its times in, what happened out. Pure."""

from __future__ import annotations

from typing import NamedTuple

TOLERANCE = 2.0
"""Seconds the clocks may drift apart between two looks, as they do while the time is adjusted slowly."""


class Times(NamedTuple):
    """One look at three clocks, in seconds: the wall clock, the running time, the running time with suspends."""

    wall: float
    monotonic: float
    boot: float


class Jump(NamedTuple):
    """What happened between two looks: `set back`, `set forward`, `suspended` or `stalled`, and by how many seconds."""

    reason: str
    seconds: float


def jump(before: Times, now: Times, period: float) -> Jump | None:
    """Compare two looks that should be `period` seconds apart; None if all is well.

    A wall clock that was set shows against the running time. A suspend does too, but the boot clock went on; a process
    that was stopped, or a machine too busy to run it, looks much too late.
    """
    ran = now.monotonic - before.monotonic
    slept = (now.boot - before.boot) - ran
    stepped = (now.wall - before.wall) - ran - slept
    if stepped < -TOLERANCE:
        return Jump("set back", -stepped)
    if stepped > TOLERANCE:
        return Jump("set forward", stepped)
    if slept > TOLERANCE:
        return Jump("suspended", slept)
    if ran > period + max(TOLERANCE, 2 * period):
        return Jump("stalled", ran)
    return None
