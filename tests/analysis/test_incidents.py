"""Flagged readings grouped into incidents, also across midnight, and silences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.analysis.detectors import DETECTORS, Detection, Readings
from etl.analysis.incidents import MAX_GAP_READINGS, incidents, silences
from etl.analysis.past import BASELINE_READINGS

DAY = 8640


def day_of(deviations, start: int = 0) -> Readings:
    """Readings 10 s apart; the value of each is its number."""
    numbers = np.arange(start, start + len(deviations), dtype=float)
    return Readings(10 * numbers, numbers, [None] * len(numbers))


def detection_of(deviations, low: float = -1.0) -> Detection:
    deviations = np.array(deviations, float)
    expected = np.full(len(deviations), low)
    return Detection(deviations, expected, expected + 2, lambda i: f"reading {i} of {low}")


def flag(size: int, **flagged: float) -> np.ndarray:
    """Deviations of 0, except for the readings given by number, such as r7=2.0."""
    deviations = np.zeros(size)
    for name, deviation in flagged.items():
        deviations[int(name[1:])] = deviation
    return deviations


def nights(values, borders, statuses=None, names=("telemetry", "status_band")) -> list[list[dict]]:
    """The incidents of each day of a series split at the borders; the open incident passes through JSON."""
    values, open_incident, result = np.array(values, float), None, []
    whole = Readings(1e9 + 10 * np.arange(len(values)), values, statuses or [None] * len(values))
    for start, end in pairwise(borders):
        before, day = (
            Readings(*(column[part] for column in whole))
            for part in (slice(max(start - BASELINE_READINGS, 0), start), slice(start, end))
        )
        each, open_incident = incidents(day, {name: DETECTORS[name](before, day) for name in names}, open_incident)
        open_incident = orjson.loads(orjson.dumps(open_incident))
        result.append(each)
    return result


def test_flagged_readings_at_most_30_apart_are_one_incident():
    """Flagged readings 31 apart are two incidents, each with its bounds and its largest deviation."""
    deviations = flag(200, r7=1.5, r37=2.5, r68=1.2, r70=1.0)
    result, open_incident = incidents(day_of(deviations), {"telemetry": detection_of(deviations)})
    assert open_incident is None
    assert result == [
        {
            "start": 70.0,
            "end": 370.0,
            "readings": 2,
            "peak": 37.0,
            "expected": [-1.0, 1.0],
            "deviation": 2.5,
            "detector": "telemetry",
            "why": "reading 37 of -1.0",
        },
        {
            "start": 680.0,
            "end": 680.0,
            "readings": 1,
            "peak": 68.0,
            "expected": [-1.0, 1.0],
            "deviation": 1.2,
            "detector": "telemetry",
            "why": "reading 68 of -1.0",
        },
    ]


def test_detectors_that_overlap_make_one_incident_named_for_the_strongest():
    """Two detectors that flag the same time make one incident, with the name of the larger deviation."""
    one, other = flag(100, r10=2.0, r11=2.0), flag(100, r11=3.0, r20=1.1)
    (result,), _ = incidents(day_of(one), {"telemetry": detection_of(one), "status_band": detection_of(other, 5.0)})
    assert (result["start"], result["end"], result["readings"]) == (100.0, 200.0, 3)
    assert (result["detector"], result["deviation"], result["expected"]) == ("status_band", 3.0, [5.0, 7.0])


@settings(deadline=None)
@given(
    flagged=st.dictionaries(st.integers(0, 299), st.sampled_from([1.5, 2.0, 3.0]), max_size=12),
    borders=st.sets(st.integers(1, 299), max_size=6),
)
@example(flagged={100: 2.0, 130: 2.0, 161: 2.0}, borders={100, 110, 131, 140})
def test_midnight_splits_no_incident(flagged, borders):
    """The last version of each incident is that of one long day, however the series is split into days."""
    deviations = flag(300, **{f"r{i}": deviation for i, deviation in flagged.items()})
    whole, _ = incidents(day_of(deviations), {"telemetry": detection_of(deviations)})
    open_incident, latest = None, {}
    cuts = [0, *sorted(borders), 300]
    for start, end in pairwise(cuts):
        part = deviations[start:end]
        result, open_incident = incidents(day_of(part, start), {"telemetry": detection_of(part)}, open_incident)
        open_incident = orjson.loads(orjson.dumps(open_incident))
        latest |= {incident["start"]: incident for incident in result}
    without = [{key: value for key, value in one.items() if key != "why"} for one in latest.values()]
    assert without == [{key: value for key, value in one.items() if key != "why"} for one in whole]


@pytest.mark.parametrize("name", sorted(DETECTORS))
@pytest.mark.parametrize("before", [4000, 1, 8, 60, 300])
def test_a_lasting_change_of_level_is_reported_once(name, before):
    """A lasting change of level shortly before midnight is one incident with one start; none follows."""
    change = 2 * DAY - before
    values = np.random.default_rng(1).normal(50, 1, 4 * DAY)
    values[change:] += 40
    statuses = ["STARTED" if i % 300 < 200 else "IDLE" for i in range(len(values))]
    days = nights(values, [0, DAY, 2 * DAY, 3 * DAY, 4 * DAY], statuses, [name])
    starts = {incident["start"] for result in days for incident in result}
    assert starts == {1e9 + 10 * change}
    assert not days[3]


def test_a_stuck_sensor_is_one_incident_across_midnight():
    """A sensor that sticks in the evening is one incident in both reports, and normal some hours later."""
    values = np.random.default_rng(1).normal(50, 1, 3 * DAY)
    values[DAY - 200 :] = 50.0
    first, second, third = nights(values, [0, DAY, 2 * DAY, 3 * DAY])
    assert [one["start"] for one in first] == [one["start"] for one in second] == [1e9 + 10 * (DAY - 200 + 60)]
    assert first[0]["readings"] < second[0]["readings"] < BASELINE_READINGS
    assert third == []


def test_a_silence_is_an_incident_that_keeps_its_start():
    """A silence longer than 10 intervals and 5 minutes ends with the day if it is open, and continues on the next."""
    heard = [0.0, 10.0, 310.0, 620.0, 630.0]
    today = silences(heard, 10.0, None, 1000.0)
    assert [(one["start"], one["end"]) for one in today] == [(310.0, 620.0), (630.0, 1000.0)]
    tomorrow = silences([1400.0, 1410.0], 10.0, heard[-1], 1500.0)
    assert [(one["start"], one["end"], one["detector"]) for one in tomorrow] == [(630.0, 1400.0, "silence")]
    assert tomorrow[0]["why"] == "no reading for 13 minutes; the interval is 10 s"
    assert silences([], 3600.0, 0.0, 36_000.0) == []
    assert silences([5000.0], 10.0, None, 5010.0) == []
    assert orjson.loads(orjson.dumps(tomorrow)) == tomorrow


def test_a_day_without_readings_keeps_the_open_incident():
    """A day without a number has no incident and passes the open one on; quiet readings close it."""
    open_incident = {"incident": {"start": 1.0}, "quiet": 3}
    assert incidents(day_of([]), {"telemetry": detection_of([])}, open_incident) == ([], open_incident)
    quiet = [0.0] * MAX_GAP_READINGS
    assert incidents(day_of(quiet), {"telemetry": detection_of(quiet)}, open_incident) == ([], None)
