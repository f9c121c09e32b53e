"""Closed days: compressed without a change for readers, deleted only when nothing depends on them."""

from __future__ import annotations

import pytest

from etl.storage.folder import Folder
from etl.storage.recovery.derivation import Derivation
from etl.storage.retention import compress, delete_old
from etl.storage.settings_log import SettingsLog
from tests.support.folders import prove
from tests.support.reports import make_report

MIDNIGHT = 1_795_392_000.0
"""2026-11-23T00:00:00Z."""
DAY = 86_400.0


@pytest.fixture
def week(plant):
    """Seven days of a few ticks each, around midnight, the first six reported."""
    here = plant(start=MIDNIGHT - 20)
    for day in range(7):
        here.clock.now = MIDNIGHT - 20 + day * DAY
        here.tick(4)
    here.clock.now += 400
    here.night()
    here.pipeline.writer.finish()
    return here


def never() -> bool:
    return False


def everything(folder: Folder) -> dict[tuple[str, str], bytes]:
    return {
        (kind, day): b"".join(line for _, line in folder.lines(kind, day))
        for kind in ("raw", "averages", "events")
        for day in folder.days(kind)
    }


def test_compressed_days_read_as_before(week):
    """Compressing leaves every line readable, the newest day plain, reports and averages derivable as they were."""
    folder = week.folder
    before = everything(folder)
    reports = {day: make_report(SettingsLog(folder, week.loaded.settings), day) for day in folder.days("raw")}
    assert compress(folder, never) == folder.days("raw")[:-1]
    assert not folder.path("raw", folder.days("raw")[0]).exists()
    assert folder.path("raw", folder.days("raw")[-1]).exists()
    assert everything(folder) == before
    assert {day: make_report(SettingsLog(folder, week.loaded.settings), day) for day in folder.days("raw")} == reports
    derivation = Derivation(SettingsLog(folder, week.loaded.settings))
    for day in folder.days("raw"):
        assert b"".join(derivation.day(day)) == before["averages", day]
    assert compress(folder, never) == []


def test_after_compressing_the_next_start_goes_on(week):
    """A restart on a folder with compressed days keeps the windows across them."""
    week.clock.now = MIDNIGHT + 6.0 * DAY + 200
    compress(week.folder, never)
    week.open()
    week.tick()
    assert week.records("averages")[-1]["readings"] == 5
    assert week.events("repaired") == []


def test_compression_that_was_killed_is_done_again(week):
    """Where a day has a plain and a compressed file the plain one counts, and the next night compresses it again."""
    folder = week.folder
    day = folder.days("raw")[0]
    before = everything(folder)
    folder.packed_path("raw", day).write_bytes(b"half a fi")
    assert everything(folder) == before
    compress(folder, never)
    assert everything(folder) == before


def test_averages_and_events_go_first_the_raw_log_a_day_later(week):
    """Of days older than kept, averages and events are deleted, the raw log a day later; reports stay."""
    folder = week.folder
    days = folder.days("raw")
    assert len(days) == 8
    reports = folder.reports()
    deleted = delete_old(SettingsLog(folder, week.loaded.settings), days[-1], 3)
    assert folder.days("averages") == days[4:]
    assert folder.days("raw") == days[3:]
    assert folder.reports() == reports
    assert f"raw/{days[0]}.jsonl" in deleted
    assert delete_old(SettingsLog(folder, week.loaded.settings), days[-1], 3) == []


def test_averages_stay_derivable_when_the_past_is_deleted(week):
    """The averages that are left follow from the raw log that is left."""
    folder = week.folder
    before = everything(folder)
    delete_old(SettingsLog(folder, week.loaded.settings), folder.days("raw")[-1], 2)
    derivation = Derivation(SettingsLog(folder, week.loaded.settings))
    kept = folder.days("averages")
    for day in folder.days("raw"):
        derived = b"".join(derivation.day(day))
        if day in kept:
            assert derived == before["averages", day]


def test_the_raw_log_stays_while_a_later_average_needs_it(plant):
    """With an interval of an hour a machine may be silent for 100 hours: raw days that far back are kept."""
    here = plant(start=MIDNIGHT, interval="1h")
    here.tick(48, interval=DAY / 4)
    here.clock.now += 1000
    here.night()
    days = here.folder.days("raw")
    delete_old(SettingsLog(here.folder, here.loaded.settings), days[-1], 1)
    assert here.folder.days("averages") == days[-2:]
    assert here.folder.days("raw") == days[-7:]


def test_a_day_without_a_report_is_never_touched(week):
    """Without its report a day is neither compressed nor deleted."""
    folder = week.folder
    day = folder.days("raw")[0]
    folder.report_path(day).unlink()
    compress(folder, never)
    delete_old(SettingsLog(folder, week.loaded.settings), folder.days("raw")[-1], 1)
    assert folder.path("raw", day).exists()
    assert folder.path("averages", day).exists()


def test_compression_waits_until_the_folder_is_recovered(plant):
    """Before recovery has run, nothing is compressed and nothing is deleted."""
    here = plant(start=1_795_392_000.0 - 20)
    here.tick_days(4)
    here.night()
    here.config["output"] = {"keep_days": 1, "compress": "gzip"}
    before = {kind: here.bytes_of(kind) for kind in ("raw", "averages", "events")}
    here.open()
    here.night()
    assert {kind: here.bytes_of(kind) for kind in before} == before
    here.tick()
    here.night()
    assert here.folder.days("averages")[0] > min(before["averages"])


def test_compression_stops_where_it_is_when_the_process_ends(plant):
    """Asked to stop, compression leaves the plain file as it is and no other file beside it."""
    here = plant(start=1_795_392_000.0 - 20)
    here.tick(4)
    here.clock.now += 86_400
    here.tick()
    here.night()
    before = here.bytes_of("raw")
    assert compress(here.folder, lambda: True) == []
    assert here.bytes_of("raw") == before
    assert not [path for path in (here.folder.root / "raw").iterdir() if path.suffix != ".jsonl"]


def test_alarms_are_compressed_and_deleted_like_averages(plant):
    """A week with an alarm that stays raised: the compressed files read as before, deleted days are no fault."""
    here = plant(start=MIDNIGHT - 20, alarms=[{"name": "busy", "parameter": "speed", "above": 0}])
    for day in range(7):
        here.clock.now = MIDNIGHT - 20 + day * DAY
        here.tick(4)
    here.clock.now += 400
    here.night()
    here.pipeline.writer.finish()
    folder = here.folder
    days = folder.days("alarms")
    assert days == folder.days("averages")
    before = {day: [line for _, line in folder.lines("alarms", day)] for day in days}
    assert all(b'"continued":true' in lines[0] for lines in list(before.values())[1:])
    compress(folder, never)
    assert not folder.path("alarms", days[0]).exists()
    assert {day: [line for _, line in folder.lines("alarms", day)] for day in days} == before
    delete_old(SettingsLog(folder, here.loaded.settings), days[-1], 2)
    assert folder.days("alarms") == folder.days("averages") == days[-3:]
    here.close()
    here.settings = here.loaded.settings
    assert [text for text in prove(here, deleted=days[:-3])[0] if "alarms" in text] == []
