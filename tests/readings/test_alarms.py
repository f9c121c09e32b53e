"""When alarms are raised and ended: by averages and statuses, with a deadband and a time to hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.readings.alarms.conditions import Sample, continued, end_changed, rules_for, step
from etl.readings.alarms.fold import AlarmFold
from etl.readings.averages.fold import Update
from etl.readings.averages.window import Window
from etl.readings.records import AlarmRule, Settings

PRESS = ("press-7", 7)
PARAMETERS = ["temperature", "speed"]
HOUR = 3_600_000
HOT = AlarmRule("hot", parameter="temperature", above=80.0, deadband=2.0)
FAULT = AlarmRule("fault", status="ERROR", hold_ms=60_000)


def run(rules, values, *, interval=10_000, silence=HOUR, machine=PRESS, statuses=None, start=0):
    """The changes of a machine that has these averages of its temperature, as (reading, alarm, state, since)."""
    applied = rules_for(rules, PARAMETERS, machine[0])
    conditions, changes = {}, []
    for i, value in enumerate(values):
        at = start + i * interval
        status = statuses[i] if statuses else None
        conditions, new = step(conditions, Sample(machine, at, [value, 900.0], status), applied, silence)
        changes += [(i, change.rule.name, change.state, change.condition.since // interval) for change in new]
    return changes


def test_an_alarm_is_raised_beyond_its_limit_and_ended_inside_by_the_deadband():
    """It is not ended between limit and deadband; at the limit itself it is not raised."""
    assert run([HOT], [80.0, 80.1, 79.0, 78.1, 78.0, 80.0, 81.0]) == [
        (1, "hot", "raised", 1), (4, "hot", "ended", 1), (6, "hot", "raised", 6),
    ]  # fmt: skip


def test_a_range_is_left_at_either_end():
    """Above and below are one alarm; from one side to the other it stays raised."""
    rule = AlarmRule("range", parameter="temperature", above=30.0, below=10.0, deadband=1.0)
    assert run([rule], [20, 31, 5, 10.5, 11.0, 9.9, 29.5, 29.0]) == [
        (1, "range", "raised", 1), (4, "range", "ended", 1), (5, "range", "raised", 5), (7, "range", "ended", 5),
    ]  # fmt: skip


def test_the_condition_must_hold_for_its_time():
    """It is raised at the first reading at which it has held so long; a reading within the limit starts it over."""
    rule = AlarmRule("hot", parameter="temperature", above=80.0, hold_ms=30_000)
    assert run([rule], [81, 81, 81, 79, 81, 81, 81, 81, 81]) == [(7, "hot", "raised", 4)]


def test_a_reading_without_an_average_neither_raises_nor_ends():
    """It starts a condition over that is not raised yet, as the window did."""
    held = AlarmRule("hot", parameter="temperature", above=80.0, hold_ms=20_000)
    assert run([HOT], [81, None, None, 81, None, 70]) == [(0, "hot", "raised", 0), (5, "hot", "ended", 0)]
    assert run([held], [81, 81, None, 81, 81, 81]) == [(5, "hot", "raised", 3)]


def test_a_status_is_an_alarm():
    """A status that has held is raised, and ended by another status; a missing one does neither."""
    statuses = ["ERROR"] * 7 + [None, "ERROR", "error", "ERROR"]
    assert run([FAULT], [20] * 11, statuses=statuses) == [(6, "fault", "raised", 0), (9, "fault", "ended", 0)]


def test_a_raised_alarm_survives_a_silence_and_a_pending_one_does_not():
    """After a silence longer than that of the windows a condition that is not raised starts over."""
    held = AlarmRule("hot", parameter="temperature", above=80.0, hold_ms=30_000)
    assert run([held], [81, 81, 81], interval=20_000, silence=19_999) == []
    assert run([HOT], [81, 81, 70], interval=2 * HOUR) == [(0, "hot", "raised", 0), (2, "hot", "ended", 0)]


def test_a_rule_applies_to_the_sources_of_its_pattern():
    """`sources` is a shell pattern over the names of sources, in the case they are written in."""
    rules = [HOT, AlarmRule("presses", status="ERROR", sources="press-*"), AlarmRule("one", status="E", sources="Oven")]
    names = [[rule.name for rule, *_ in rules_for(rules, PARAMETERS, source)] for source in ("press-7", "oven", "Oven")]
    assert names == [["hot", "presses"], ["hot"], ["hot", "one"]]


def test_raised_alarms_are_continued_and_end_when_their_rule_changes():
    """Each raised alarm is continued once, machines in a fixed order; one that went or changed ends with a reason."""
    states = {}
    for machine in (PRESS, ("oven", None)):
        rules = rules_for([HOT, FAULT], PARAMETERS, machine[0])
        states[machine], _ = step({}, Sample(machine, 0, [90.0, 1.0], "ERROR"), rules, HOUR)
    again = list(continued(states, 5, [HOT, FAULT]))
    assert [(change.machine, change.rule.name, change.continued) for change in again] == [
        (("oven", None), "hot", True), (PRESS, "hot", True),
    ]  # fmt: skip
    other = AlarmRule("hot", parameter="temperature", above=85.0)
    ended = end_changed(states, 7, [HOT, FAULT], [FAULT, other])
    assert [(change.machine, change.state, change.reason) for change in ended] == [
        (("oven", None), "ended", "settings"), (PRESS, "ended", "settings"),
    ]  # fmt: skip
    assert all(set(conditions) == {"fault"} for conditions in states.values())


def test_the_first_reading_of_a_day_continues_the_alarms_of_other_machines():
    """Also a reading that itself changes nothing, of a machine that was seen before; the next one continues nothing."""
    governing = Settings(1, {"temperature": "temperature"}, "UTC", 10.0, 0.2, (), (HOT,))
    fold = AlarmFold(governing)

    def add(day: str, machine: str, temperature: float, at: float) -> list[tuple[str, bool]]:
        line = b"%d" % temperature
        window = Window(1, at, ((temperature,),), (at,))
        update = Update((machine, None), line, window, [temperature], line, [temperature], None)
        return [(change.machine[0], change.continued) for change in fold.add_update(day, governing, update)]

    assert add("2026-11-22", "oven", 90.0, 10.0) == [("oven", False)]
    assert add("2026-11-22", "press", 20.0, 20.0) == []
    assert add("2026-11-23", "press", 20.0, 86_410.0) == [("oven", True)]
    assert add("2026-11-23", "press", 20.0, 86_420.0) == []


averages = st.none() | st.floats(60, 100)


@given(st.lists(averages, max_size=60), st.floats(0, 10), st.sampled_from([0, 10_000, 30_000]))
def test_raised_and_ended_alternate(values, deadband, hold):
    """An alarm is raised and ended in turn, and only a value inside by the deadband ends it."""
    rule = AlarmRule("hot", parameter="temperature", above=80.0, deadband=deadband, hold_ms=hold)
    changes = run([rule], values)
    assert [state for _, _, state, _ in changes] == ["raised", "ended"] * (len(changes) // 2) + ["raised"] * (
        len(changes) % 2
    )
    for i, _, state, since in changes:
        if state == "ended":
            assert values[i] <= 80.0 - deadband
        else:
            assert all(value is not None and value > 80.0 for value in values[since : i + 1])
            assert i - since == hold // 10_000


@given(st.lists(st.tuples(st.sampled_from("ab"), averages), max_size=60))
def test_machines_do_not_affect_one_another(readings):
    """The changes of a machine are those of its own readings alone, whatever comes between them."""
    applied = rules_for([HOT], PARAMETERS, "press-7")
    states: dict = {}
    together: dict[str, list] = {"a": [], "b": []}
    for i, (name, value) in enumerate(readings):
        machine = ("press-7", name)
        states[machine], changes = step(states.get(machine, {}), Sample(machine, i, [value, 1.0], None), applied, HOUR)
        together[name] += [(change.at, change.state) for change in changes]
    for name in "ab":
        conditions, alone = {}, []
        for i, (owner, value) in enumerate(readings):
            if owner == name:
                sample = Sample(("press-7", name), i, [value, 1.0], None)
                conditions, changes = step(conditions, sample, applied, HOUR)
                alone += [(change.at, change.state) for change in changes]
        assert alone == together[name]


@pytest.mark.parametrize("noise", [0.5, 1.9])
def test_a_noisy_average_around_a_limit_is_raised_once(noise):
    """Noise smaller than the deadband does not end the alarm."""
    values = [80 + noise * (-1) ** i for i in range(200)]
    assert len(run([HOT], values)) == 1
