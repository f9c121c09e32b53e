"""Flagged readings grouped into incidents, also across midnight, lasting changes, and silences."""

from __future__ import annotations

import re
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.analysis.bands import Band
from etl.analysis.columns import Codes, Columns
from etl.analysis.detectors import Bands, Detection, Series
from etl.analysis.incidents import MAX_GAP_READINGS, incidents, silences
from etl.analysis.machine_day import analyze_machine
from etl.analysis.past import BASELINE_READINGS, Past, Tail
from etl.readings.records import Settings

DAY = 8640
BERLIN = ZoneInfo("Europe/Berlin")
FAR = 1e9
"""An edge that no value of these tests reaches."""


def series_of(deviations, start: int = 0, interval: float = 300.0) -> Series:
    """A day of readings; the value of each is its number, a multiple of 1."""
    numbers = np.arange(start, start + len(deviations), dtype=float)
    return Series(interval * numbers, numbers, np.zeros(len(numbers), np.int64), [None], 0, interval)


def detected(deviations, low: float = -1.0, edges: tuple[float, float] = (-FAR, FAR)) -> tuple[Detection, Bands]:
    """Given deviations, expected in `low` to `low` + 2; the band before each incident has these edges."""
    deviations = np.array(deviations, float)
    expected = np.full(len(deviations), low)
    columns = [np.full((1, len(deviations) // 30 + 1), value) for value in (*edges, *edges, 500.0)]
    bands = Bands([""], ["readings before it"], np.zeros(len(deviations), np.int64), Band(*columns))
    return Detection(deviations, expected, expected + 2, lambda i: f"reading {i} of {low}"), bands


def group(deviations, detections, tail: Tail | None = None, start: int = 0, interval: float = 300.0):
    return incidents(series_of(deviations, start, interval), detections, tail or Tail(), BERLIN)


def flag(size: int, **flagged: float) -> np.ndarray:
    """Deviations of 0, except for the readings given by number, such as r7=2.0."""
    deviations = np.zeros(size)
    for name, deviation in flagged.items():
        deviations[int(name[1:])] = deviation
    return deviations


def days_of(values, days: int, statuses=None) -> list[list[dict]]:
    """The incidents of each day of a machine that is polled every 10 s; its past passes through msgpack."""
    values, size = np.array(values, float), len(values) // days
    setting = Settings(5, {"speed": "speed"}, "Europe/Berlin", 10.0, 0.2, ("telemetry", "status_band"))
    past, result = None, []
    for day in range(days):
        part = slice(day * size, (day + 1) * size)
        texts = Codes()
        codes = np.array([texts[status] for status in (statuses[part] if statuses else [None] * size)], np.uint8)
        times = 1e9 + 10.0 * np.arange(part.start, part.stop)
        columns = Columns("Fan", size, times, [values[part]], codes, texts)
        machine = analyze_machine(columns, past, setting, 0.0, 2e9)
        past = msgspec.msgpack.decode(msgspec.msgpack.encode(machine.past), type=Past)
        result.append(machine.parameters[0].incidents)
    return result


def test_flagged_readings_at_most_30_apart_are_one_incident():
    """Flagged readings 31 apart are two incidents, each with its bounds and its largest deviation."""
    deviations = flag(200, r7=1.5, r37=2.5, r68=1.2, r70=1.0)
    result = group(deviations, {"telemetry": detected(deviations)})
    assert (result.current, result.lasting) == (None, [])
    assert result.incidents == [
        {
            "start": 2100.0,
            "end": 11_100.0,
            "readings": 2,
            "peak": 37.0,
            "expected": [-1.0, 1.0],
            "deviation": 2.5,
            "detector": "telemetry",
            "why": "reading 37 of -1.0",
        },
        {
            "start": 20_400.0,
            "end": 20_400.0,
            "readings": 1,
            "peak": 68.0,
            "expected": [-1.0, 1.0],
            "deviation": 1.2,
            "detector": "telemetry",
            "why": "reading 68 of -1.0",
        },
    ]


def test_below_five_minutes_an_incident_needs_two_readings():
    """A single flagged reading of many is noise; at 300 s and more it is an incident."""
    single, pair = flag(100, r7=1.5), flag(100, r7=1.5, r8=1.2)
    for interval, deviations, count in ((10.0, single, 0), (10.0, pair, 1), (299.0, single, 0), (300.0, single, 1)):
        result = group(deviations, {"telemetry": detected(deviations)}, interval=interval)
        assert len(result.incidents) == count


def test_detectors_that_overlap_make_one_incident_named_for_the_strongest():
    """Two detectors that flag the same time make one incident, with the name of the larger deviation."""
    first, second = flag(100, r10=2.0, r11=2.0), flag(100, r11=3.0, r20=1.1)
    (result,) = group(first, {"telemetry": detected(first), "status_band": detected(second, 5.0)}).incidents
    assert (result["start"], result["end"], result["readings"]) == (3000.0, 6000.0, 3)
    assert (result["detector"], result["deviation"], result["expected"]) == ("status_band", 3.0, [5.0, 7.0])


def test_an_incident_ends_when_the_values_are_back_within_the_band_before_it():
    """Readings that no rolling band flags any longer still belong to it while they are outside of the earlier band."""
    deviations = flag(215, r100=1.5, r101=1.2)
    (result,) = group(deviations, {"telemetry": detected(deviations, edges=(90.0, 110.0))}).incidents
    assert (result["start"], result["end"], result["readings"]) == (30_000.0, 300.0 * 214, 106)
    assert (result["peak"], result["expected"]) == (214.0, [90.0, 110.0])
    assert result["why"] == "214 is outside 90 to 110, the range of nearly all 500 readings before it"
    back = group(deviations, {"telemetry": detected(deviations, edges=(90.0, 300.0))}).incidents
    assert [each["end"] for each in back] == [300.0 * 101]


@settings(deadline=None)
@given(
    flagged=st.dictionaries(st.integers(0, 199), st.sampled_from([1.5, 2.0, 3.0]), max_size=12),
    borders=st.sets(st.integers(1, 199), max_size=6),
    interval=st.sampled_from([10.0, 300.0]),
)
@example(flagged={100: 2.0, 130: 2.0, 161: 2.0}, borders={100, 110, 131, 140}, interval=300.0)
def test_midnight_splits_no_incident(flagged, borders, interval):
    """The last version of each incident is that of one long day, however the series is split into days."""
    deviations = flag(200, **{f"r{i}": deviation for i, deviation in flagged.items()})
    whole = group(deviations, {"telemetry": detected(deviations)}, interval=interval).incidents
    tail, latest = Tail(), {}
    for start, end in pairwise([0, *sorted(borders), 200]):
        part = deviations[start:end]
        result = group(part, {"telemetry": detected(part)}, tail, start, interval)
        tail = Tail(current=result.current, lasting=result.lasting)
        latest |= {incident["start"]: incident for incident in result.incidents}
    without = [{key: value for key, value in each.items() if key != "why"} for each in latest.values()]
    assert without == [{key: value for key, value in each.items() if key != "why"} for each in whole]


@pytest.mark.parametrize("before", [4000, 1, 8, 60, 300])
def test_a_level_that_stays_is_a_lasting_change_for_a_week(before):
    """It is one incident with one start, from the second day on a lasting change, and normal after a week."""
    change = 2 * DAY - before
    values = np.random.default_rng(1).normal(50, 1, 12 * DAY)
    values[change:] += 40
    statuses = ["STARTED" if i % 300 < 200 else "IDLE" for i in range(len(values))]
    days = days_of(values, 12, statuses)
    assert {incident["start"] for result in days for incident in result} == {1e9 + 10 * change}
    lasting = [[incident.get("lasting", False) for incident in result] for result in days]
    assert lasting == [[], [False][: before > 1], *[[True]] * 7, [], [], []]
    assert re.match(r"\+(40\.0|39\.9)\d* since 2001-09-1", days[5][0]["why"])


def test_a_lasting_change_ends_when_the_values_return():
    """The day of the return says so by its end; the values before the change were normal all the time."""
    values = np.random.default_rng(1).normal(-18, 0.2, 8 * DAY).round(1)
    values[DAY + 4000 : 4 * DAY + 3000] += 6
    days = days_of(values, 8)
    assert [len(result) for result in days] == [0, 1, 1, 1, 1, 0, 0, 0]
    last = days[4][0]
    assert last["lasting"]
    assert last["why"] == "+6.0 since 2001-09-10 14:53: about -12.0, before it -18.0"
    assert last["end"] == 1e9 + 10 * (4 * DAY + 2999)


def test_a_stuck_sensor_is_one_incident_across_midnight():
    """A sensor that sticks in the evening is one incident in both reports, from its first equal reading on."""
    values = np.random.default_rng(1).normal(50, 1, 3 * DAY)
    values[DAY - 200 : DAY + 900] = 50.0
    first, second, third = days_of(values, 3)
    assert [each["start"] for each in first] == [each["start"] for each in second] == [1e9 + 10 * (DAY - 200)]
    assert first[0]["readings"] < second[0]["readings"] < BASELINE_READINGS
    assert second[0]["end"] == 1e9 + 10 * (DAY + 899)
    assert third == []


def test_figures_are_rounded_to_what_the_sensor_resolves():
    """Peak and range of a sensor of tenths have one decimal place."""
    values = np.random.default_rng(1).normal(50, 1, 2 * DAY).round(1)
    values[DAY + 500 : DAY + 600] = 70.1
    _, (incident,) = days_of(values, 2)
    assert incident["peak"] == 70.1
    assert all(round(edge, 1) == edge for edge in incident["expected"])


def test_figures_have_the_digits_of_the_readings():
    """A sensor with two decimals has them in its incidents too, however much it scatters from reading to reading."""
    values = np.round(np.random.default_rng(1).normal(800, 100, DAY), 2)
    values[6000:6100] = 2345.67
    ((incident,),) = days_of(values, 1)
    assert incident["peak"] == 2345.67
    assert incident["expected"] == [round(edge, 2) for edge in incident["expected"]]
    assert re.match(r"2,345\.67 is outside [\d,]+\.\d\d to [\d,]+\.\d\d, ", incident["why"])


def test_a_silence_is_an_incident_that_keeps_its_start():
    """A silence longer than 10 intervals and 5 minutes ends with the day if it is open, and continues on the next."""
    heard = [0.0, 10.0, 310.0, 620.0, 630.0]
    today = silences(heard, 10.0, None, 1000.0)
    assert [(each["start"], each["end"]) for each in today] == [(310.0, 620.0), (630.0, 1000.0)]
    tomorrow = silences([1400.0, 1410.0], 10.0, heard[-1], 1500.0)
    assert [(each["start"], each["end"], each["detector"]) for each in tomorrow] == [(630.0, 1400.0, "silence")]
    assert tomorrow[0]["why"] == "no reading for 13 minutes; the interval is 10 s"
    assert silences([], 3600.0, 0.0, 36_000.0) == []
    assert silences([5000.0], 10.0, None, 5010.0) == []
    assert orjson.loads(orjson.dumps(tomorrow)) == tomorrow


def test_quiet_readings_close_an_incident_of_the_day_before():
    """After 30 quiet readings in the next day the incident is closed; it is not reported a second time."""
    deviations = flag(100, r90=2.0)
    first = group(deviations, {"telemetry": detected(deviations)})
    assert first.current is not None
    quiet = [0.0] * MAX_GAP_READINGS
    second = group(quiet, {"telemetry": detected(quiet)}, Tail(current=first.current), 100)
    assert (second.incidents, second.current) == ([], None)
