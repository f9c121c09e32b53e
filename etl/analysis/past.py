"""What one day passes to the next for each machine. Without numpy: whoever only reads it does not load that."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from etl.readings.records import DetectorName

MEMORY = 2000
"""Readings a reading is compared with: 5.5 hours at 10 s, a week at 5 minutes. Short enough that a new way of running
is soon normal, long enough that its third extremes are those of 1 reading in 700."""


class Tail(msgspec.Struct, frozen=True):
    """The last readings with a number of one parameter of a machine, at most MEMORY, and its open incident.

    `times` (seconds) and `values` are arrays of doubles, `codes` of bytes: the index of each status in `statuses`.
    """

    times: bytes
    values: bytes
    codes: bytes
    statuses: list[str | None]
    carried: dict[str, Any] | None


class Past(msgspec.Struct, frozen=True):
    """The past of a machine: when its last reading was polled (seconds), and a Tail for each parameter."""

    last: float
    tails: list[Tail]


class Judging(NamedTuple):
    """What a machine's day is judged with.

    `detectors` are names; `since` and `end` are moments (seconds): readings before `since` are ignored, and the day
    ends at `end`.
    """

    detectors: tuple[DetectorName, ...]
    threshold: float
    interval: float
    since: float
    end: float
