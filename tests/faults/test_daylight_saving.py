"""Daylight-saving rules: each day has its report, and no poll is late when the clocks change."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import orjson
import pytest

from etl.live.schedule import NIGHTLY_INTERVAL_S, GridTrigger
from etl.nightly.due import due_days
from etl.readings.days import day_finder, length
from tests.support.plant import Clock
from tests.support.world import DAY, HOUR, Process, check_reports, restart

BEGIN, END = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2026, 2028))


def offset(zone: ZoneInfo, moment: float) -> float:
    return datetime.fromtimestamp(moment, zone).utcoffset().total_seconds()


def changes(name: str) -> list[int]:
    """The moments of 2026 and 2027 at which a zone's clocks change."""
    zone = ZoneInfo(name)
    days = range(BEGIN, END + 1, int(DAY))
    offsets = [offset(zone, day) for day in days]

    def within(day: int, before: float) -> int:
        return day + bisect_left(range(int(DAY)), True, key=lambda second: offset(zone, day + second) != before)

    steps = zip(days, pairwise(offsets), strict=False)
    return [within(day, before) for day, (before, after) in steps if before != after]


@pytest.fixture(scope="module")
def rule_sets() -> dict[str, list[int]]:
    """One zone for each set of daylight-saving rules, with the moments its clocks change."""
    found = {}
    for name in sorted(available_timezones()):
        if "/" in name and not name.startswith(("Etc/", "posix/", "right/", "SystemV/")) and (moments := changes(name)):
            zone = ZoneInfo(name)
            found.setdefault(tuple((moment, offset(zone, moment)) for moment in moments), (name, moments))
    assert len(found) > 25
    return dict(found.values())


class Polled:
    """The folder of a process that polls all the time: each day up to now has a raw log."""

    def __init__(self) -> None:
        self.raw: list[str] = []
        self.made: dict[str, float] = {}

    def days(self, _kind):
        return self.raw[-5:]

    def reports(self):
        return list(self.made)


def looks(zone: ZoneInfo, moments: list[int]) -> list[float]:
    """When to run the nightly job: around each midnight, and every quarter of an hour around each change."""
    first = date(2026, 1, 1)
    marks = [
        datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()
        for day in (first + timedelta(days=n) for n in range((END - BEGIN) // int(DAY) + 2))
        for hour, minute in ((0, 4), (0, 6), (1, 7), (23, 58))
    ]
    return sorted({*marks, *(moment + minutes * 60.0 for moment in moments for minutes in range(-1560, 1560, 15))})


def nights(name: str, moments: list[int], *, restarted: bool) -> dict[str, datetime]:
    """Run the nightly rule at the fires of its trigger for two years; when, in local time, each day was reported."""
    zone = ZoneInfo(name)
    folder = Polled()
    restarts = sorted(moment + minutes * 60.0 for moment in moments for minutes in (-25, 25)) if restarted else []
    slot, day_of, previous = GridTrigger(NIGHTLY_INTERVAL_S), day_finder(zone), None
    for look in looks(zone, moments):
        while restarts and restarts[0] <= look:
            slot, day_of, previous = (
                GridTrigger(NIGHTLY_INTERVAL_S),
                day_finder(zone),
                datetime.fromtimestamp(restarts.pop(0), UTC),
            )
        previous = slot.get_next_fire_time(previous, datetime.fromtimestamp(look, UTC))
        now = previous.timestamp()
        if day_of(now) not in folder.raw:
            folder.raw.append(day_of(now))
        for day in due_days(folder, now, "00:05", zone):
            assert day not in folder.made
            folder.made[day] = now
    return {day: datetime.fromtimestamp(now, zone) for day, now in folder.made.items()}


@pytest.mark.parametrize("restarted", [False, True], ids=["long-lived", "restarted"])
def test_every_night_of_every_rule_set_has_one_report(rule_sets, restarted):
    """With each set of daylight-saving rules every day of two years is reported once, soon after its end."""
    wanted = [(date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(730)]
    for name, moments in rule_sets.items():
        made = nights(name, moments, restarted=restarted)
        assert [day for day in made if "2026" <= day < "2028"] == wanted, name
        for day, at in list(made.items())[1:]:
            assert at.date() == date.fromisoformat(day) + timedelta(days=1), (name, day)
            assert "00:05" <= f"{at:%H:%M}" <= "01:08", (name, day)


@pytest.mark.parametrize("restarted", [False, True], ids=["long-lived", "restarted"])
def test_no_poll_is_late_at_any_change_of_the_clocks(rule_sets, restarted, monkeypatch):
    """Through each change of each set of rules, in a process of that zone, polls stay one interval apart."""
    try:
        for name, moments in rule_sets.items():
            monkeypatch.setenv("TZ", name)
            time.tzset()
            for moment in moments:
                polls, clock = [], Clock(moment - 200.0)
                runs = [200.0, 200.0] if restarted else [400.0]
                for seconds in runs:
                    process = Process(
                        clock, lambda *_, polls=polls, clock=clock: polls.append(clock()), int, monkeypatch
                    )
                    process.wait(seconds)
                polls.append(clock())
                assert max(b - a for a, b in pairwise(polls)) < 10.01, (name, moment)
                assert len(polls) - restarted in (41, 42), (name, moment)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("day", "ticks"), [("2026-03-29", 8280), ("2026-10-25", 9000), ("2026-07-01", 8640)])
def test_a_day_of_23_or_25_hours_holds_its_ticks(day, ticks):
    """The slots that fall into a local day are as many as its length has intervals."""
    zone = ZoneInfo("Europe/Berlin")
    day_of, slot = day_finder(zone), GridTrigger(10, 3)
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=6)
    moment, stop = slot.get_next_fire_time(None, start), start + timedelta(hours=36)
    found = Counter()
    while moment < stop:
        found[day_of(moment.timestamp())] += 1
        moment = slot.get_next_fire_time(moment, moment)
    assert found[day] == ticks == length(day, zone) / 10


CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "America/Havana": ("2026-03-08T05:00Z", "2026-11-01T05:00Z"),
    "America/Santiago": ("2026-09-06T04:00Z", "2026-04-05T03:00Z"),
    "Australia/Lord_Howe": ("2026-10-03T15:30Z", "2026-04-04T15:00Z"),
}


@pytest.mark.parametrize("restarted", [False, True], ids=["long-lived", "restarted"])
@pytest.mark.parametrize("zone", CHANGES)
def test_a_process_goes_through_the_change_of_the_clocks(world, monkeypatch, zone, restarted):
    """A whole process through both changes writes each reading to its local day and reports each day once."""
    monkeypatch.setattr("etl.live.schedule.NIGHTLY_INTERVAL_S", 300.0)
    for change in CHANGES[zone]:
        start = datetime.fromisoformat(change).timestamp() - 25.5 * HOUR
        process = world(start, timezone=zone, interval="10m")
        here = process.here
        polls = 0
        for hours in (26, 26) if restarted else (52,):
            process.run(hours * HOUR)
            polls += len(process.polls)
            process = restart(process, monkeypatch)
        day_of = day_finder(here.loaded.zone)
        days = [day_of(start + n * 600) for n in range(52 * 6)]
        assert len(here.records("raw")) == polls
        for day in here.folder.days("raw"):
            lines = [orjson.loads(line)["_polled_at"] for _, line in here.folder.lines("raw", day)]
            assert {day_of(datetime.fromisoformat(at).timestamp()) for at in lines} == {day}
            assert 0 <= len(lines) - days.count(day) <= 1 + restarted
        check_reports(here, here.folder.days("raw")[:-1])


@pytest.mark.parametrize(("year", "days"), [(2026, 365), (2028, 366), (2100, 365)])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe"])
def test_the_days_of_a_year_add_up(zone, year, days):
    """The lengths of a year's local days are together as long as the year."""
    first = date(year, 1, 1)
    lengths = [length((first + timedelta(days=n)).isoformat(), ZoneInfo(zone)) for n in range(days)]
    assert (first + timedelta(days=days)).year == year + 1
    assert sum(lengths) == days * DAY
