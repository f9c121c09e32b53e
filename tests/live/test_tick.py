"""One tick: the lines it writes, the events it records, and that no source waits for another."""

from __future__ import annotations

import logging
import threading

import orjson

from etl.live import poller
from etl.readings.records import Failure
from tests.support.process import HANG_S, until
from tests.support.transport import run_tick

MIDNIGHT = 1_795_392_000.0
"""2026-11-23T00:00:00Z."""


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
        "Error fetching data from b: connection refused (http://127.0.0.1:1/)",
        "b answers again after 40 s",
    ]
    (down,), (up,) = here.events("source_down"), here.events("source_up")
    assert (down["source"], down["reason"]) == ("b", "refused")
    assert (up["source"], up["reason"], up["seconds"]) == ("b", "refused", 40.0)
    assert [line["_source"] for line in here.records("raw")].count("b") == 2
    assert [line["_source"] for line in here.records("raw")].count("a") == 6


def test_a_hanging_source_costs_only_itself(scripted):
    """While one source hangs the others are written; its next polls are skipped and counted, and it is down."""
    here = scripted()
    here.script.hanging.add("a")
    polling, writer, counts = here.pipeline.poller, here.pipeline.writer, here.pipeline.standing.counts
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        for turn in range(1, 4):
            polling.poll(["a", "b", "c"])
            answers = 2 * turn
            until(lambda answers=answers: counts["answered"] >= answers)
            here.clock.now += 10
    finally:
        writer.end()
        thread.join()
    assert [line["_source"] for line in here.records("raw")].count("b") == 3
    assert polling.skipped == 2
    assert polling.in_flight == ["a"]
    assert [event["source"] for event in here.events("source_down")] == ["a"]


def test_what_was_delivered_does_not_wait_for_a_source_that_hangs(scripted, monkeypatch):
    """The writer waits for polls in flight only as long as results come."""
    monkeypatch.setattr(poller, "GATHER_S", 10 * HANG_S)
    here = scripted()
    here.script.hanging.add("a")
    here.pipeline.poller.poll(["a", "b"])
    here.pipeline.poller.wait(None)
    here.pipeline.writer.tick()
    assert [line["_source"] for line in here.records("raw")] == ["b"]


def test_a_reload_in_the_middle_of_a_slice_loses_no_poll(scripted):
    """The polls of a slice that a reload interrupts run on the transport they were meant for."""
    here = scripted()
    polling = here.pipeline.poller

    def names_and_a_reload():
        yield "a"
        polling.use({})

    polling.poll(names_and_a_reload())
    here.pipeline.writer.tick()
    assert [line["_source"] for line in here.records("raw")] == ["a"]
    assert polling.in_flight == []


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
