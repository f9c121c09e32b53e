"""The detectors and notes of one machine and day, and what passes to its next day."""

from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from etl.analysis.columns import OTHER_STATUS_CODE, Codes, Columns, Floats
from etl.analysis.detectors import DETECTORS, Series
from etl.analysis.incidents import DayIncidents, Incident, incidents, silences
from etl.analysis.notes import lacking_note, notes
from etl.analysis.past import TAIL_READINGS, Past, Tail
from etl.readings.records import Settings

MAX_STATUSES = 16
"""A status field with more different texts is a comment, and is ignored."""


class ParameterDay(NamedTuple):
    """The incidents and notes of one parameter, and its tail for the next day."""

    incidents: list[Incident]
    notes: list[str]
    tail: Tail


class MachineDay(NamedTuple):
    """The silences of a machine, its parameters, and its past for the next day."""

    silences: list[Incident]
    parameters: list[ParameterDay]
    past: Past


def analyze_machine(columns: Columns, past: Past | None, settings: Settings, start: float, end: float) -> MachineDay:
    """Run the detectors on a machine's day.

    Readings before `start` are ignored; nothing is silent after `end`, the end of the day (seconds since the epoch).
    """
    if past is not None and past.last < start:
        past = None
    tails = past.tails if past else [Tail()] * len(columns.values)
    parameters = [_analyze_parameter(columns, place, tail, settings, start) for place, tail in enumerate(tails)]
    silent = silences(columns.times, settings.interval, past.last if past else None, end)
    return MachineDay(silent, parameters, Past(float(columns.times[-1]), [entry.tail for entry in parameters]))


def _analyze_parameter(columns: Columns, place: int, tail: Tail, settings: Settings, start: float) -> ParameterDay:
    values, field = columns.values[place], list(settings.parameters.values())[place]
    series = _series(columns, values, tail, settings.interval, start)
    day_incidents = DayIncidents([], tail.current, tail.lasting)
    names = [name for name in settings.detectors if name in DETECTORS and series.start < len(series.times)]
    if names:
        detections = {name: DETECTORS[name](series) for name in names}
        day_incidents = incidents(series, detections, tail, ZoneInfo(settings.timezone))
    sentences = notes(series.values[series.start :], settings.threshold, bool(day_incidents.incidents))
    sentences = lacking_note(np.isnan(values), field) + sentences
    return ParameterDay(day_incidents.incidents, sentences, _tail(series, day_incidents))


def _series(columns: Columns, values: Floats, tail: Tail, interval: float, start: float) -> Series:
    """The readings of the tail, from `start` on, and those of the day, under the same codes."""
    texts = Codes(columns.statuses)
    same_code = np.array([texts[status] for status in tail.statuses], np.int64)
    tail_times = np.frombuffer(tail.times)
    recent, numbers = tail_times >= start, ~np.isnan(values)
    codes = np.concatenate(
        (same_code[np.frombuffer(tail.codes, np.uint8)][recent], columns.codes[numbers].astype(np.int64))
    )
    statuses = [*texts, *["another"] * (OTHER_STATUS_CODE + 1 - len(texts))]
    if np.count_nonzero(np.bincount(codes)) > MAX_STATUSES:
        codes, statuses = np.zeros_like(codes), [None]
    return Series(
        np.concatenate((tail_times[recent], columns.times[numbers])),
        np.concatenate((np.frombuffer(tail.values)[recent], values[numbers])),
        codes,
        statuses,
        int(np.sum(recent)),
        interval,
    )


def _tail(series: Series, day_incidents: DayIncidents) -> Tail:
    """The last TAIL_READINGS of a series."""
    used, codes = np.unique(series.codes[-TAIL_READINGS:], return_inverse=True)
    times, values = (column[-TAIL_READINGS:].tobytes() for column in (series.times, series.values))
    statuses = [series.statuses[code] for code in used]
    return Tail(times, values, codes.astype(np.uint8).tobytes(), statuses, *day_incidents[1:])
