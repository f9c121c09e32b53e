"""Incidents: flagged readings grouped for people, and silences."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from etl.analysis.bands import LAG_READINGS
from etl.analysis.detectors import Detection, Readings
from etl.analysis.past import OpenIncident
from etl.readings.records import DetectorName

MAX_GAP_READINGS = LAG_READINGS
"""Flagged readings at most this many readings apart belong to one incident: 5 minutes at 10 s."""
SILENCE_INTERVALS = 10
SILENCE_S = 300.0
"""A machine is silent after the longer of both: ten polls in a row do not fail by chance, and a machine or switch that
restarts answers again within 5 minutes."""

Incident = dict[str, Any]
"""{"start", "end", "readings", "peak", "expected", "deviation", "detector", "why"}.

`start` and `end` are the times (seconds since the epoch) of the first and the last flagged reading, `readings` is their
number; a lasting change ends when its level has become normal, minutes to hours later. `peak` is the value with the
largest `deviation`, in units of the limit, and `expected` the range [low, high] for it.
"""


def incidents(
    day: Readings, detections: dict[DetectorName, Detection], previous: OpenIncident | None = None
) -> tuple[list[Incident], OpenIncident | None]:
    """The incidents of one parameter and day, in order, and the open one for the next day.

    An incident has the name of the detector with the largest deviation. `previous` is the open incident of the day
    before: if it continues, the first incident has its start, the sum of the readings and the stronger peak.
    """
    if not detections:
        return [], previous
    size = len(day.values)
    deviations = np.array([detection.deviation for detection in detections.values()])
    flagged = np.flatnonzero(deviations.max(axis=0) > 1)
    quiet = size + (previous["quiet"] if previous else MAX_GAP_READINGS)
    result = []
    if len(flagged):
        cuts = np.flatnonzero(np.diff(flagged) > MAX_GAP_READINGS) + 1
        result = [_incident(day, detections, deviations, part) for part in np.split(flagged, cuts)]
        if previous and previous["quiet"] + flagged[0] < MAX_GAP_READINGS:
            result[0] = _continued(previous["incident"], result[0])
        quiet = size - 1 - int(flagged[-1])
    if quiet >= MAX_GAP_READINGS:
        return result, None
    last = result[-1] if result else previous["incident"] if previous else None
    return result, {"incident": last, "quiet": quiet}


def _incident(day: Readings, detections: dict[DetectorName, Detection], deviations: Any, flagged: Any) -> Incident:
    strongest, at = np.unravel_index(np.argmax(deviations[:, flagged]), (len(deviations), len(flagged)))
    peak = int(flagged[at])
    name, detection = list(detections.items())[strongest]
    return {
        "start": float(day.times[flagged[0]]),
        "end": float(day.times[flagged[-1]]),
        "readings": len(flagged),
        "peak": float(day.values[peak]),
        "expected": [float(detection.low[peak]), float(detection.high[peak])],
        "deviation": float(detection.deviation[peak]),
        "detector": name,
        "why": detection.explain(peak),
    }


def _continued(first: Incident, second: Incident) -> Incident:
    """One incident of two that midnight separates."""
    stronger = max(first, second, key=lambda incident: incident["deviation"])
    readings = first["readings"] + second["readings"]
    return {**stronger, "start": first["start"], "end": second["end"], "readings": readings}


def silences(times: Iterable[float], interval: float, last: float | None, end: float) -> list[Incident]:
    """The silences of a machine in a day, as incidents of the detector "silence". All times in seconds.

    A silence lasts from the reading before it to the one after it, or to `end`, the end of the day. `last` is the time
    of the machine's last reading before the day, the start of a silence that was open at midnight; None for a new
    machine, which was not silent before its first reading.
    """
    limit = max(SILENCE_INTERVALS * interval, SILENCE_S)
    moments = [*([] if last is None else [last]), *times, end]
    return [
        {
            "start": before,
            "end": after,
            "readings": 0,
            "peak": None,
            "expected": None,
            "deviation": (after - before) / limit,
            "detector": "silence",
            "why": f"no reading for {_duration(after - before)}; the interval is {_duration(interval)}",
        }
        for before, after in pairwise(moments)
        if after - before > limit
    ]


def _duration(seconds: float) -> str:
    """A duration in the largest unit of which it has at least two."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"
