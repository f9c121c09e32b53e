"""Incidents: flagged readings grouped for people, lasting changes, and silences."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from etl.analysis.bands import formatter, places_of
from etl.analysis.columns import Floats
from etl.analysis.detectors import Bands, Detection, Series, values_outside
from etl.analysis.past import BASELINE_READINGS, BLOCK_READINGS, LASTING_DAYS, OpenIncident, Tail
from etl.readings.records import DetectorName
from etl.readings.text import duration

MAX_GAP_READINGS = BLOCK_READINGS
"""Flagged readings at most this many readings apart belong to one incident: 5 minutes at 10 s."""
SLOW_INTERVAL_S = 300.0
"""At shorter intervals an incident needs two readings: a spike is flagged on its way out and back, and a single flagged
reading of thousands is noise."""
DAY_S = 86_400.0
"""An incident that is open for a day is a lasting change: the rhythm of most machines is a day."""
MIN_LASTING_READINGS = 100
"""A lasting change has at least so many readings, so that the bands have learned the new values at long intervals."""
SILENCE_INTERVALS = 10
SILENCE_S = 300.0
"""A machine is silent after the longer of both: ten polls in a row do not fail by chance, and a machine or switch that
restarts answers again within 5 minutes."""

Incident = dict[str, Any]
"""{"start", "end", "readings", "peak", "expected", "deviation", "detector", "why"}; a lasting change has "lasting" too.

`start` and `end` are the times (seconds since the epoch) of the first and the last reading, `readings` is the number of
those that are flagged, or outside of the bands before the incident. `peak` is the value with the largest `deviation`,
in units of the limit, and `expected` the range [low, high] for it.
"""
Detections = Mapping[DetectorName, tuple[Detection, Bands]]


class DayIncidents(NamedTuple):
    """The incidents of one parameter and day in order of their start, and those that the next day continues."""

    incidents: list[Incident]
    current: OpenIncident | None
    lasting: list[OpenIncident]


def incidents(series: Series, detections: Detections, tail: Tail, zone: ZoneInfo) -> DayIncidents:
    """Group the flagged readings of a day; `tail` has the incidents that the day before left open.

    An incident ends when the values are back within the bands before it for MAX_GAP_READINGS. If it is open for a day,
    it becomes a lasting change. Its name is that of the detector with the largest deviation.
    """
    size, position, result = len(series.times), series.start, list[Incident]()
    current, lasting = tail.current, list(tail.lasting)
    deviations = np.array([detection.deviation for detection, _ in detections.values()])
    for change in lasting:
        # What was normal before a lasting change still is.
        deviations[:, _frozen(series, detections, change).deviation <= 1] = 0.0
    while position < size:
        if current is None:
            flagged = np.flatnonzero(deviations[:, position:].max(axis=0) > 1)
            if not len(flagged):
                break
            position += int(flagged[0])
            current = _opened(series, detections, deviations, position)
        stop = int(np.searchsorted(series.times, current.incident["start"] + DAY_S))
        stop = min(max(stop, position + MIN_LASTING_READINGS - current.incident["readings"]), size)
        current, last = _continued(series, detections, deviations, current, range(position, stop))
        is_open = current.quiet < MAX_GAP_READINGS
        if is_open and stop < size:
            lasting.append(current)
        elif last is not None and current.incident["readings"] > (series.interval < SLOW_INTERVAL_S):
            result.append(current.incident)
        if is_open and stop == size:
            break
        position = stop if is_open else position if last is None else last + 1
        current = None
    changes = [_lasting(series, detections, change, zone) for change in lasting]
    result += [item for item, _ in changes if item]
    places = places_of(series.values)
    rounded = [_rounded(incident, places) for incident in sorted(result, key=lambda incident: incident["start"])]
    return DayIncidents(rounded, current, [change for _, change in changes if change])


def _frozen(series: Series, detections: Detections, incident: OpenIncident) -> Detection:
    """The readings compared with the bands as they were before an incident."""
    _, bands = detections[incident.detector]
    return values_outside(series, bands, bands.frozen(incident.bands))


def _opened(series: Series, detections: Detections, deviations: Floats, position: int) -> OpenIncident:
    """A new incident, which begins with the reading at this position and has no readings yet."""
    detector, (detection, bands) = list(detections.items())[int(np.argmax(deviations[:, position]))]
    start, group = detection.first(position), bands.groups[position]
    before = slice(max(start - BASELINE_READINGS, 0), start)
    earlier = series.values[before][bands.groups[before] == group]
    moment = float(series.times[start])
    return OpenIncident(
        {
            "start": moment,
            "end": moment,
            "readings": 0,
            "peak": 0.0,
            "expected": [],
            "deviation": 0.0,
            "detector": detector,
            "why": "",
        },
        0,
        detector,
        bands.freeze(position),
        bands.keys[group],
        float(np.median(earlier)) if len(earlier) else float(series.values[position]),
    )


def _continued(
    series: Series, detections: Detections, deviations: Floats, incident: OpenIncident, part: range
) -> tuple[OpenIncident, int | None]:
    """An open incident with its readings in a part of the series; also the last one there, if there is any."""
    frozen = _frozen(series, detections, incident)
    stack = np.vstack((frozen.deviation, deviations))[:, part.start : part.stop]
    members = np.flatnonzero(stack.max(axis=0) > 1)
    ends = np.flatnonzero(np.diff(members, prepend=-1 - incident.quiet) > MAX_GAP_READINGS)
    members = members[: ends[0]] if len(ends) else members
    if not len(members):
        return msgspec.structs.replace(incident, quiet=incident.quiet + len(part)), None
    strongest, at = np.unravel_index(np.argmax(stack[:, members]), (len(stack), len(members)))
    names = [incident.detector, *detections]
    detection = [frozen, *(detection for detection, _ in detections.values())][strongest]
    last, peak = part.start + int(members[-1]), part.start + int(members[at])
    merged = incident.incident | {"end": float(series.times[last])}
    merged["readings"] += len(members)
    if detection.deviation[peak] > merged["deviation"]:
        merged |= _peak(series, detection, peak) | {"detector": names[strongest], "why": detection.explain(peak)}
    return msgspec.structs.replace(incident, incident=merged, quiet=part.stop - 1 - last), last


def _peak(series: Series, detection: Detection, i: int) -> dict[str, Any]:
    return {
        "peak": float(series.values[i]),
        "expected": [float(detection.low[i]), float(detection.high[i])],
        "deviation": float(detection.deviation[i]),
    }


def _lasting(
    series: Series, detections: Detections, change: OpenIncident, zone: ZoneInfo
) -> tuple[Incident | None, OpenIncident | None]:
    """A lasting change as an item of the day's incidents, and for the next day unless it has ended."""
    start, last = change.incident["start"], float(series.times[-1])
    if last >= start + (1 + LASTING_DAYS) * DAY_S:
        return None, None
    frozen, (_, bands) = _frozen(series, detections, change), detections[change.detector]
    outside = series.start + np.flatnonzero(frozen.deviation[series.start :] > 1)
    quiet = len(series.times) - 1 - (outside[-1] if len(outside) else series.start - 1)
    following = change if quiet < MAX_GAP_READINGS else None
    if not len(outside):
        return None, following
    comparable = np.array(bands.keys)[bands.groups[outside]] == change.key
    level = float(np.median(series.values[outside][comparable if np.any(comparable) else slice(None)]))
    text, since = formatter(series.values), datetime.fromtimestamp(start, zone)
    sign = "+" if level > change.level else ""
    why = f"{sign}{text(level - change.level)} since {since:%Y-%m-%d %H:%M}: about {text(level)}, before it"
    peak = outside[np.argmax(frozen.deviation[outside])]
    item = {
        "start": start,
        "end": float(series.times[outside[-1]]),
        "readings": len(outside),
        **_peak(series, frozen, peak),
        "detector": change.detector,
        "why": f"{why} {text(change.level)}",
        "lasting": True,
    }
    return item, following


def _rounded(incident: Incident, places: int) -> Incident:
    """The incident with its figures rounded to these decimal places; never -0.0."""
    low, high = incident["expected"]
    figures = {"peak": round(incident["peak"], places) + 0.0, "expected": [round(low, places) + 0.0,
               round(high, places) + 0.0]}  # fmt: skip
    return incident | figures


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
            "why": f"no reading for {duration(after - before)}; the interval is {duration(interval)}",
        }
        for before, after in pairwise(moments)
        if after - before > limit
    ]
