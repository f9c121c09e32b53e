"""Jumps between clocks."""

from __future__ import annotations

import pytest

from etl.readings.clock import Times, jump

BEFORE = Times(1_000_000.0, 500.0, 700.0)


@pytest.mark.parametrize(
    ("wall", "monotonic", "boot", "expected"),
    [
        (10, 10, 10, None),
        (11.9, 10, 10, None),
        (8.5, 10, 10, None),
        (10 - 3600, 10, 10, ("set back", 3600)),
        (10 - 5, 10, 10, ("set back", 5)),
        (10 + 86_400, 10, 10, ("set forward", 86_400)),
        (10 + 315_360_000, 10, 10, ("set forward", 315_360_000)),
        (10 + 28_800, 10, 10 + 28_800, ("suspended", 28_800)),
        (10, 10, 10 + 28_800, ("set back", 28_800)),
        (60, 60, 60, ("stalled", 60)),
        (25, 25, 25, None),
    ],
)
def test_each_kind_of_jump_is_told_apart(wall, monotonic, boot, expected):
    """The three clocks together tell a clock set back, set forward, a suspend and a stall apart."""
    now = Times(BEFORE.wall + wall, BEFORE.monotonic + monotonic, BEFORE.boot + boot)
    assert jump(BEFORE, now, 10.0) == expected
