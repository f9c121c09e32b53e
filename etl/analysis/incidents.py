"""Incidents: what detectors say of single readings, put together for people; and silences. Pure, with numpy."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from etl.analysis.bands import LAG
from etl.analysis.detectors import Judged, Readings

GAP = LAG
"""Flagged readings at most this many readings apart are one incident: 5 minutes at 10 s."""

Incident = dict[str, Any]
"""{"start", "end", "readings", "peak", "expected", "deviation", "detector", "why"}.

`start` and `end` are the times (seconds) of the first and the last flagged reading, `readings` how many were flagged;
`peak` is the value that deviated most, by `deviation` times what was allowed, `expected` is [low, high] for it. Of a
change that lasts, `end` is when the detectors take it for the new normal, minutes to hours later.
"""

Carried = dict[str, Any]
"""What passes from night to night for one parameter of a machine, JSON can hold it: {"incident", "quiet"}, its last
incident and the readings since the last flagged one."""


def incidents(
    day: Readings, judged: dict[str, Judged], carried: Carried | None = None
) -> tuple[list[Incident], Carried | None]:
    """The incidents of a day of one parameter, in order, and what to carry to the next day.

    Each is named for the detector that deviates most. `carried` is what the day before gave: where its last incident
    goes on, the first one here keeps its start, counts its readings, and has the stronger peak of both.
    """
    if not judged or not len(day.values):
        return [], carried
    size = len(day.values)
    deviations = np.array([one.deviation for one in judged.values()])
    flagged = np.flatnonzero(deviations.max(axis=0) > 1)
    quiet = size + (carried["quiet"] if carried else GAP)
    found = []
    if len(flagged):
        cuts = np.flatnonzero(np.diff(flagged) > GAP) + 1
        found = [_incident(day, judged, deviations, part) for part in np.split(flagged, cuts)]
        if carried and carried["quiet"] + flagged[0] < GAP:
            found[0] = _continued(carried["incident"], found[0])
        quiet = size - 1 - int(flagged[-1])
    if quiet >= GAP:
        return found, None
    last = found[-1] if found else carried["incident"] if carried else None
    return found, {"incident": last, "quiet": quiet}


def _incident(day: Readings, judged: dict[str, Judged], deviations: Any, flagged: Any) -> Incident:
    """The incident of these flagged readings."""
    strongest, at = np.unravel_index(np.argmax(deviations[:, flagged]), (len(deviations), len(flagged)))
    peak = int(flagged[at])
    name, one = list(judged.items())[strongest]
    return {
        "start": float(day.times[flagged[0]]),
        "end": float(day.times[flagged[-1]]),
        "readings": len(flagged),
        "peak": float(day.values[peak]),
        "expected": [float(one.low[peak]), float(one.high[peak])],
        "deviation": float(one.deviation[peak]),
        "detector": name,
        "why": one.why(peak),
    }


def _continued(first: Incident, second: Incident) -> Incident:
    """One incident of two that midnight parted."""
    stronger = max(first, second, key=lambda incident: incident["deviation"])
    return {
        **stronger,
        "start": first["start"],
        "end": second["end"],
        "readings": first["readings"] + second["readings"],
    }


def silences(times: Iterable[float], interval: float, last: float | None, end: float) -> list[Incident]:
    """The silences of a machine in a day, as incidents with the detector "silence".

    A silence is more than 10 intervals without a reading, and more than 5 minutes: ten polls in a row do not fail by
    chance, and a machine or a switch that starts anew is back in 5 minutes. It lasts from the reading before it to the
    one after it, or to `end`, the end of the day; one that is open at midnight keeps its start by `last`, the machine's
    last reading before the day (None: it is new, and was not silent before its first). Times in seconds.
    """
    limit = max(10 * interval, 300.0)
    heard = [*([] if last is None else [last]), *times, end]
    return [
        {
            "start": before,
            "end": after,
            "readings": 0,
            "peak": None,
            "expected": None,
            "deviation": (after - before) / limit,
            "detector": "silence",
            "why": f"no reading for {_length(after - before)}; one was due every {_length(interval)}",
        }
        for before, after in pairwise(heard)
        if after - before > limit
    ]


def _length(seconds: float) -> str:
    """A length of time, in the unit people would say it in."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"
