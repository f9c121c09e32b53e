"""Clock jumps: whether the wall clock was set, or the process was suspended or stalled. Pure."""

from typing import NamedTuple

TOLERANCE_S = 2.0
"""Seconds the clocks may drift apart between two checks, as they do while NTP slews the time."""


class Times(NamedTuple):
    """Three clocks read at once, in seconds: the wall clock, the running time, the running time with suspends."""

    wall: float
    monotonic: float
    boot: float


class Jump(NamedTuple):
    """What happened between two checks: `set back`, `set forward`, `suspended` or `stalled`, for how many seconds."""

    reason: str
    seconds: float


def jump(before: Times, now: Times, period: float) -> Jump | None:
    """Compare two checks that should be `period` seconds apart; None if nothing happened.

    A wall clock that was set differs from the running time. So does a suspend, but the boot clock counted it. A process
    that was stopped, or that a busy machine did not run, checks much too late.
    """
    ran = now.monotonic - before.monotonic
    slept = (now.boot - before.boot) - ran
    stepped = (now.wall - before.wall) - ran - slept
    if stepped < -TOLERANCE_S:
        return Jump("set back", -stepped)
    if stepped > TOLERANCE_S:
        return Jump("set forward", stepped)
    if slept > TOLERANCE_S:
        return Jump("suspended", slept)
    if ran > period + max(TOLERANCE_S, 2 * period):
        return Jump("stalled", ran)
    return None
