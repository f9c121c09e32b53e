"""One tick: the lines it writes, the events it records, and that no source waits for another."""

from __future__ import annotations

import logging
import threading

import jmespath
import orjson
import pytest

from etl.live import writer as writing
from etl.readings.records import Failure
from tests.support.process import until
from tests.support.transport import Script

MIDNIGHT = 1_795_392_000.0
"""2026-11-23T00:00:00Z."""


@pytest.fixture
def scripted(plant):
    """A plant whose sources a, b and c answer by script."""

    def build(**more):
        names = ["a", "b", "c"]
        here = plant(sources=[{"name": name, "url": "http://127.0.0.1:1/"} for name in names], **more)
        here.script = Script(here.clock)
        here.pipeline.poller.use(dict.fromkeys(names, here.script))
        return here

    return build


def run_tick(here, names=("a", "b", "c")):
    here.pipeline.poller.poll(names)
    here.pipeline.writer.tick()
    here.clock.now += 10


def test_each_reading_is_a_raw_line_and_an_averages_line(scripted):
    """Every answer becomes one raw and one averages line, in the same order, and status is passed through."""
    here = scripted()
    here.script.answers["b"] = b'{"id": 7, "temperature": 30, "fan_speed": 1, "status": "ERROR"}'
    run_tick(here)
    raw, averages = here.records("raw"), here.records("averages")
    assert [line["_source"] for line in raw] == [line["source"] for line in averages] == ["a", "b", "c"]
    assert (averages[1]["id"], averages[1]["status"], averages[1]["average_temperature"]) == (7, "ERROR", 30.0)


def test_a_source_that_goes_down_is_logged_once_each_way(scripted, caplog):
    """Down and up cost one log line and one event each, however many ticks it lasts; the others go on."""
    caplog.set_level(logging.WARNING)
    here = scripted()
    run_tick(here)
    here.script.answers["b"] = Failure("refused", "connection refused")
    for _ in range(4):
        run_tick(here)
    del here.script.answers["b"]
    run_tick(here)
    assert [record.message for record in caplog.records] == [
        "Error fetching data from b: connection refused",
        "b answers again after 40 s",
    ]
    (down,), (up,) = here.events("source_down"), here.events("source_up")
    assert (down["source"], down["reason"]) == ("b", "refused")
    assert (up["source"], up["reason"], up["seconds"]) == ("b", "refused", 40.0)
    assert [line["_source"] for line in here.records("raw")].count("b") == 2
    assert [line["_source"] for line in here.records("raw")].count("a") == 6


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
    here.pipeline.poller.use({"a": here.script})
    here.pipeline.writer.use({"a": jmespath.compile("machines[].{id: serial, temperature: t.core}")})
    here.script.answers["a"] = b'{"machines": [{"serial": 1, "t": {"core": 20}}, {"serial": 2}, {"serial": 3, "t": 5}]}'
    run_tick(here, ["a"])
    assert [(line["id"], line["temperature"]) for line in here.records("raw")] == [(1, 20), (2, None), (3, None)]
    here.pipeline.poller.use({"a": here.script})
    here.pipeline.writer.use({"a": jmespath.compile("machines")})
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
    here.pipeline.poller.use({"a": here.script})
    here.pipeline.writer.use({"a": jmespath.compile(records)})
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
    here.pipeline.writer.use({"a": jmespath.compile(records)} if records else {})
    here.script.answers["a"] = body
    run_tick(here, ["a", "b"])
    assert [line["_source"] for line in here.records("raw")] == ["b"]
    assert [event["source"] for event in here.events("rejected", "source_down")] == ["a", "a"]


def test_an_undeclared_error_of_the_extraction_is_logged_once_with_its_traceback(scripted, caplog):
    """Only the first answer that breaks the expression in an unexpected way is logged with its traceback."""
    here = scripted()
    here.pipeline.writer.use({"a": jmespath.compile("m[::0]")})
    here.script.answers["a"] = b'{"m": [1]}'
    run_tick(here, ["a"])
    run_tick(here, ["a"])
    assert caplog.text.count("Traceback") == 1


def test_a_hanging_source_costs_only_itself(scripted):
    """While one source hangs the others are written; its next polls are skipped and counted, and it is down."""
    here = scripted()
    here.script.hanging.add("a")
    poller, writer, counts = here.pipeline.poller, here.pipeline.writer, here.pipeline.standing.counts
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        for turn in range(1, 4):
            poller.poll(["a", "b", "c"])
            answers = 2 * turn
            until(lambda answers=answers: counts["answered"] >= answers)
            here.clock.now += 10
    finally:
        writer.end()
        thread.join()
    assert [line["_source"] for line in here.records("raw")].count("b") == 3
    assert poller.skipped == 2
    assert poller.in_flight == ["a"]
    assert [event["source"] for event in here.events("source_down")] == ["a"]


def test_a_reload_in_the_middle_of_a_slice_loses_no_poll(scripted):
    """The polls of a slice that a reload interrupts run on the transport they were meant for."""
    here = scripted()
    poller = here.pipeline.poller

    def names_and_a_reload():
        yield "a"
        poller.use({})

    poller.poll(names_and_a_reload())
    here.pipeline.writer.tick()
    assert [line["_source"] for line in here.records("raw")] == ["a"]
    assert poller.in_flight == []


def test_the_last_poll_of_a_removed_source_changes_no_state(scripted):
    """A source that a reload removed while its poll was in flight is neither down nor counted afterwards."""
    here = scripted()
    here.script.answers["a"] = Failure("refused", "connection refused")
    here.script.hanging.add("a")
    here.pipeline.poller.poll(["a"])
    here.pipeline.standing.use(["b", "c"], here.clock())
    here.script.deliver("a", here.pipeline.poller.deliver)
    here.pipeline.writer.tick()
    assert here.pipeline.standing.down() == {}
    assert here.pipeline.standing.states(here.clock(), 10) == {"up": 2}


def test_each_reading_is_in_exactly_one_day(scripted):
    """A reading belongs to the local day it was polled on; around midnight none is lost or doubled."""
    here = scripted()
    here.clock.now = MIDNIGHT - 15
    for _ in range(3):
        run_tick(here, ["a"])
    here.clock.now = MIDNIGHT + 0.0004
    run_tick(here, ["a"])
    times = {day: [orjson.loads(line)["_polled_at"][11:] for _, line in here.folder.lines("raw", day)]
             for day in here.folder.days("raw")}  # fmt: skip
    assert times == {
        "2026-11-22": ["23:59:45.000Z", "23:59:55.000Z"],
        "2026-11-23": ["00:00:05.000Z", "00:00:00.000Z"],
    }


def test_the_last_half_millisecond_of_a_day_belongs_to_the_next(scripted):
    """A time that is written as midnight belongs to the day that begins there."""
    here = scripted()
    here.clock.now = MIDNIGHT - 0.0003
    run_tick(here, ["a"])
    assert here.folder.days("raw") == ["2026-11-23"]


def test_the_folders_day_never_goes_back(scripted):
    """After the clock was set back, lines go to the newest day."""
    here = scripted()
    here.clock.now = MIDNIGHT + 5
    run_tick(here, ["a"])
    here.clock.now = MIDNIGHT - 86_400
    run_tick(here, ["a"])
    assert here.folder.days("raw") == here.folder.days("averages") == ["2026-11-23"]
    assert len(here.records("raw")) == 2


def block(here):
    """Make the raw log impossible to write, also for root: a file is in the place of its folder."""
    here.folder.path("raw", "2026-11-22").parent.rename(here.root / "aside")
    (here.folder.root / "raw").write_bytes(b"")


def unblock(here):
    (here.folder.root / "raw").unlink()
    (here.root / "aside").rename(here.folder.root / "raw")


def test_readings_wait_while_the_disk_does_not_take_them(scripted, caplog):
    """While the folder cannot be written nothing is lost; later every line is written in order, with an event."""
    here = scripted()
    run_tick(here)
    block(here)
    for _ in range(3):
        run_tick(here)
    assert "cannot be written" in here.pipeline.not_ready()[0]
    assert sum("Cannot write to" in record.message for record in caplog.records) == 1
    assert here.pipeline.writer.unwritten == 9
    unblock(here)
    run_tick(here)
    times = [line["_polled_at"] for line in here.records("raw")]
    assert len(times) == 15
    assert times == sorted(times)
    assert here.records("averages")[-1]["readings"] == 5
    assert here.pipeline.not_ready() == []
    here.pipeline.writer.tick()
    assert [event["lines"] for event in here.events("dropped")] == [0]


def test_beyond_the_limit_of_the_queue_the_newest_are_refused_and_counted(scripted, monkeypatch):
    """When the queue is full newer lines are refused, and an event records how many."""
    here = scripted()
    run_tick(here)
    block(here)
    monkeypatch.setattr(writing, "MAX_PENDING_BYTES", 500)
    for _ in range(10):
        run_tick(here, ["a"])
    held = len(here.pipeline.files.raw)
    assert 0 < held < 10
    assert here.pipeline.writer.unwritten == 10
    unblock(here)
    here.pipeline.writer.tick()
    here.pipeline.writer.tick()
    assert len(here.records("raw")) == 3 + held
    assert [event["lines"] for event in here.events("dropped")] == [10 - held]


@pytest.mark.parametrize("kind", ["raw", "averages", "events"])
@pytest.mark.parametrize("how", ["rename", "delete", "truncate"])
def test_a_file_disturbed_by_others_is_an_event(scripted, kind, how):
    """A file renamed, deleted or cut is created again within a tick; averages still follow from the raw log."""
    here = scripted()
    here.pipeline.events.record("start")
    for _ in range(3):
        run_tick(here)
    path = here.folder.path(kind, "2026-11-22")
    if how == "rename":
        path.rename(path.with_suffix(".old"))
    elif how == "delete":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
    here.script.answers["a"] = Failure("refused", "connection refused")
    run_tick(here)
    run_tick(here)
    raw, averages = here.records("raw"), here.records("averages")
    assert [line["_polled_at"] for line in raw] == [line["polled_at"] for line in averages]
    assert len(here.events("truncated")) == 1
    if kind != "raw":
        assert len(raw) == 13


def test_a_day_that_still_waits_for_lines_is_not_closed(scripted):
    """A day is closed only when nothing of it waits; after that no line goes to its file."""
    here = scripted()
    run_tick(here)
    block(here)
    run_tick(here)
    assert not here.pipeline.writer.close_day("2026-11-22")
    unblock(here)
    run_tick(here)
    assert here.pipeline.writer.close_day("2026-11-22")
    run_tick(here)
    assert here.folder.days("raw") == ["2026-11-22", "2026-11-23"]


def test_a_folder_that_is_days_ahead_of_the_clock_is_reported(plant, caplog):
    """The log and the readiness reasons say that readings go to a file of next year."""
    here = plant(start=MIDNIGHT)
    assert here.pipeline.writer.day_ahead is None
    here.folder.path("raw", "2027-11-23").parent.mkdir(parents=True)
    here.folder.path("raw", "2027-11-23").write_bytes(b"")
    here.open()
    here.tick()
    here.pipeline.writer.end()
    here.pipeline.writer.run()
    assert "is 2027-11-23" in caplog.text
    assert any("2027-11-23" in reason for reason in here.pipeline.not_ready())
