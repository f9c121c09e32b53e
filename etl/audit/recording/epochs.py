"""Timestamps that are numbers: time since 1970 in the unit that their magnitude tells."""

import re
from typing import Any

from etl.readings.records import RejectedError

FIRST_S, LAST_S = 1e8, 1e11
"""Seconds since 1970 that are read as a time: 1973 to 5138. In these bounds the ranges of the units do not overlap, and
neither dates such as 20260105 nor counters of hours are taken for times."""
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""The units, by how many of them a second has: pandas writes milliseconds, Telegraf seconds or nanoseconds."""
_DIGITS = re.compile(r"\d{9,20}(\.\d*)?")
"""Text that is such a number; eight digits are a date."""


def number_of(timestamp: Any) -> int | float | None:
    """The timestamp if it is a number, or text of digits; None if it is something else."""
    if type(timestamp) is str and _DIGITS.fullmatch(timestamp):
        return float(timestamp) if "." in timestamp else int(timestamp)
    return timestamp if isinstance(timestamp, int | float) and not isinstance(timestamp, bool) else None


def since_1970(number: int | float) -> tuple[float, str]:
    """A time in seconds since 1970, to the millisecond, and the unit of the number; RejectedError if it is no time."""
    for unit, per_second in UNITS.items():
        if FIRST_S <= number / per_second < LAST_S:
            return round(number / per_second, 3), unit
    why = "a number must be seconds, milliseconds, microseconds or nanoseconds since 1970, and 1973 or later"
    raise RejectedError("no_time", f"its timestamp {str(number)[:40]} is no time: {why}")
