"""Moments: as RFC 3339 text, and how long without a reading is a silence."""

from datetime import UTC, datetime
from functools import lru_cache

FIRST_S, LAST_S = -62_135_596_800.0, 253_402_300_799.0
"""The moments RFC 3339 can express in UTC (years 1 to 9999), in seconds since the epoch."""
SILENT_AFTER_INTERVALS = 3
"""Intervals without a reading after which a source is silent and a series has a gap: one lost poll is normal."""


@lru_cache(maxsize=1024)  # a moment is written in a raw line, and soon in an averages line
def rfc3339(moment: float) -> str:
    """Format seconds since the epoch as RFC 3339 in UTC, to the millisecond, with `Z`."""
    second, millis = divmod(round(moment * 1000), 1000)
    return f"{datetime.fromtimestamp(second, UTC).isoformat()[:19]}.{millis:03d}Z"


def clamp(moment: float) -> float:
    """The moment itself, or the nearest one that RFC 3339 can express in UTC."""
    return max(FIRST_S, min(moment, LAST_S))
