"""What flagged readings become for people, over midnight too; and silences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.analysis.detectors import DETECTORS, Judged, Readings
from etl.analysis.incidents import GAP, incidents, silences
from etl.analysis.past import MEMORY

DAY = 8640


def day_of(deviations, start: int = 0) -> Readings:
    """Readings 10 s apart whose values are their numbers."""
    numbers = np.arange(start, start + len(deviations), dtype=float)
    return Readings(10 * numbers, numbers, [None] * len(numbers))


def judged(deviations, low: float = -1.0) -> Judged:
    deviations = np.array(deviations, float)
    expected = np.full(len(deviations), low)
    return Judged(deviations, expected, expected + 2, lambda i: f"reading {i} of {low}")


def flag(size: int, **flagged: float) -> np.ndarray:
    """Deviations of 0, but for those of the readings named, such as r7=2.0."""
    deviations = np.zeros(size)
    for name, deviation in flagged.items():
        deviations[int(name[1:])] = deviation
    return deviations


def nights(values, borders, statuses=None, names=("telemetry", "status_band")) -> list[list[dict]]:
    """The incidents of each day of a series that is cut into days at the borders; what is carried passes as JSON."""
    values, carried, found = np.array(values, float), None, []
    whole = Readings(1e9 + 10 * np.arange(len(values)), values, statuses or [None] * len(values))
    for start, end in pairwise(borders):
        before, day = (
            Readings(*(column[part] for column in whole))
            for part in (slice(max(start - MEMORY, 0), start), slice(start, end))
        )
        each, carried = incidents(day, {name: DETECTORS[name](before, day) for name in names}, carried)
        carried = orjson.loads(orjson.dumps(carried))
        found.append(each)
    return found


def test_flagged_readings_at_most_30_apart_are_one_incident():
    """What lies 31 readings apart is two; each has its own bounds and the reading that deviated most."""
    deviations = flag(200, r7=1.5, r37=2.5, r68=1.2, r70=1.0)
    found, carried = incidents(day_of(deviations), {"telemetry": judged(deviations)})
    assert carried is None
    assert found == [
        {"start": 70.0, "end": 370.0, "readings": 2, "peak": 37.0, "expected": [-1.0, 1.0], "deviation": 2.5,
         "detector": "telemetry", "why": "reading 37 of -1.0"},
        {"start": 680.0, "end": 680.0, "readings": 1, "peak": 68.0, "expected": [-1.0, 1.0], "deviation": 1.2,
         "detector": "telemetry", "why": "reading 68 of -1.0"},
    ]  # fmt: skip


def test_detectors_that_overlap_make_one_incident_named_for_the_strongest():
    """Two detectors that flag the same time are one incident, told by the one that deviates most."""
    one, other = flag(100, r10=2.0, r11=2.0), flag(100, r11=3.0, r20=1.1)
    (found,), _ = incidents(day_of(one), {"telemetry": judged(one), "status_band": judged(other, 5.0)})
    assert (found["start"], found["end"], found["readings"]) == (100.0, 200.0, 3)
    assert (found["detector"], found["deviation"], found["expected"]) == ("status_band", 3.0, [5.0, 7.0])


@settings(deadline=None)
@given(
    flagged=st.dictionaries(st.integers(0, 299), st.sampled_from([1.5, 2.0, 3.0]), max_size=12),
    borders=st.sets(st.integers(1, 299), max_size=6),
)
@example(flagged={100: 2.0, 130: 2.0, 161: 2.0}, borders={100, 110, 131, 140})
def test_midnight_parts_no_incident(flagged, borders):
    """However a series is cut into days, the last word on each incident is what one long day would say."""
    deviations = flag(300, **{f"r{i}": deviation for i, deviation in flagged.items()})
    whole, _ = incidents(day_of(deviations), {"telemetry": judged(deviations)})
    carried, told = None, {}
    cuts = [0, *sorted(borders), 300]
    for start, end in pairwise(cuts):
        part = deviations[start:end]
        found, carried = incidents(day_of(part, start), {"telemetry": judged(part)}, carried)
        carried = orjson.loads(orjson.dumps(carried))
        told |= {incident["start"]: incident for incident in found}
    without = [{key: value for key, value in one.items() if key != "why"} for one in told.values()]
    assert without == [{key: value for key, value in one.items() if key != "why"} for one in whole]


@pytest.mark.parametrize("name", sorted(DETECTORS))
@pytest.mark.parametrize("before", [4000, 1, 8, 60, 300])
def test_a_lasting_change_of_level_is_reported_once(name, before):
    """A level that changes shortly before midnight, and stays, is one incident with one start, and none later."""
    change = 2 * DAY - before
    values = np.random.default_rng(1).normal(50, 1, 4 * DAY)
    values[change:] += 40
    statuses = ["STARTED" if i % 300 < 200 else "IDLE" for i in range(len(values))]
    days = nights(values, [0, DAY, 2 * DAY, 3 * DAY, 4 * DAY], statuses, [name])
    starts = {incident["start"] for found in days for incident in found}
    assert starts == {1e9 + 10 * change}
    assert not days[3]


def test_a_stuck_sensor_is_one_incident_over_midnight():
    """A sensor that sticks in the evening is one incident in both reports; it is the new normal some hours later."""
    values = np.random.default_rng(1).normal(50, 1, 3 * DAY)
    values[DAY - 200 :] = 50.0
    first, second, third = nights(values, [0, DAY, 2 * DAY, 3 * DAY])
    assert [one["start"] for one in first] == [one["start"] for one in second] == [1e9 + 10 * (DAY - 200 + 60)]
    assert first[0]["readings"] < second[0]["readings"] < MEMORY
    assert third == []


def test_a_silence_is_an_incident_that_keeps_its_start():
    """Longer than ten intervals and five minutes; open at midnight it ends with the day, and goes on in the next."""
    heard = [0.0, 10.0, 310.0, 620.0, 630.0]
    today = silences(heard, 10.0, None, 1000.0)
    assert [(one["start"], one["end"]) for one in today] == [(310.0, 620.0), (630.0, 1000.0)]
    tomorrow = silences([1400.0, 1410.0], 10.0, heard[-1], 1500.0)
    assert [(one["start"], one["end"], one["detector"]) for one in tomorrow] == [(630.0, 1400.0, "silence")]
    assert tomorrow[0]["why"] == "no reading for 13 minutes; one was due every 10 s"
    assert silences([], 3600.0, 0.0, 36_000.0) == []
    assert silences([5000.0], 10.0, None, 5010.0) == []
    assert orjson.loads(orjson.dumps(tomorrow)) == tomorrow


def test_a_day_without_readings_carries_on():
    """Of a parameter without a number that day nothing is said, and nothing forgotten."""
    carried = {"incident": {"start": 1.0}, "quiet": 3}
    assert incidents(day_of([]), {"telemetry": judged([])}, carried) == ([], carried)
    assert incidents(day_of([0.0] * GAP), {"telemetry": judged([0.0] * GAP)}, carried) == ([], None)
