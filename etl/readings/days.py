"""Local days: which day a moment belongs to, how long it is, when its report is due. Pure, with zoneinfo."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def begins(day: str, zone: ZoneInfo) -> float:
    """The first moment of a local day (seconds since the epoch)."""
    return _start(date.fromisoformat(day), zone)


def days_before(day: str, count: int) -> str:
    """The day that is `count` days before a day, or the first day of the calendar."""
    return date.fromordinal(max(date.fromisoformat(day).toordinal() - count, 1)).isoformat()


def _start(day: date, zone: ZoneInfo) -> float:
    """The first second of a local day (seconds since the epoch), also where midnight itself is skipped."""
    return datetime.combine(day, time(), tzinfo=zone).timestamp()


def day_after(day: str) -> str:
    """The day after a day."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def length(day: str, zone: ZoneInfo) -> float:
    """Seconds of a local day: 82,800, 86,400 or 90,000 in most zones."""
    first = date.fromisoformat(day)
    return _start(first + timedelta(days=1), zone) - _start(first, zone)


def due(day: str, at: str, zone: ZoneInfo) -> float:
    """When the report of a local day is due (seconds since the epoch): at `at` ("HH:MM") of the day after it."""
    after = date.fromisoformat(day) + timedelta(days=1)
    return datetime.combine(after, time.fromisoformat(at), tzinfo=zone).timestamp()


def day_finder(zone: ZoneInfo) -> Callable[[float], str]:
    """Build the function from a moment (seconds since the epoch) to its local day."""
    day, start, end = "", 0.0, 0.0

    def day_of(moment: float) -> str:
        nonlocal day, start, end
        if not start <= moment < end:
            local = datetime.fromtimestamp(moment, zone).date()
            # Assigned together: the last day of the calendar has no end, and raises here.
            day, start, end = local.isoformat(), _start(local, zone), _start(local + timedelta(days=1), zone)
        return day

    return day_of


def next_reports(now: float, at: str, zone: ZoneInfo, count: int) -> list[tuple[str, datetime]]:
    """The next `count` days to be reported after `now`, each with the local time its report is due."""
    today = datetime.fromtimestamp(now, UTC).astimezone(zone).date()
    reports: list[tuple[str, datetime]] = []
    day = today - timedelta(days=2)
    while len(reports) < count:
        moment = due(day.isoformat(), at, zone)
        if moment > now:
            reports.append((day.isoformat(), datetime.fromtimestamp(moment, zone)))
        day += timedelta(days=1)
    return reports


def next_change(now: float, zone: ZoneInfo) -> date | None:
    """The next local day within 400 days that is not 24 hours long, if any."""
    day = datetime.fromtimestamp(now, zone).date()
    for _ in range(400):
        if length(day.isoformat(), zone) != 86_400:
            return day
        day += timedelta(days=1)
    return None
