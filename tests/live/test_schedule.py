"""The schedule as times in, times out."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.live.schedule import MAX_SLICES, GridTrigger, Schedule, first_polls, slices
from tests.support.process import HANG_S

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def fires(slot: GridTrigger, start: datetime, count: int) -> list[datetime]:
    """The first fires of a job that is checked exactly when it is due."""
    moments, previous, now = [], None, start
    for _ in range(count):
        previous = now = slot.get_next_fire_time(previous, now)
        moments.append(previous)
    return moments


def test_a_slot_fires_on_its_own_grid_without_drift():
    """Fires are one interval apart, at the slot's offset, whenever the process began."""
    start = NOON + timedelta(seconds=1.234)
    assert fires(GridTrigger(10, 3), start, 3) == [NOON + timedelta(seconds=s) for s in (3, 13, 23)]


def test_missed_fires_are_skipped_not_listed():
    """After ten years of suspend there is one next fire, not millions of missed ones."""
    slot = GridTrigger(10)
    later = NOON + timedelta(days=3650, seconds=4)
    assert slot.get_next_fire_time(NOON, later) == NOON + timedelta(days=3650, seconds=10)


def test_a_fire_is_never_repeated():
    """Checked a moment too early or exactly on time, the next fire is a later one."""
    slot = GridTrigger(10)
    assert slot.get_next_fire_time(NOON, NOON) == NOON + timedelta(seconds=10)
    assert slot.get_next_fire_time(NOON, NOON - timedelta(milliseconds=5)) == NOON + timedelta(seconds=10)


@pytest.mark.parametrize("interval", [0.1, 1, 7, 10, 86_400])
def test_the_grid_holds_for_every_interval(interval):
    """From 100 ms to 24 h the fires are an interval apart."""
    moments = fires(GridTrigger(interval, interval / 2), NOON, 20)
    gaps = [(b - a).total_seconds() for a, b in pairwise(moments)]
    assert gaps == pytest.approx([interval] * 19, abs=2e-3)


names = st.sets(st.text(min_size=1, max_size=20))


@given(names, names)
def test_a_source_keeps_its_slice_when_others_come_and_go(mine, others):
    """The slice of a source depends on its name alone."""
    alone, together = slices(mine), slices(mine | others)
    assert len(together) <= MAX_SLICES
    assert sorted(name for members in together.values() for name in members) == sorted(mine | others)
    for number, members in alone.items():
        assert set(members) <= set(together[number])


@given(st.integers(1, 20_000), st.floats(0.1, 86_400))
def test_the_first_polls_are_spread_over_a_fifth_of_the_interval(count, interval):
    """The first slice is polled at once, the others evenly within a fifth of the interval; few sources sooner."""
    members = slices(f"machine-{number}" for number in range(count))
    moments = list(first_polls(members, interval).values())
    assert (len(moments), moments[0]) == (len(members), 0.0)
    gaps = [later - earlier for earlier, later in pairwise([*moments, min(interval / 5, 0.005 * count)])]
    assert gaps == pytest.approx([gaps[0]] * len(members))


def test_the_first_polls_and_the_first_look_at_the_night_come_soon():
    """A schedule that starts runs every slice and the nightly job soon, not one interval late."""
    polled, night = set(), threading.Event()
    everything = threading.Event()
    members = [f"machine-{i}" for i in range(50)]

    def poll(names, due):
        polled.update(names)
        if len(polled) == len(members):
            everything.set()

    schedule = Schedule(3600, poll, night.set, lambda: datetime.now(UTC).timestamp())
    schedule.set_sources(members)
    schedule.start()
    try:
        assert everything.wait(HANG_S)
        assert night.wait(HANG_S)
    finally:
        schedule.stop()
