"""Local days: which day a moment belongs to, how long it is, when its report is due. Pure, with zoneinfo."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo


def begins(day: str, zone: ZoneInfo) -> float:
    """The first second of a local day (since the epoch), also where midnight itself is skipped."""
    return datetime.combine(date.fromisoformat(day), time(), tzinfo=zone).timestamp()


def days_before(day: str, count: int) -> str:
    """The day that is `count` days before a day, or the first day of the calendar."""
    return date.fromordinal(max(date.fromisoformat(day).toordinal() - count, 1)).isoformat()


def day_after(day: str) -> str:
    """The day after a day."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def length(day: str, zone: ZoneInfo) -> float:
    """Seconds of a local day: 82,800, 86,400 or 90,000 in most zones."""
    return begins(day_after(day), zone) - begins(day, zone)


def due(day: str, at: str, zone: ZoneInfo) -> float:
    """When the report of a local day is due (seconds since the epoch): at `at` ("HH:MM") of the day after it."""
    return datetime.combine(date.fromisoformat(day_after(day)), time.fromisoformat(at), tzinfo=zone).timestamp()


def day_finder(zone: ZoneInfo) -> Callable[[float], str]:
    """Build the function from a moment (seconds since the epoch) to its local day."""
    day, start, end = "", 0.0, 0.0

    def day_of(moment: float) -> str:
        nonlocal day, start, end
        if not start <= moment < end:
            local = datetime.fromtimestamp(moment, zone).date().isoformat()
            # Assigned together: the last day of the calendar has no end, and raises here.
            day, start, end = local, begins(local, zone), begins(day_after(local), zone)
        return day

    return day_of


def moment_of(local: datetime, zone: ZoneInfo, previous: float) -> float:
    """Seconds since the epoch, to the millisecond, of a time that a clock of the zone showed.

    Where the clocks go back, a time occurs twice: it is the second one if the first lies before `previous`.
    """
    first, second = (round(local.replace(tzinfo=zone, fold=fold).timestamp(), 3) for fold in (0, 1))
    return second if first < previous and first < second else first


def next_reports(now: float, at: str, zone: ZoneInfo, count: int) -> list[tuple[str, datetime]]:
    """The next `count` days to be reported after `now`, each with the local time its report is due."""
    first = datetime.fromtimestamp(now, zone).date() - timedelta(days=2)
    days = [(first + timedelta(days=number)).isoformat() for number in range(count + 2)]
    moments = [(day, due(day, at, zone)) for day in days]
    return [(day, datetime.fromtimestamp(moment, zone)) for day, moment in moments if moment > now][:count]


def next_change(now: float, zone: ZoneInfo) -> date | None:
    """The next local day within 400 days that is not 24 hours long, if any."""
    today = datetime.fromtimestamp(now, zone).date()
    days = (today + timedelta(days=number) for number in range(400))
    return next((day for day in days if length(day.isoformat(), zone) != 86_400), None)
