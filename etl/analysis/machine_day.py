"""One machine's day judged: its incidents, notes on the rule, and what is known of it afterwards. Pure, with numpy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from etl.analysis.bands import Bools
from etl.analysis.columns import Codes, Columns, Floats
from etl.analysis.detectors import DETECTORS, Judged, Readings
from etl.analysis.incidents import Incident, incidents, silences
from etl.analysis.notes import notes
from etl.analysis.past import MEMORY, Judging, Past, Tail

_NOTHING = Tail(b"", b"", b"", [], None)


class Parameter(NamedTuple):
    """What is worth reading of one parameter, and what passes to the next day."""

    incidents: list[Incident]
    notes: list[str]
    tail: Tail


class Judgement(NamedTuple):
    """What is worth reading of a machine's day, and what passes to the next one."""

    silences: list[Incident]
    parameters: list[Parameter]
    past: Past


def judge(columns: Columns, past: Past | None, by: Judging) -> Judgement:
    """Judge the day of a machine by what is known of it; what ended before `by.since` is forgotten."""
    if past is not None and past.last < by.since:
        past = None
    tails = past.tails if past else [_NOTHING] * len(columns.values)
    parameters = []
    for values, tail in zip(columns.values, tails, strict=True):
        day = _readings(columns.times, values, columns.codes, columns.statuses, ~np.isnan(values))
        parameters.append(_judge(day, tail, by))
    silent = silences(columns.times.tolist(), by.interval, past.last if past else None, by.end)
    return Judgement(silent, parameters, Past(float(columns.times[-1]), [one.tail for one in parameters]))


def _judge(day: Readings, tail: Tail, by: Judging) -> Parameter:
    times, values = np.frombuffer(tail.times), np.frombuffer(tail.values)
    codes = np.frombuffer(tail.codes, np.uint8)
    before = _readings(times, values, codes, tail.statuses, times >= by.since)
    judged: dict[str, Judged] = {name: DETECTORS[name](before, day) for name in by.detectors} if len(day.values) else {}
    found, carried = incidents(day, judged, tail.carried)
    return Parameter(found, notes(day.values, by.threshold), _tail(before, day, carried))


def _readings(
    times: Floats, values: Floats, codes: NDArray[np.uint8], statuses: Iterable[str | None], kept: Bools
) -> Readings:
    """The readings that are kept, with their statuses as text."""
    # One text for all that have no code: a field with so many is no status, and the detectors ignore it.
    texts = [*statuses, "another"]
    return Readings(times[kept], values[kept], [texts[code] for code in codes[kept].tolist()])


def _tail(before: Readings, day: Readings, carried: dict[str, object] | None) -> Tail:
    """The last MEMORY readings of both."""
    times, values = (np.concatenate(both)[-MEMORY:].tobytes() for both in zip(before[:2], day[:2], strict=True))
    texts = Codes()
    codes = bytes(texts[cast("str | None", status)] for status in [*before.statuses, *day.statuses][-MEMORY:])
    return Tail(times, values, codes, list(texts), carried)
