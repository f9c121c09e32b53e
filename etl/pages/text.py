"""Values of any kind as text for a page: one line each, in a fixed format."""

from collections.abc import Mapping
from datetime import date, datetime
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

from etl.readings.digits import NO_BREAK, number

NO_UNITS: Mapping[str, str] = {}
NO_VALUE = "\N{EN DASH}"
"""Shown where there is no value."""
MAX_NAME_CHARACTERS, MAX_REASON_CHARACTERS = 100, 400
"""Longer names (of a machine, a parameter ...) and longer reasons of incidents are cut off."""


def plain(value: Any, limit: int = MAX_NAME_CHARACTERS) -> str:
    """Anything a machine sent, as one line of at most `limit` characters; control characters are replaced."""
    text = str(value)
    clipped = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in clipped)


def figure(value: float | None, places: int) -> str:
    """A value with this many decimal places; a dash where there is none."""
    return NO_VALUE if value is None else number(value, places)


def unbroken(sentence: str) -> str:
    """A sentence with no line break before its per cent signs."""
    return sentence.replace(" %", f"{NO_BREAK}%")


def count(amount: float) -> str:
    """An amount as a whole number: at an interval of 7 s, for example, a day has 12,342.9 expected readings."""
    return f"{amount:,.0f}"


def share(part: float, whole: float) -> str:
    """A share in per cent, rounded down: only a complete day is 100 %."""
    return f"{floor(1000 * part / whole) / 10:g} %" if whole else NO_VALUE


def local_time(timestamp: Any, zone: ZoneInfo) -> datetime | None:
    """A timestamp in local time; a naive one is local time already. None if it is not RFC 3339."""
    try:
        time = datetime.fromisoformat(timestamp)
        return time.astimezone(zone) if time.tzinfo else time.replace(tzinfo=zone)
    except (TypeError, ValueError, OverflowError):
        return None


def clock(timestamp: Any, day: date, zone: ZoneInfo) -> str:
    """The local time of a timestamp, with its date if that is not `day`; not RFC 3339, it is shown unchanged."""
    time = local_time(timestamp, zone)
    if time is None:
        return plain(timestamp)
    return time.strftime("%H:%M:%S" if time.date() == day else "%Y-%m-%d %H:%M:%S")
