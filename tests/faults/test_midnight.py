"""Each reading is in the file of its day, and each day has its report, on rare dates and after missed nights too."""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import date, datetime, timedelta

import orjson
import pytest

from etl.live import pipeline
from etl.nightly.report import encode
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.reports import make_report
from tests.support.world import DAY, MIDNIGHT, NOON, check_reports, reopen, restart


@pytest.mark.parametrize("down", [40 * 60.0, 3 * DAY], ids=["over midnight", "3 days"])
def test_a_missed_report_is_made_at_the_next_start(world, monkeypatch, down):
    """A process that was down when the report was due makes it within a minute of its start, with the same bytes."""
    steady = world(MIDNIGHT - 1200)
    steady.run(600)
    steady.here.clock.now = MIDNIGHT + 301
    (on_time,) = steady.here.night()
    missed = world(MIDNIGHT - 1200)
    missed.run(600)
    missed.here.clock.now += down
    missed = restart(missed, monkeypatch)
    missed.run(60)
    assert missed.here.folder.reports() == ["2026-11-22"]
    assert missed.here.folder.report_path("2026-11-22").read_bytes() == on_time.read_bytes()
    assert len(missed.here.folder.days("raw")) == 2


class Crash(BaseException):
    """The process is killed at this call."""


@pytest.mark.parametrize("detectors", [[], ["telemetry"]])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_process_killed_during_the_report_makes_it_at_the_next_start(plant, monkeypatch, call, detectors):
    """Killed at any step of writing there is no report; the next start writes the bytes that were due."""
    here = plant(MIDNIGHT - 100, report={"detectors": detectors})
    here.tick(20)
    here.clock.now = MIDNIGHT + 301
    wanted = encode(make_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22"))

    def die(*_, **__):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(os, call, die)
        with pytest.raises(Crash):
            here.night()
    assert here.folder.reports() == []
    here.close()
    here.open()
    here.tick()
    (path,) = here.night()
    assert path.read_bytes() == wanted
    left = [path.name for path in here.folder.reports_path.rglob("*") if path.is_file()]
    assert sorted(left) == ["2026-11-22.html", "2026-11-22.json", *["2026-11-22.msgpack"] * len(detectors)]


@pytest.mark.parametrize(
    ("start", "days"),
    [
        ("2028-02-28T23:59:45Z", ["2028-02-28", "2028-02-29"]),
        ("2028-02-29T23:59:45Z", ["2028-02-29", "2028-03-01"]),
        ("2027-02-28T23:59:45Z", ["2027-02-28", "2027-03-01"]),
        ("2026-12-31T23:59:45Z", ["2026-12-31", "2027-01-01"]),
        ("2038-01-19T03:14:00Z", ["2038-01-19"]),
        ("2038-01-19T23:59:45Z", ["2038-01-19", "2038-01-20"]),
        ("1970-01-01T00:00:00Z", ["1970-01-01"]),
    ],
)
def test_rare_dates_are_ordinary_days(world, monkeypatch, start, days):
    """Across a leap day, the end of a year and the 32-bit seconds each day has its lines and its report."""
    process = world(datetime.fromisoformat(start).timestamp())
    here = process.here
    process.run(30)
    assert here.folder.days("raw") == days
    process = restart(process, monkeypatch)
    process.run(DAY / 24)
    check_reports(here, days[:-1])
    assert here.records("averages")[-1]["readings"] == 5
    assert here.events("repaired", "truncated", "clock_step") == []
    for day in here.folder.reports():
        assert orjson.loads(here.folder.report_path(day).read_bytes())["machines"][0]["expected"] == 8640


ODD = [
    "2026-12-31T23:59:60Z", "2026-12-31T23:59:60Z", "2025-01-01T00:00:00Z", "2027-11-22T12:00:00+01:00",
    "2026-11-22T12:00:00", "22.11.2026 12:00", "", 1_795_348_800, 1_795_348_800_123, 1_795_348_800.5, 0,
    "1970-01-01T00:00:00Z", "2038-01-19T03:14:08Z", -1, False, ["2026"], {"at": 1}, "9999-12-31T23:59:59Z",
]  # fmt: skip


def test_a_readings_own_timestamp_is_passed_on_untouched(world):
    """Whatever is in `timestamp`, each poll is a reading of the day it was polled on, in polling order."""
    here = world(NOON).here
    script = here.pipeline.poller._transports["a"]
    for stamp in ODD:
        script.answers["a"] = orjson.dumps({"timestamp": stamp, "temperature": 20, "fan_speed": 9 + (stamp == 0)})
        here.pipeline.poller.poll(["a"])
        here.pipeline.writer.tick()
        here.clock.now += 10
    assert here.folder.days("raw") == ["2026-11-22"]
    for kind in ("raw", "averages"):
        assert [repr(line["timestamp"]) for line in here.records(kind)] == [repr(stamp) for stamp in ODD]
    here.clock.now = MIDNIGHT + 301
    (path,) = here.night()
    anomalies = orjson.loads(path.read_bytes())["machines"][0]["parameters"]["speed"]["anomalies"]
    assert anomalies == []
    assert here.events("rejected", "source_down") == []


def test_a_line_polled_in_a_leap_second_is_damaged_and_affects_no_other(plant):
    """`:60` in `_polled_at`, which this program never writes, makes a hand-made line a damaged one."""
    here = plant()
    here.tick(6)
    path = here.folder.path("raw", "2026-11-22")
    first, *rest = path.read_bytes().splitlines(keepends=True)
    at = orjson.loads(first)["_polled_at"]
    path.write_bytes(first.replace(at.encode(), at[:17].encode() + b"60.000Z") + b"".join(rest))
    here.open()
    here.tick()
    assert [line["readings"] for line in here.records("averages")] == [1, 2, 3, 4, 5, 5]
    report = make_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22")
    assert report["machines"][0]["readings"] == 6


@pytest.mark.parametrize("seed", range(3))
def test_every_reading_of_days_a_second_long_is_in_one_file(world, monkeypatch, seed):
    """With days of one second, restarts and kills among them, each reading is in its day's file, and only there."""
    chance = random.Random(seed)

    def day_of(moment: float) -> str:
        return (date(2026, 11, 22) + timedelta(days=int(moment - NOON))).isoformat()

    monkeypatch.setattr(pipeline, "day_finder", lambda _zone: day_of)
    here = world(NOON).here
    wanted = Counter()
    for n in range(300):
        script = here.pipeline.poller._transports["a"]
        script.answers["a"] = [b'{"temperature": 1, "n": %d}' % number for number in range(3 * n, 3 * n + 3)]
        wanted[day_of(round(here.clock.now, 3))] += 3
        here.pipeline.poller.poll(["a"])
        here.pipeline.writer.tick()
        here.clock.now += chance.choice([0.001, 0.25, 0.333, 0.5, 0.9997])
        if chance.random() < 0.05:
            reopen(here)
    numbers = []
    for day in here.folder.days("raw"):
        lines = [orjson.loads(line) for _, line in here.folder.lines("raw", day)]
        assert {day_of(datetime.fromisoformat(line["_polled_at"]).timestamp()) for line in lines} == {day}
        assert len(lines) == wanted[day]
        numbers += [line["n"] for line in lines]
    assert numbers == list(range(900))
    derivation = Derivation(SettingsLog(here.folder, here.loaded.settings))
    assert here.bytes_of("averages") == {day: b"".join(derivation.day(day)) for day in here.folder.days("raw")}
