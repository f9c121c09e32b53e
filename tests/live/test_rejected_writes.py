"""Writes that fail: readings wait, up to a limit."""

from __future__ import annotations

from etl.live import writer as writing
from tests.support.transport import run_tick


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
    held = len(here.pipeline.logs.raw)
    assert 0 < held < 10
    assert here.pipeline.writer.unwritten == 10
    unblock(here)
    here.pipeline.writer.tick()
    here.pipeline.writer.tick()
    assert len(here.records("raw")) == 3 + held
    assert [event["lines"] for event in here.events("dropped")] == [10 - held]


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
