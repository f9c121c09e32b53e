"""Answers become readings, or are rejected and cost only themselves."""

from __future__ import annotations

import pytest

from etl.readings import answers
from tests.support.transport import run_tick, use_records


def test_garbage_is_an_event_and_never_a_line(scripted):
    """A body that is not a JSON object is rejected with a reason and the source is down; no line is written."""
    here = scripted()
    here.script.answers["a"] = b"<html>busy</html>"
    run_tick(here)
    run_tick(here)
    assert [(event["source"], event["reason"]) for event in here.events("rejected")] == [("a", "not_json")] * 2
    assert [event["reason"] for event in here.events("source_down")] == ["not_json"]
    assert {line["_source"] for line in here.records("raw")} == {"b", "c"}


def test_one_broken_answer_among_many_costs_only_itself(scripted):
    """Of several answers in one poll the sound ones are kept and the source is up."""
    here = scripted()
    here.script.answers["a"] = [b'{"n": 1}', b"broken", b'{"n": 3}']
    run_tick(here, ["a"])
    assert [line["n"] for line in here.records("raw")] == [1, 3]
    assert len(here.events("rejected")) == 1
    assert not here.events("source_down")


def test_records_take_many_machines_out_of_one_answer(scripted):
    """With an expression each record of an answer is a reading; a broken record affects no other."""
    here = scripted()
    use_records(here, "machines[].{id: serial, temperature: t.core}")
    here.script.answers["a"] = b'{"machines": [{"serial": 1, "t": {"core": 20}}, {"serial": 2}, {"serial": 3, "t": 5}]}'
    run_tick(here, ["a"])
    assert [(line["id"], line["temperature"]) for line in here.records("raw")] == [(1, 20), (2, None), (3, None)]
    use_records(here, "machines")
    here.script.answers["a"] = b'{"machines": [{"id": 1}, 7, {"id": 3}]}'
    run_tick(here, ["a"])
    assert [line["id"] for line in here.records("raw")][3:] == [1, 3]
    assert [event["reason"] for event in here.events("rejected")] == ["not_object"]
    assert here.events("source_down") == []


@pytest.mark.parametrize(
    ("body", "records", "reason"),
    [
        (b'{"other": 1}', "machines", "no_records"),
        (b"[" + b"{}," * 10_000 + b"{}]", "@", "too_many"),
        (b"<html>", "machines", "not_json"),
        (b'{"machines": "x"}', "length(keys(machines))", "no_records"),
    ],
)
def test_an_answer_without_records_is_rejected(scripted, body, records, reason):
    """An answer in which the expression matches nothing, or too much, is rejected as a whole."""
    here = scripted()
    use_records(here, records)
    here.script.answers["a"] = body
    run_tick(here, ["a"])
    assert here.records("raw") == []
    assert [event["reason"] for event in here.events("source_down")] == [reason]


@pytest.mark.parametrize(
    ("body", "records"),
    [
        (b'{"m": [{"rpm": 5}, {"rpm": "n/a"}]}', "m[?rpm > `0`].{id: serial, fan_speed: rpm}"),
        (b'{"m": [{"rpm": 5}, {"rpm": "n/a"}]}', "max_by(m, &rpm)"),
        (b'{"m": [{"rpm": 5}, {"rpm": null}]}', "sort_by(m, &rpm)"),
        (b'{"m": [1, 2]}', "m[::0]"),
        (b'{"t": "nan"}', "{temperature: ceil(to_number(t))}"),
        (b'{"t": "inf"}', "{temperature: floor(to_number(t))}"),
        (b'{"t": ' + b"[" * 900 + b"]" * 900 + b"}", "t" + "[]" * 900),
        (b'{"m": [' + b"{}," * 1_700_000 + b"{}]}", "m[].{id: serial}"),
        (b"[" + b"{}," * 1_700_000 + b"{}]", None),
    ],
    ids=["mixed types", "max_by", "sort_by", "step 0", "nan", "inf", "deep", "many items", "many items, no records"],
)
def test_an_answer_that_breaks_the_extraction_costs_only_itself(scripted, body, records):
    """Whatever an answer makes of the expression, that answer is rejected or read; other sources are written."""
    here = scripted()
    if records:
        use_records(here, records)
    here.script.answers["a"] = body
    run_tick(here, ["a", "b"])
    assert [line["_source"] for line in here.records("raw")] == ["b"]
    assert [event["source"] for event in here.events("rejected", "source_down")] == ["a", "a"]


def test_an_undeclared_error_of_the_extraction_is_logged_once_with_its_traceback(scripted, caplog):
    """Only the first answer that breaks the expression in an unexpected way is logged with its traceback."""
    here = scripted()
    use_records(here, "m[::0]")
    here.script.answers["a"] = b'{"m": [1]}'
    run_tick(here, ["a"])
    run_tick(here, ["a"])
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize(
    ("body", "records", "why"),
    [
        (b"<html>\n<title>busy\x1b[2J</title>", None, "it begins with <html> <title>busy\\u001b[2J</title>"),
        (b"[1,2]", None, "the answer is an array, not a JSON object: [1,2]"),
        (b'"' + b"x" * 5_000 + b'"', None, 'not a JSON object: "' + "x" * 76 + "..."),
        (b'{"machines": [7]}', "machines", "the record is a number, not a JSON object: 7"),
        (b'{"machines": "off"}', "machines", "the record is a string, not a JSON object: off"),
        (b'{"error": "offline"}', "machines", 'matches nothing in the answer: {"error": "offline"}'),
        (b"[" * 500 + b"]" * 500, None, "not a JSON object: [["),
        (b'{"machines": [' + b"[" * 500 + b"]" * 500 + b"]}", "machines", "the record is an array, not a JSON object"),
    ],
)
def test_a_rejection_shows_what_came(scripted, body, records, why):
    """The sentence has the first characters of the answer or record, printable and clipped."""
    here = scripted()
    if records:
        use_records(here, records)
    here.script.answers["a"] = body
    run_tick(here, ["a"])
    (event,) = here.events("rejected")
    assert why in event["why"]
    assert event["why"].isprintable()
    assert len(event["why"]) < 300


def test_an_outage_names_the_address_without_its_secrets(plant, caplog):
    """The log line and the event of a source that goes down have its address or path, without login and query."""
    here = plant(sources=[
        {"name": "a", "url": "http://user:hunter2@127.0.0.1:1/data?key=hunter2"},
        {"name": "b", "file": "missing.json"},
    ])  # fmt: skip
    here.tick()
    why = {event["source"]: event["why"] for event in here.events("source_down")}
    assert why == {
        "a": "connection refused (http://127.0.0.1:1/data?...)",
        "b": "no such file (missing.json)",
    }
    assert "Error fetching data from b: no such file (missing.json)" in caplog.text
    assert "hunter2" not in caplog.text


def test_an_answer_that_breaks_the_writer_costs_only_itself(scripted, caplog, monkeypatch):
    """An error that nobody foresaw rejects that answer, and is logged with its traceback the first time."""
    here = scripted()
    encode = answers.raw_line

    def broken(reading, source, *more):
        return 1 / 0 if source == "a" else encode(reading, source, *more)

    monkeypatch.setattr(answers, "raw_line", broken)
    run_tick(here)
    run_tick(here)
    assert [line["_source"] for line in here.records("raw")] == ["b", "c"] * 2
    assert [(event["source"], event["reason"]) for event in here.events("rejected")] == [("a", "failed")] * 2
    assert caplog.text.count("Traceback") == 1
