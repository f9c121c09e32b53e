"""A clock that is set, a machine that sleeps, a process that is stopped."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import orjson
import pytest

from tests.support.plant import FIXTURE
from tests.support.process import Site, end, until
from tests.support.world import DAY, HOUR, MIDNIGHT, NOON, YEAR, check_reports, restart


def told(here, *names: str) -> list[tuple]:
    return [(event["event"], event["reason"], round(event.get("seconds", 0))) for event in here.events(*names)]


STEPS = {"5 s": 5.0, "1 h": HOUR, "1 d": DAY, "1 y": YEAR}


@pytest.mark.parametrize("back", STEPS.values(), ids=STEPS)
def test_a_clock_set_back_stops_no_poll_and_repeats_no_report(world, back):
    """Set back after the night's report, polls go on, one event records it, and no day is reported or entered again."""
    process = world(MIDNIGHT - 600)
    here = process.here
    process.at(1203, process.set_clock, -back)
    process.at(3003, process.set_clock, back)
    process.at(3303, process.set_clock, DAY)
    process.run(3600)
    assert process.longest_silence() <= 20
    assert told(here, "clock_step", "gap") == [
        ("clock_step", "set back", back),
        ("clock_step", "set forward", back),
        ("gap", "set forward", back),
        ("clock_step", "set forward", DAY),
        ("gap", "set forward", DAY),
    ]
    assert here.folder.days("raw") == ["2026-11-22", "2026-11-23", "2026-11-24"]
    assert here.folder.days("events") == here.folder.days("raw")[1:]
    check_reports(here, ["2026-11-22", "2026-11-23"])


@pytest.mark.parametrize(
    ("what", "seconds", "events"),
    [
        ("set_clock", HOUR, [("clock_step", "set forward"), ("gap", "set forward")]),
        ("set_clock", DAY + 3, [("clock_step", "set forward"), ("gap", "set forward")]),
        ("set_clock", 10 * YEAR, [("clock_step", "set forward"), ("gap", "set forward")]),
        ("suspend", 8 * HOUR, [("gap", "suspended")]),
        ("stall", 8 * HOUR, [("gap", "stalled")]),
    ],
    ids=["1 h", "1 d", "10 y", "suspend", "stop"],
)
def test_missing_time_is_one_gap_and_one_poll(world, what, seconds, events):
    """Set forward, suspended or stopped, there is one gap event, no burst of polls, and the reports that came due."""
    process = world(MIDNIGHT - 6 * HOUR)
    here = process.here
    process.at(603, getattr(process, what), seconds)
    process.run(1200 + seconds * (what == "stall"))
    after = [poll for poll in process.polls if poll > 1603]
    assert after[0] - 1603 - seconds * (what == "stall") <= 20
    assert len(process.polls) <= 123
    assert process.asked < 6 * 150
    assert [(name, reason) for name, reason, _ in told(here, "clock_step", "gap")] == events
    missing = here.events("gap")[0]
    assert missing["seconds"] == pytest.approx(seconds, abs=21)
    assert here.folder.days("raw")[0] == "2026-11-22"
    check_reports(here, ["2026-11-22"] if seconds > 6 * HOUR else [])


def test_ten_years_later_and_back_again_the_newest_day_goes_on(world):
    """After a leap into the future and back the folder's day stays the newest, and every reading is kept in order."""
    process = world(NOON)
    here = process.here
    process.at(303, process.set_clock, 10 * YEAR)
    process.at(603, process.set_clock, -10 * YEAR)
    process.run(1200)
    assert process.longest_silence() <= 20
    assert here.folder.days("raw") == ["2026-11-22", "2036-11-19"]
    assert len(here.records("raw")) == len(here.records("averages")) == len(process.polls)
    check_reports(here, ["2026-11-22"])


def test_after_a_restart_with_the_clock_set_back_events_stay_in_the_newest_day(world, monkeypatch):
    """Started with a clock behind the folder's day, a process writes its events to the newest day's file."""
    process = world(MIDNIGHT - 60)
    here = process.here
    here.pipeline.events.record("start")
    process.run(600)
    before = here.bytes_of("events")["2026-11-22"]
    here.clock.now -= DAY
    process = restart(process, monkeypatch)
    here.pipeline.events.record("start")
    process.run(30)
    assert here.folder.days("events") == ["2026-11-22", "2026-11-23"]
    assert here.bytes_of("events")["2026-11-22"] == before
    assert here.records("events")[-1]["event"] == "start"


FAKETIME = [
    found
    for lib in ("/usr/lib", "/usr/local/lib")
    for pattern in ("faketime", "*/faketime")
    for found in Path(lib).glob(f"{pattern}/libfaketimeMT.so.1")
]


@pytest.fixture
def steady(tmp_path):
    """A config that reads a file five times a second."""
    site = Site(tmp_path)
    site.save(sources=[{"name": "file", "file": str(FIXTURE)}], api={"serve": False}, output={"stdout": []})
    return site


def more_lines(site: Site) -> None:
    """Wait until two more readings are written."""
    before = written(site)
    until(lambda: written(site) >= before + 2)


def written(site: Site) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (site.root / "output" / "raw").glob("*.jsonl"))


def jumps(site: Site, least: float = 0.0) -> list[tuple[str, str]]:
    """The events about the clock and about gaps of at least so many seconds, as (event, reason)."""
    paths = sorted((site.root / "output" / "events").glob("*.jsonl"))
    events = [orjson.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    return [
        (event["event"], event["reason"])
        for event in events
        if event["event"] in ("clock_step", "gap") and event["seconds"] >= least
    ]


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed: it sets the clock of one process")
@pytest.mark.parametrize(
    ("by", "events"),
    [
        (-5, [("clock_step", "set back")]),
        (-3600, [("clock_step", "set back")]),
        (-31_536_000, [("clock_step", "set back")]),
        (315_360_000, [("clock_step", "set forward"), ("gap", "set forward")]),
    ],
    ids=["-5 s", "-1 h", "-1 y", "+10 y"],
)
def test_the_clock_of_a_real_process_is_set(steady, monkeypatch, by, events):
    """A real process whose clock is set polls on, records it once, and goes on in the newest day."""
    setting = steady.root / "clock"
    setting.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME[0]))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(setting))
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    with steady.running() as process:
        until(lambda: written(steady) >= 2)
        days = sorted(os.listdir(steady.root / "output" / "raw"))
        (steady.root / "aside").write_text(f"{by:+d}")
        (steady.root / "aside").rename(setting)
        more_lines(steady)
        until(lambda: jumps(steady))
        more_lines(steady)
        end(process)
    for left in Path("/dev/shm").glob(f"*faketime_s*_{process.pid}"):
        left.unlink()
    assert [jump for jump in jumps(steady) if jump != ("gap", "stalled")] == events
    assert min(os.listdir(steady.root / "output" / "raw")) == days[0]


def test_a_real_process_that_was_stopped_records_the_gap(steady):
    """Stopped for some seconds and continued, the process polls on and one event says how long it was stopped."""
    with steady.running() as process:
        until(lambda: written(steady) >= 2)
        process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        until(lambda: time.monotonic() > stopped + 5)
        process.send_signal(signal.SIGCONT)
        more_lines(steady)
        until(lambda: jumps(steady, 5))
        end(process)
    assert jumps(steady, 5) == [("gap", "stalled")]
