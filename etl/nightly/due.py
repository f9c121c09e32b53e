"""Which days are due for a report, and the errors of a day that cannot have one. It does not load numpy."""

from zoneinfo import ZoneInfo

from etl.readings.days import due
from etl.storage.folder import DAMAGED_GZIP, Folder

REPORT_ERRORS = (*DAMAGED_GZIP, KeyError, OverflowError, TypeError, ValueError)
"""Raised by making a report if the raw log or settings.jsonl is damaged, for example by manual edits."""


def due_days(folder: Folder, now: float, at: str, zone: ZoneInfo) -> list[str]:
    """The days with a raw log and without a report whose report is due at `now` (seconds since the epoch), in order.

    `at` is the local time ("HH:MM") at which the day before is due.
    """
    reported = set(folder.reports())
    return [day for day in folder.days("raw") if day not in reported and due(day, at, zone) <= now]
