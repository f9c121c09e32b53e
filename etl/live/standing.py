"""What is known of every source now: up, silent or down. The rules are pure."""

from __future__ import annotations

STATES = ("down", "silent", "up")
"""The states of a source, the worst first: its polls fail; no reading came for some time; readings come."""
SILENT_AFTER_INTERVALS = 3
"""Intervals without a reading after which a source that is not known to be down is silent: one lost poll is normal."""


def state_of(is_down: bool, last_reading: float | None, now: float, interval: float) -> str:
    """The state of a source, one of STATES; `last_reading` and `now` in seconds since the epoch."""
    if is_down:
        return "down"
    if last_reading is None or round(max(0.0, now - last_reading), 3) > SILENT_AFTER_INTERVALS * interval:
        return "silent"
    return "up"
