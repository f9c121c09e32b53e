"""Moving averages: laws of the window, the fold over raw lines, and the windows found backwards."""

from __future__ import annotations

import math

import orjson
from hypothesis import given
from hypothesis import strategies as st

from etl.readings.averages.fold import derive, fold_of
from etl.readings.averages.rewind import Rewind
from etl.readings.averages.window import Window, means, number, silence_s, step
from etl.readings.lines import raw_line
from etl.readings.records import Settings

SIZE = 5
SILENCE = 100.0
SETTINGS = Settings(SIZE, {"temperature": "temperature", "speed": "fan_speed"}, "UTC", 10.0, 0.2)

machines = st.sampled_from([("a", 1), ("a", 2), ("b", None)])
garbage = st.sampled_from([None, True, "21.5", [1], {"x": 1}, 1e301, math.nan, -math.inf])
numbers = st.floats(-1e6, 1e6) | st.integers(-1000, 1000)
values = st.tuples(numbers | garbage, numbers | garbage)
gaps = st.sampled_from([0.0, 1.0, 10.0, 99.0, 100.0, 101.0, 500.0, -50.0, -500.0])


def fold(readings):
    """The windows after (machine, at, values) readings."""
    windows = {}
    for machine, at, given_values in readings:
        windows[machine] = step(windows.get(machine), at, given_values, SIZE, SILENCE)
    return windows


def timed(steps):
    """(machine, gap, values) as (machine, at, values)."""
    at = 1000.0
    readings = []
    for machine, gap, given_values in steps:
        at += gap
        readings.append((machine, at, given_values))
    return readings


@given(st.lists(st.tuples(machines, values), max_size=60))
def test_an_average_is_the_mean_of_the_machines_last_five(readings):
    """An average equals the plain mean of that machine's last five numbers, whatever other machines send."""
    windows = fold([(machine, float(i), given_values) for i, (machine, given_values) in enumerate(readings)])
    for machine, window in windows.items():
        mine = [given_values for key, given_values in readings if key == machine]
        assert window.readings == min(len(mine), SIZE)
        for column, mean in enumerate(means(window)):
            last = [v for row in mine if (v := number(row[column])) is not None][-SIZE:]
            assert mean == (math.fsum(last) / len(last) if last else None)


@given(st.lists(st.tuples(machines, values), max_size=40))
def test_machines_never_affect_one_another(readings):
    """A machine's window is the same with the other machines left out."""
    timeline = [(machine, float(i), given_values) for i, (machine, given_values) in enumerate(readings)]
    together = fold(timeline)
    for machine, window in together.items():
        assert fold([reading for reading in timeline if reading[0] == machine])[machine] == window


@given(st.lists(st.tuples(machines, gaps, values), max_size=40), st.lists(st.integers(1, 7), min_size=1))
def test_any_split_into_ticks_gives_the_same_averages(steps, cuts):
    """Folding a stream in one go or in any batches gives the same averages lines."""
    lines = [
        raw_line({"id": machine[1], "temperature": v[0], "fan_speed": v[1]}, machine[0], at)
        for machine, at, v in timed(steps)
    ]
    whole = list(derive({}, lines, fold_of(SETTINGS)))
    windows, parts, start = {}, [], 0
    while start < len(lines):
        end = start + cuts[len(parts) % len(cuts)]
        parts += derive(windows, lines[start:end], fold_of(SETTINGS))
        start = end
    assert parts == whole


@given(st.lists(st.tuples(machines, gaps, values), max_size=60))
def test_windows_found_backwards_are_those_of_the_fold(steps):
    """Taking the readings from the newest back gives the same windows as folding them from the oldest on."""
    readings = timed(steps)
    rewind = Rewind(2, SIZE, SILENCE)
    for machine, at, given_values in reversed(readings):
        rewind.add(machine, at, given_values)
    found, folded = rewind.windows(), fold(readings)
    assert found.keys() == folded.keys()
    for machine, window in folded.items():
        back = found[machine]
        assert (back.readings, back.at, back.values) == (window.readings, window.at, window.values)
        following = ((), ()), (window.at + 60, (1.0, None)), (window.at + 101, (None, 2.0))
        for at, given_values in following[1:]:
            assert means(step(back, at, given_values, SIZE, SILENCE)) == means(
                step(window, at, given_values, SIZE, SILENCE)
            )


@given(st.lists(st.tuples(machines, st.sampled_from([0.0, 1.0, 30.0, 99.0, 101.0]), values), max_size=60))
def test_readings_older_than_needed_do_not_matter(steps):
    """Once the past is older than `needs` says, leaving it out changes no window that a later reading sees."""
    readings = timed(steps)
    rewind = Rewind(2, SIZE, SILENCE)
    since = readings[-1][1] if readings else 0.0
    for machine, at, given_values in reversed(readings):
        if at < rewind.needs(since):
            break
        rewind.add(machine, at, given_values)
    found, folded = rewind.windows(), fold(readings)
    for machine, window in folded.items():
        old, new = (step(w, since, (3.0, None), SIZE, SILENCE) for w in (found.get(machine), window))
        assert (means(old), old.readings) == (means(new), new.readings)


def test_a_machine_starts_over_after_a_silence():
    """After more than the silence_s a machine's windows hold the new reading only; after exactly it they go on."""
    before = fold([("m", 0.0, (1.0, 1.0)), ("m", 10.0, (2.0, 2.0))])["m"]
    assert step(before, 110.0, (3.0, 3.0), SIZE, SILENCE).readings == 3
    assert step(before, 110.1, (3.0, None), SIZE, SILENCE) == Window(1, 110.1, ((3.0,), ()), (110.1, 110.1))


def test_a_parameter_starts_over_after_it_was_missing_that_long():
    """A parameter that was missing longer than the silence_s is None, then starts over; the others go on."""
    window = None
    for at in range(0, 160, 20):
        window = step(window, float(at), (1.0, 5.0 if at == 0 else "broken"), SIZE, SILENCE)
    assert means(window) == [1.0, None]
    assert window.readings == SIZE


def test_silence_is_an_hour_or_a_hundred_intervals():
    """The silence_s is an hour for short intervals and 100 intervals for long ones."""
    assert silence_s(10.0) == 3600.0
    assert silence_s(60.0) == 6000.0


def test_numbers_are_never_coerced():
    """Only finite numbers within ±1e300 count; text, booleans and lists do not."""
    assert [number(v) for v in (1, -0.0, 1e300, 10**30)] == [1.0, 0.0, 1e300, 1e30]
    assert [number(v) for v in ("21.5", True, None, [1], 1.1e300, math.nan, math.inf, 10**400)] == [None] * 8


def test_the_averages_line_is_as_specified():
    """An averages line has the specified keys in order, unrounded averages and the reading's own timestamp."""
    reading = {"id": 1, "temperature": 20.18, "fan_speed": 899.64, "status": "IDLE"}
    stamped = {**reading, "timestamp": "2026-11-22T10:00:00.000+00:00"}
    first, second = derive({}, [raw_line(stamped, "machine-1", 1e9), raw_line(reading, "m", 1e9)], fold_of(SETTINGS))
    assert first.averages == (
        b'{"timestamp":"2026-11-22T10:00:00.000+00:00","source":"machine-1","id":1,"average_temperature":20.18,'
        b'"average_speed":899.64,"status":"IDLE","readings":1,"polled_at":"2001-09-09T01:46:40.000Z"}\n'
    )
    assert orjson.loads(second.averages)["timestamp"] == "2001-09-09T01:46:40.000Z"
