"""What the console is told: the last readings of every machine, what is new, what is down."""

from __future__ import annotations

from math import isnan, nan

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.live.sinks.console import RECENT_READINGS, TRACE_READINGS, Console, Traces
from etl.readings.averages.window import Window

NOW = 1_795_341_600.0


def window(at, *values):
    """A machine's window after a reading; None is a value that was missing, long after the one before."""
    return Window(1, at, tuple((1.0, 0.0 if v is None else v) for v in values), tuple(at - (v is None) for v in values))


def traced(count, machines=("a",), interval=10.0):
    """Traces of machines that gave `count` readings each; the values count on."""
    traces = Traces(1, NOW)
    for n in range(count):
        for number, name in enumerate(machines):
            traces.add_all([((name, 1), window(NOW + interval * n, float(number * 1000 + n)))])
    return traces


def test_a_trace_is_the_last_readings_in_order():
    """Of 100 readings the last 60 are kept, with their times to the millisecond; of another machine none."""
    rows = traced(100).of(("a", 1))
    assert [value for _, value in rows] == list(range(100 - TRACE_READINGS, 100))
    assert [at for at, _ in rows] == pytest.approx([NOW + 10 * n for n in range(100 - TRACE_READINGS, 100)], abs=1e-3)
    assert traced(100).of(("b", 1)) == []


def test_a_value_that_was_missing_is_missing_in_the_trace():
    """A parameter without a value has none in the trace, although its window still has one."""
    traces = Traces(2, NOW)
    traces.add_all([(("a", None), window(NOW, None, 7.0))])
    ((at, missing, present),) = traces.of(("a", None))
    assert (at, isnan(missing), present) == (NOW, True, 7.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=150), max_size=6))
def test_what_is_new_adds_up_to_everything(rounds):
    """Who asks again and again from the mark of the last answer sees each machine's readings once, in order."""
    traces = Traces(1, NOW)
    seen, given_, mark, at = {}, {}, 0, NOW
    for names in rounds:
        for name in names:
            at += 1
            traces.add_all([((name, 1), window(at, at - NOW))])
            given_.setdefault((name, 1), []).append(at - NOW)
        news = traces.since(mark)
        for key, numbers in news.numbers.items():
            seen[key] = ([] if news.whole else seen.get(key, [])) + [value for _, value in traces.of(key, numbers)]
        mark = news.mark
    assert {key: values[-TRACE_READINGS:] for key, values in seen.items()} == {
        k: v[-TRACE_READINGS:] for k, v in given_.items()
    }


def test_what_comes_meanwhile_is_left_for_the_next_time():
    """A reading that is added between the question what is new and its reading out is new to the next question."""
    traces = traced(3)
    mark = traces.since(0).mark
    traces.add_all([(("a", 1), window(NOW + 30, 3.0))])
    news = traces.since(mark)
    traces.add_all([(("a", 1), window(NOW + 40, 4.0))])
    assert [value for _, value in traces.of(("a", 1), news.numbers["a", 1])] == [3.0]
    assert list(traces.since(news.mark).numbers.values()) == [range(4, 5)]


def test_a_mark_that_is_not_known_gives_everything():
    """After too many readings, a restart or forgotten machines the whole is given, and is said to be that."""
    traces = traced(3, "ab")
    mark = traces.since(0).mark
    assert traces.since(mark) == (mark, False, {})
    traces.keep_sources({"b"})
    news = traces.since(mark)
    assert news[1:] == (True, {("b", 1): range(3)})
    assert [value for _, value in traces.of(("b", 1))] == [1000, 1001, 1002]
    for n in range(RECENT_READINGS + 1):
        traces.add_all([(("b", 1), window(NOW + n, 1.0))])
    assert traces.since(news.mark).whole
    assert Traces(1, NOW + 3600).since(news.mark).whole
    assert Traces(1, NOW - 3600).since(news.mark).whole


def test_the_memory_of_a_trace_is_bounded():
    """Ten thousand machines take 10 MB at most, however much they send."""
    traces = traced(3, [f"machine-{n}" for n in range(10_000)])
    held = (traces._rows, traces._last, traces._counts, traces._recent)
    assert sum(block.itemsize * len(block) for block in held) < 8_000_000


def overview_of(here, traces, mark=0):
    console = Console(here.loaded, here.pipeline.standing, traces, here.pipeline.alarms)
    return orjson.loads(b"".join(console.overview(here.clock(), mark, ["no space"])))


def watched(plant, **settings):
    traces = Traces(2, NOW)
    return plant(traces=traces, **settings), traces


def test_the_overview_has_each_machines_last_line_and_trace(plant):
    """What the console shows follows the ticks: averages lines as they are written, traces, settings, sources."""
    here, traces = watched(plant)
    here.tick(3)
    shown = overview_of(here, traces)
    assert [entry["latest"] for entry in shown["machines"]] == here.records("averages")[-1:]
    raw = here.records("raw")
    (entry,) = shown["machines"]
    assert entry["id"] == orjson.dumps(raw[0]["id"]).decode()
    assert [row[1:] for row in entry["trace"]] == [[line["temperature"], line["fan_speed"]] for line in raw]
    assert [row[0] for row in entry["trace"]] == [1000 * (here.clock() - 30 + 10 * n) for n in range(3)]
    assert (shown["whole"], shown["sources"], shown["down"], shown["not_ready"]) == (True, 1, [], ["no space"])
    assert (shown["interval"], shown["window"], shown["threshold"]) == (10, 5, 0.2)
    assert (shown["timezone"], shown["parameters"], shown["units"]) == ("UTC", ["temperature", "speed"], {})
    here.tick()
    later = overview_of(here, traces, shown["mark"])
    assert (later["whole"], [len(entry["trace"]) for entry in later["machines"]]) == (False, [1])


def test_the_overview_has_the_units_and_each_raised_alarm_with_its_unit(plant):
    """Units come from the config, also after a reload; the limit of an alarm has the unit of its parameter."""
    hot = {"name": "hot", "parameter": "temperature", "above": -50}
    status = {"name": "any", "status": "ERROR"}
    here, traces = watched(plant, alarms=[hot, status], units={"temperature": "°C"})
    here.tick()
    shown = overview_of(here, traces)
    assert shown["units"] == {"temperature": "°C"}
    assert [alarm["holds"] for alarm in shown["alarms"]] == ["temperature above -50 °C"]
    here.config["units"] = {"temperature": "K", "speed": "rpm"}
    here.reload()
    shown = overview_of(here, traces)
    assert shown["units"] == {"temperature": "K", "speed": "rpm"}
    assert [alarm["holds"] for alarm in shown["alarms"]] == ["temperature above -50 K"]


def test_a_long_id_is_clipped_in_the_overview(plant):
    """The overview has the first characters of a long id, however long it is; numbers keep their digits."""
    here, traces = watched(plant, sources=[{"name": "g", "file": "answer.json", "records": "m"}])
    number = b"1" * 300
    (here.root / "answer.json").write_bytes(b'{"m":[{"id":"%b"},{"id":%b}]}' % (b"x" * 100_000, number))
    here.tick()
    text, digits = (entry["id"] for entry in overview_of(here, traces)["machines"])
    assert text.endswith('..."')
    assert len(text) < 300
    assert digits == number.decode()


def test_the_overview_tells_what_is_down_and_since_when(plant):
    """A source that fails stands among what is down with its reason, until it answers."""
    here, traces = watched(plant)
    readings = here.root / "readings.json"
    content = readings.read_bytes()
    readings.unlink()
    here.tick()
    (down,) = overview_of(here, traces)["down"]
    (event,) = here.events("source_down")
    assert down == {"source": "machine-1", "since": event["at"], "reason": event["reason"], "why": event["why"]}
    readings.write_bytes(content)
    here.tick()
    assert overview_of(here, traces)["down"] == []


def test_a_reload_forgets_the_machines_of_sources_that_went(plant):
    """Sources that are no longer read leave the traces with their machines; the others keep theirs."""
    here, traces = watched(
        plant, sources=[{"name": name, "file": "readings.json"} for name in ("machine-1", "machine-2")]
    )
    here.tick(2)
    mark = overview_of(here, traces)["mark"]
    here.config["sources"] = here.config["sources"][1:]
    here.reload()
    shown = overview_of(here, traces, mark)
    assert (shown["whole"], [entry["latest"]["source"] for entry in shown["machines"]]) == (True, ["machine-2"])
    assert [len(entry["trace"]) for entry in shown["machines"]] == [2]


def test_values_of_any_size_are_told(plant):
    """What memory cannot hold to the last digit is told to six; infinite there and missing ones are null."""
    here, traces = watched(plant)
    here.tick()
    ((source, key),) = here.pipeline.standing.latest
    traces.add_all([((source, key), window(here.clock(), 1e300, 697.77))])
    traces.add_all([((source, key), window(here.clock(), nan, 1.23456789e-9))])
    (entry,) = overview_of(here, traces)["machines"]
    assert [row[1:] for row in entry["trace"][1:]] == [[None, 697.77], [None, 1.23457e-9]]


@pytest.mark.parametrize(
    ("url", "number"),
    [("http://127.0.0.1:5000/data", 1), ("http://localhost:5000/machines/2/data", 2),
     ("http://127.0.0.1:5000/machines/3/data", None), ("http://127.0.0.1:5001/data", None),
     ("http://192.0.2.1:5000/data", None), ("http://127.0.0.1:5000/elsewhere", None)],
)  # fmt: skip
def test_a_machine_that_this_process_simulates_is_known(plant, url, number):
    """Only a source that is read from this very API can be told its status."""
    here, traces = watched(plant, sources=[{"name": "a", "url": url}], api={"machines": 2})
    traces.add_all([(("a", 1), window(NOW, 1.0, 2.0))])
    shown = Console(here.loaded, here.pipeline.standing, traces, here.pipeline.alarms).machine("a", 1)
    assert (shown["simulated"], shown["times"], shown["values"]) == (
        number,
        (NOW,),
        {"temperature": (1,), "speed": (2,)},
    )
    assert Console(here.loaded, here.pipeline.standing, traces, here.pipeline.alarms).machine("a", 2) is None
