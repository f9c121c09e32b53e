"""What `timezone: local` means: the zone of this machine, by its IANA name."""

import os
import re
import time
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from tzlocal import get_localzone_name

_WEEKS = 53
"""Weeks, from now on, in which the zone is compared with the system's time: a year has every change of the clocks."""
_LOCALTIME = "/etc/localtime"
_MAX_SHOWN_CHARACTERS = 40
_UNUSABLE = (ZoneInfoNotFoundError, ValueError, OSError)
"""What zoneinfo raises for a zone that does not exist, and for a file that holds none."""
_POSIX_RULE = re.compile(r"(<[A-Za-z0-9+-]{3,}>|[A-Za-z]{3,})[+-]?[0-9].*")
_UTC_NAMES = ("UTC", "Etc/UTC")
"""The host's /etc/localtime, mounted into a container, can hide the data of these: their meaning is known without."""


def local_zone() -> str:
    """The name of this machine's zone, as TZ or the files in /etc give it; UTC where none of them names one."""
    return _named_by_tz() or get_localzone_name() or "UTC"


def mistake(now: float) -> str | None:
    """Why `local_zone` is not the zone whose time this machine shows; None if it is.

    `now` is in seconds since the epoch: the year from then on is compared.
    """
    if _named_by_tz():
        return None  # also where the C library has no data for it: the name says what is meant
    tz = _tz()
    if tz and not _is_zone(tz):
        return f"TZ is {tz[:_MAX_SHOWN_CHARACTERS]}, which is not a zone"
    if "TZ" not in os.environ and _is_dangling():
        return f"{_LOCALTIME} links to a file that does not exist"
    try:
        name = get_localzone_name()
        zone: tzinfo = UTC if not name or name in _UTC_NAMES else ZoneInfo(name)
    except _UNUSABLE:
        return "the files in /etc name different zones, or one that does not exist"
    if all(_is_system_time(now + week * 7 * 86_400, zone) for week in range(_WEEKS)):
        return None
    return _unlike_system(tz, name)


def _unlike_system(tz: str, name: str | None) -> str:
    if tz:
        return f"TZ is {tz[:_MAX_SHOWN_CHARACTERS]}, which is not the name of a zone"
    if not name:
        return f"{_LOCALTIME} holds a zone, but nothing in /etc names it"
    if "TZ" in os.environ:
        return f"TZ is empty, which means UTC, but /etc names {name}"
    return f"/etc names {name}, but {_LOCALTIME} holds another zone"


def _tz() -> str:
    return os.environ.get("TZ", "").removeprefix(":")


def _named_by_tz() -> str:
    tz = _tz()
    return tz if tz and tz != "localtime" and tz in available_timezones() else ""


def _is_zone(tz: str) -> bool:
    """Whether the C library understands a value of TZ; it takes every other one for UTC."""
    if _POSIX_RULE.fullmatch(tz):
        return True
    try:
        if os.path.isabs(tz):
            with open(tz, "rb") as file:
                ZoneInfo.from_file(file)
        else:
            ZoneInfo(tz)
    except _UNUSABLE:
        return False
    return True


def _is_dangling() -> bool:
    """Whether /etc/localtime links to nothing, which means UTC for the system, and another zone was meant."""
    is_dangling = os.path.islink(_LOCALTIME) and not os.path.exists(_LOCALTIME)
    return is_dangling and not os.readlink(_LOCALTIME).endswith("/UTC")


def _is_system_time(moment: float, zone: tzinfo) -> bool:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    return offset is not None and offset.total_seconds() == time.localtime(moment).tm_gmtoff
