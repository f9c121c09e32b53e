"""The detectors and notes of one machine and day, and what passes to its next day."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from etl.analysis.columns import Bools, Codes, Columns, Floats
from etl.analysis.detectors import DETECTORS, Readings
from etl.analysis.incidents import Incident, incidents, silences
from etl.analysis.notes import lacking_note, notes
from etl.analysis.past import BASELINE_READINGS, OpenIncident, Past, Tail
from etl.readings.records import Settings


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
    tails = past.tails if past else [Tail(b"", b"", b"", [], None)] * len(columns.values)
    parameters = []
    for field, values, tail in zip(settings.parameters.values(), columns.values, tails, strict=True):
        lacks = np.isnan(values)
        day = _readings(columns.times, values, columns.codes, columns.statuses, ~lacks)
        result = _analyze_parameter(day, tail, settings, start)
        parameters.append(result._replace(notes=lacking_note(lacks, field) + result.notes))
    silent = silences(columns.times.tolist(), settings.interval, past.last if past else None, end)
    return MachineDay(silent, parameters, Past(float(columns.times[-1]), [entry.tail for entry in parameters]))


def _analyze_parameter(day: Readings, tail: Tail, settings: Settings, start: float) -> ParameterDay:
    times, values = np.frombuffer(tail.times), np.frombuffer(tail.values)
    codes = np.frombuffer(tail.codes, np.uint8)
    before = _readings(times, values, codes, tail.statuses, times >= start)
    detections = {name: DETECTORS[name](before, day) for name in settings.detectors if len(day.values)}
    day_incidents, open_incident = incidents(day, detections, tail.open_incident)
    return ParameterDay(day_incidents, notes(day.values, settings.threshold), _tail(before, day, open_incident))


def _readings(
    times: Floats, values: Floats, codes: NDArray[np.uint8], statuses: Iterable[str | None], selected: Bools
) -> Readings:
    # All statuses without a code share a text; a field with that many is no status, and the detectors ignore it.
    texts = [*statuses, "another"]
    return Readings(times[selected], values[selected], [texts[code] for code in codes[selected].tolist()])


def _tail(before: Readings, day: Readings, open_incident: OpenIncident | None) -> Tail:
    """The last BASELINE_READINGS of both."""
    times, values = (
        np.concatenate(columns)[-BASELINE_READINGS:].tobytes() for columns in zip(before[:2], day[:2], strict=True)
    )
    texts = Codes()
    statuses = [*before.statuses, *day.statuses][-BASELINE_READINGS:]
    codes = bytes(map(texts.__getitem__, statuses))
    return Tail(times, values, codes, list(texts), open_incident)
