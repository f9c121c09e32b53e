"""Local days through daylight-saving changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from etl.readings.days import day_finder, due, length, next_change, next_reports

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-28", 24),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("Africa/Cairo", "2026-04-24", 23),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("UTC", "2028-02-29", 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_makes_it(zone, day, hours):
    """A day has 23, 24 or 25 hours, or what its zone says."""
    assert length(day, ZoneInfo(zone)) == hours * 3600


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Africa/Cairo", "America/Havana", "UTC", "Pacific/Apia"])
def test_every_moment_belongs_to_the_day_of_its_local_date(zone):
    """The day found for a moment is the local date, in any order of asking, through a whole year."""
    day_of = day_finder(ZoneInfo(zone))
    start = at("2026-01-01T00:00:00Z")
    for hours in [*range(0, 365 * 24, 5), *range(365 * 24, 0, -7)]:
        moment = start + 3600 * hours
        assert day_of(moment) == datetime.fromtimestamp(moment, ZoneInfo(zone)).date().isoformat()


def test_the_night_of_a_change_is_due_at_the_local_time():
    """A report is due at its local time of the day after, also on the days the clocks change."""
    assert due("2026-03-28", "00:05", BERLIN) == at("2026-03-28T23:05:00Z")
    assert due("2026-03-29", "00:05", BERLIN) == at("2026-03-29T22:05:00Z")
    assert due("2026-10-25", "00:05", BERLIN) == at("2026-10-25T23:05:00Z")


def test_the_next_reports_are_one_for_each_day_across_the_change():
    """The reports that come next follow one another day by day, through the change."""
    coming = next_reports(at("2026-03-27T23:10:00Z"), "00:05", BERLIN, 4)
    assert [day for day, _ in coming] == ["2026-03-28", "2026-03-29", "2026-03-30", "2026-03-31"]
    assert [moment.astimezone(UTC).hour for _, moment in coming] == [23, 22, 22, 22]


def test_the_next_change_is_found():
    """The next day that is not 24 hours long is found; a zone without changes has none."""
    assert next_change(at("2026-11-22T00:00:00Z"), BERLIN) == date(2027, 3, 28)
    assert next_change(at("2026-11-22T00:00:00Z"), ZoneInfo("UTC")) is None


@pytest.mark.parametrize("year", [2026, 2027])
@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Africa/Cairo", "Asia/Beirut", "America/Santiago"]
)
def test_each_day_of_a_year_is_due_once_and_after_its_end(zone, year):
    """Every day's report is due within the day after it, later than the day's last moment."""
    here = ZoneInfo(zone)
    day = date(year, 1, 1)
    while day.year == year:
        moment = due(day.isoformat(), "00:05", here)
        end = datetime.combine(day + timedelta(days=1), datetime.min.time(), tzinfo=here).timestamp()
        assert 0 < moment - end <= 3900
        day += timedelta(days=1)
