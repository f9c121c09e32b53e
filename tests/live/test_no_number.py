"""Machines that send no number for a parameter: an event and a log line each, in limited number."""

from __future__ import annotations

import json
import logging

import orjson
import pytest

from etl.live.sinks import no_number
from etl.live.sinks.no_number import MAX_EVENTS_PER_INTERVAL, NoNumber
from etl.readings.averages.fold import derive, fold_of
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from tests.support.process import Site, end, until
from tests.support.transport import run_tick

MISTYPED = {"temperature": "temperature", "speed": "fan_sped"}
SENT = b'{"fan_speed": 900, "temperature": 20.5, "status": "IDLE"}'


def messages(caplog):
    return [record.message for record in caplog.records if "no number" in record.message]


def test_a_mistyped_field_is_reported_once(scripted, caplog):
    """After three readings without a number there is one event and one log line, which name what the machine sends."""
    here = scripted(parameters=MISTYPED)
    here.script.answers = dict.fromkeys("abc", SENT)
    run_tick(here)
    run_tick(here)
    assert here.events("no_number") == []
    for _ in range(8):
        run_tick(here)
    events = here.events("no_number")
    assert [(event["source"], event["at"][11:19]) for event in events] == [(s, "10:00:20") for s in "abc"]
    assert {**events[0], "at": ""} == {
        "at": "",
        "event": "no_number",
        "source": "a",
        "reason": "missing",
        "why": "no number as fan_sped; it sends fan_speed, temperature, status",
        "id": None,
        "parameter": "speed",
        "field": "fan_sped",
    }
    assert messages(caplog) == [
        f"{source} sends no number as fan_sped; it sends fan_speed, temperature, status" for source in "abc"
    ]
    assert here.pipeline.no_number.lacking == 3


@pytest.mark.parametrize(
    ("value", "reason", "shown"),
    [(b'"21.5"', "not_number", '("21.5")'), (b"true", "not_number", "(true)"), (b"[21.5]", "not_number", "([21.5])"),
     (b"2e300", "not_number", "(2e+300)"), (b"null", "missing", "(null)")],
)  # fmt: skip
def test_what_is_sent_instead_of_a_number_is_named(scripted, value, reason, shown):
    """A text, a boolean, a list and a number out of range have another reason than null, and the value is shown."""
    here = scripted()
    here.script.answers["a"] = b'{"id":"x","temperature":%b,"fan_speed":1}' % value
    for _ in range(4):
        run_tick(here)
    (event,) = here.events("no_number")
    assert (event["source"], event["id"], event["reason"]) == ("a", "x", reason)
    assert event["why"] == f'no number as temperature {shown}; it sends id "x", temperature, fan_speed'


def test_the_quality_of_a_value_is_named(scripted):
    """A source may say what is wrong with a value: the event has the name of its quality."""
    here = scripted()
    here.script.answers["a"] = b'{"temperature":null,"fan_speed":1,"_quality":{"temperature":"BadSensorFailure"}}'
    for _ in range(4):
        run_tick(here)
    (event,) = here.events("no_number")
    assert event["why"] == "no number as temperature (null, BadSensorFailure); it sends temperature, fan_speed"


def test_a_long_id_is_named_with_all_its_digits(scripted, caplog):
    """Rounded, the sentence would name another machine."""
    here = scripted()
    here.script.answers["a"] = b'{"id":18446744073709551617,"fan_speed":1}'
    for _ in range(4):
        run_tick(here)
    assert messages(caplog) == ["a sends no number as temperature; it sends id 18446744073709551617, fan_speed"]


def test_an_error_with_status_200_is_reported_for_each_parameter(scripted):
    """An object without any parameter is an event for each of them, while the source is up."""
    here = scripted()
    here.script.answers["a"] = b'{"error": "sensor offline"}'
    for _ in range(4):
        run_tick(here)
    assert [(event["parameter"], event["why"]) for event in here.events("no_number")] == [
        ("temperature", "no number as temperature; it sends error"),
        ("speed", "no number as fan_speed; it sends error"),
    ]
    assert here.pipeline.standing.states(here.clock(), 10) == {"up": 3}


def test_it_is_reported_again_after_numbers_came(scripted):
    """After three readings in a row with a number, the next fault is a new event; single numbers do not repeat it."""
    here = scripted()
    good, bad = b'{"temperature": 1, "fan_speed": 1}', b'{"temperature": 1}'
    for answer in [bad] * 2 + [good] + [bad] * 3 + [good, bad, bad, bad] * 5:
        here.script.answers["a"] = answer
        run_tick(here)
    assert [event["at"][11:19] for event in here.events("no_number")] == ["10:00:50"]
    for answer in [good] * 3 + [bad] * 3:
        here.script.answers["a"] = answer
        run_tick(here)
    assert len(here.events("no_number")) == 2
    assert here.pipeline.no_number.lacking == 1


def test_the_readings_of_one_poll_count_each(scripted):
    """Several readings of one poll, as of a followed file, count one by one although they have the same time."""
    here = scripted()
    here.script.answers["a"] = [b'{"temperature": 1, "fan_speed": 1}'] + [b'{"temperature": 1}'] * 3
    run_tick(here)
    assert [event["parameter"] for event in here.events("no_number")] == ["speed"]


def test_each_machine_of_an_answer_counts_for_itself(plant):
    """Of the machines in one answer only those without a number are reported, each with its id."""
    here = plant(sources=[{"name": "hall", "file": "hall.json", "records": "[]"}])
    machines = [{"id": n, "temperature": 1, **({} if n % 3 else {"fan_speed": 5})} for n in range(6)]
    (here.root / "hall.json").write_bytes(orjson.dumps({"machines": machines}))
    here.config["sources"][0]["records"] = "machines"
    here.reload()
    here.tick(5)
    assert [(event["id"], event["why"]) for event in here.events("no_number")] == [
        (n, f"no number as fan_speed; it sends id {n}, temperature") for n in (1, 2, 4, 5)
    ]


def updates_of(lines):
    return list(derive({}, lines, fold_of(SETTINGS)))


SETTINGS = Settings(5, {"temperature": "a", "speed": "b", "load": "c"}, "UTC", 10.0, 0.2)


def watched():
    """A check of three parameters, and the events it recorded."""
    events = []
    check = NoNumber(SETTINGS.parameters, 10.0, lambda name, **fields: events.append({"event": name, **fields}))
    return check, events


def test_a_wrong_config_for_a_fleet_is_few_events(caplog):
    """Of 10,000 machines and three parameters some are named, and the others counted an interval later."""
    check, events = watched()
    for tick in range(8):
        for part in range(10):
            at = 1e9 + 10 * tick + part
            check.take(updates_of(raw_line({"x": 1}, f"m-{n}", at) for n in range(part, 10_000, 10)))
    named = [event for event in events if event["reason"] == "missing"]
    assert len(named) == MAX_EVENTS_PER_INTERVAL
    further = [(event["parameter"], event["machines"]) for event in events if event["reason"] == "more"]
    assert sum(count for _, count in further) == 30_000 - MAX_EVENTS_PER_INTERVAL
    assert len(further) == 3
    assert len(messages(caplog)) == len(events)
    assert "more machines send no number as b; `etl status` names their sources" in events[-2]["why"]
    assert check.lacking == 30_000


def test_a_new_id_in_every_answer_needs_bounded_memory(monkeypatch):
    """Machines that send once are forgotten: beyond a number, and after the silence that starts windows over."""
    monkeypatch.setattr(no_number, "MAX_MACHINES", 100)
    check, events = watched()
    for n in range(1000):
        check.take(updates_of([raw_line({"id": n}, "a", 1e9 + n)]))
    assert len(check._machines) <= 101
    check.take(updates_of([raw_line({"id": -1}, "a", 1e9 + 10_000)]))
    assert list(check._machines) == [("a", -1)]
    assert events == []


def test_the_machines_of_removed_sources_are_forgotten(scripted):
    """A reload that removes a source also forgets which of its machines have no number."""
    here = scripted(parameters=MISTYPED)
    for _ in range(3):
        run_tick(here)
    assert here.pipeline.no_number.lacking == 3
    here.config["sources"] = here.config["sources"][:1]
    here.reload()
    assert here.pipeline.no_number.lacking == 1


def test_a_reading_with_hostile_keys_is_a_short_printable_event(scripted, caplog):
    """Many keys, long ones and control characters, in keys, values and ids, are clipped and escaped."""
    caplog.set_level(logging.WARNING)
    here = scripted()
    hostile = "\x1b[2J\n\u202e" + "k" * 100_000
    reading = {hostile: 1, "id": hostile, "temperature": hostile, **{f"key {n}": n for n in range(5000)}}
    here.script.answers["a"] = orjson.dumps(reading)
    for _ in range(3):
        run_tick(here)
    for event in here.events("no_number"):
        assert len(orjson.dumps(event)) < 2000
        assert event["why"].isprintable()
        assert "more keys" in event["why"]
    assert all(text.isprintable() and len(text) < 1000 for text in messages(caplog))
    assert len(messages(caplog)) == 2


@pytest.mark.parametrize(("sent", "shown"), [(b"18446744073709551617", "18446744073709551617"), (b"1.5", 1.5)])
def test_any_id_fits_into_the_event(sent, shown):
    """The id of the event is that of the machine; an integer beyond 64 bits is text."""
    check, events = watched()
    check.take(updates_of([raw_line({"id": 0}, "a", 1e9).replace(b'"id":0', b'"id":' + sent)] * 3))
    assert [event["id"] for event in events] == [shown] * 3


def test_a_running_process_names_a_mistyped_field(tmp_path):
    """In a real process the event, the log, the metric and `etl status` name the field and what is sent."""
    site = Site(tmp_path)
    (tmp_path / "oven.json").write_bytes(SENT)
    site.save(sources=[{"name": "oven-2", "file": "oven.json"}], parameters=MISTYPED, output={"stdout": []})
    with site.running() as process:
        until(lambda: len(site.lines("raw")) > 8)
        (event,) = site.events("no_number")
        assert site.metric("telemetry_no_number") == site.metric('telemetry_events_total{event="no_number"}') == 1
        assert site.ask("/events")[-1] == event
        end(process)
    why = "no number as fan_sped; it sends fan_speed, temperature, status"
    assert (event["source"], event["why"]) == ("oven-2", why)
    assert (tmp_path / "stderr").read_text().count(f"oven-2 sends {why}") == 1
    (source,) = json.loads(site.etl("status", "--json").stdout)["sources"]
    assert source["no_number"] == {"machines": {"speed": 1}, "why": why}
