"""What passes from one day to the next for each machine. It does not load numpy."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from etl.readings.records import DetectorName

RULES = 1
"""The number of the detectors' rules. Increment it with every change of what they compute: `verify` compares the
incidents of two reports, and a night uses the history of an earlier one, only if both have the same rules."""

BASELINE_READINGS = 2000
"""Earlier readings that a reading is compared with: 5.5 hours at 10 s, a week at 5 minutes. Few enough that a new mode
of operation becomes normal soon; enough that the third-lowest and third-highest are a quantile of 1 in 700."""

OpenIncident = dict[str, Any]
"""The last incident of a parameter, to be continued on the next day: {"incident": Incident or None, "quiet": int}.

`quiet` is the number of readings after the last flagged one. The values are JSON types.
"""


class Tail(msgspec.Struct, frozen=True):
    """The last readings of one parameter that have a number, at most BASELINE_READINGS, and its open incident.

    `times` (seconds since the epoch) and `values` are the bytes of float64 arrays, `codes` those of a uint8 array: the
    index of each status in `statuses`.
    """

    times: bytes
    values: bytes
    codes: bytes
    statuses: list[str | None]
    open_incident: OpenIncident | None


class Past(msgspec.Struct, frozen=True):
    """The past of a machine: when its last reading was polled (seconds since the epoch), and a Tail per parameter."""

    last: float
    tails: list[Tail]


class DetectionSettings(NamedTuple):
    """The settings of the detectors for one day.

    `threshold` is that of the 20 % rule, `interval` is in seconds. `start` and `end` are in seconds since the epoch:
    readings before `start` are ignored; nothing is silent after `end`, the end of the day.
    """

    detectors: tuple[DetectorName, ...]
    threshold: float
    interval: float
    start: float
    end: float
