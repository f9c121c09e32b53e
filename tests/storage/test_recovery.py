"""Recovery at start: whatever the averages lack is derived from the raw log again."""

from __future__ import annotations

import gzip
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.readings.records import Settings, SettingsEntry
from etl.storage import places, staging
from etl.storage.folder import Folder
from etl.storage.latest import last_positions
from etl.storage.places import Place
from etl.storage.recovery import start as recovery
from etl.storage.recovery.derivation import Derivation, windows_before
from etl.storage.recovery.start import recover, write_settings
from etl.storage.settings_log import SettingsLog
from tests.support.reports import write_report

FIELDS = {"temperature": "temperature", "speed": "fan_speed"}
FIVE = Settings(5, FIELDS, "UTC", 10.0, 0.2)
THREE = Settings(3, FIELDS, "UTC", 10.0, 0.2)


def test_restarts_do_not_change_the_averages(plant):
    """Averages written through any number of restarts are those of an uninterrupted run."""
    through, restarted = plant(), plant()
    through.tick(17)
    for ticks in (3, 1, 0, 6, 7):
        restarted.tick(ticks)
        turn = sum(1 for _ in restarted.records("raw"))
        restarted.close()
        restarted.open()
        reader = restarted.pipeline._opened["file"]._by_name["machine-1"]
        reader._next_item = turn
    assert len(restarted.records("averages")) == 17
    assert restarted.bytes_of("averages") == through.bytes_of("averages")


def damage(path, how, byte):
    data = path.read_bytes()
    byte %= len(data)
    if how == "cut":
        path.write_bytes(data[:byte])
    elif how == "change":
        path.write_bytes(data[:byte] + b"9" + data[byte + 1 :])
    elif how == "surplus":
        path.write_bytes(data + data[:byte])
    else:
        path.unlink()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(how=st.sampled_from(["cut", "change", "surplus", "delete"]), byte=st.integers(0, 10**6))
def test_damaged_averages_are_derived_again(plant, how, byte):
    """Cut, changed, doubled or deleted, the averages have their bytes again after a start, and an event records it."""
    here = plant()
    here.tick(12)
    whole = here.bytes_of("averages")
    damage(here.folder.path("averages", "2026-11-22"), how, byte)
    damaged = here.bytes_of("averages") != whole
    told = []
    recover(here.folder, here.loaded.settings, "2026-11-22", lambda event, **more: told.append(event))
    assert here.bytes_of("averages") == whole
    assert ("repaired" in told) == damaged
    here.close()


@pytest.mark.parametrize("tail", [1, 400, 5000])
def test_averages_missing_around_midnight_are_appended_to_both_days(plant, tail, monkeypatch):
    """Lines missing at the end of one day and the start of the next are derived, with the windows of before."""
    monkeypatch.setattr(recovery, "TAIL_BYTES", tail)
    here = plant(start=1_795_392_000.0 - 100)
    here.tick(30)
    whole = here.bytes_of("averages")
    assert [len(data.splitlines()) for data in whole.values()] == [10, 20]
    os.truncate(here.folder.path("averages", "2026-11-22"), len(whole["2026-11-22"]) // 2)
    here.folder.path("averages", "2026-11-23").unlink()
    recover(here.folder, here.loaded.settings, "2026-11-23", lambda *_, **__: None)
    assert here.bytes_of("averages") == whole


def test_a_torn_raw_line_is_kept_in_torn_and_its_average_is_cut(plant):
    """A raw line torn by a crash is cut with the averages that followed from it; the next tick goes on."""
    here = plant()
    here.tick(6)
    raw = here.folder.path("raw", "2026-11-22")
    os.truncate(raw, raw.stat().st_size - 20)
    here.open()
    here.tick()
    assert len(here.records("raw")) == len(here.records("averages")) == 6
    assert {event["reason"] for event in here.events("repaired")} == {"torn", "averages"}
    assert raw.with_name("2026-11-22.jsonl.torn").exists()
    whole = b"".join(Derivation(SettingsLog(here.folder, here.loaded.settings)).day("2026-11-22"))
    assert here.bytes_of("averages")["2026-11-22"] == whole


def test_a_changed_window_starts_every_window_over(plant):
    """Where the settings change the window's size every window starts over, from the line in settings.jsonl on."""
    here = plant()
    here.tick(6)
    here.config["window"] = 3
    here.open()
    here.tick(4)
    assert [line["readings"] for line in here.records("averages")] == [1, 2, 3, 4, 5, 5, 1, 2, 3, 3]
    assert [(entry.line, entry.settings.window) for entry in SettingsLog(here.folder, FIVE).entries] == [(1, 5), (7, 3)]
    assert (
        b"".join(Derivation(SettingsLog(here.folder, here.loaded.settings)).day("2026-11-22"))
        == here.bytes_of("averages")["2026-11-22"]
    )


def test_a_changed_threshold_leaves_the_windows_as_they_are(plant):
    """Settings that averages do not depend on change no window."""
    here = plant()
    here.tick(6)
    here.config["report"] = {"threshold": 0.5}
    here.open()
    here.tick(1)
    assert here.records("averages")[-1]["readings"] == 5
    assert len(SettingsLog(here.folder, FIVE).entries) == 2


def test_the_entry_written_last_governs(tmp_path):
    """The entry written last that is not after a line counts; before the first entry the config does."""
    entries = [
        SettingsEntry("2026-11-22", 5, FIVE),
        SettingsEntry("2026-11-22", 9, THREE),
        SettingsEntry("2026-11-22", 7, FIVE),
    ]
    log = SettingsLog(Folder(tmp_path), THREE, entries)
    lines = {line: log.at("2026-11-22", line).window for line in (4, 5, 7, 8, 9, 20)}
    assert lines == {4: 3, 5: 5, 7: 5, 8: 5, 9: 5, 20: 5}
    assert [first for first, _, _ in log.segments("2026-11-22")] == [1, 5, 7, 9]


@pytest.mark.parametrize("block", [100, 1000, 1 << 20])
def test_windows_before_any_line_are_those_of_the_fold(plant, block, monkeypatch):
    """The windows found from the end of the log are those of folding it from its beginning, at every line."""
    monkeypatch.setattr(places, "READ_BYTES", block)
    here = plant(start=1_795_392_000.0 - 100)
    here.tick(8)
    here.clock.now += 1800
    here.tick(3, interval=1500)
    here.config["window"] = 4
    here.open()
    here.tick(9)
    derivation = Derivation(SettingsLog(here.folder, here.loaded.settings))
    for day in here.folder.days("raw"):
        starts = [offset for offset, _ in here.folder.lines("raw", day)]
        lines = derivation.day(day)
        for number, offset in enumerate(starts, start=1):
            before, _ = windows_before(SettingsLog(here.folder, here.loaded.settings), Place(day, number, offset))
            assert {key: (w.readings, w.at, w.values) for key, w in before.items()} == {
                key: (w.readings, w.at, w.values) for key, w in derivation.windows.items()
            }
            next(lines)


def test_a_folder_made_by_hand_is_governed_by_the_config(plant):
    """Raw lines without settings.jsonl are folded under the config, and later starts agree."""
    here = plant()
    here.tick(6)
    whole = here.bytes_of("averages")
    here.folder.settings_path.unlink()
    here.folder.path("averages", "2026-11-22").unlink()
    here.open()
    here.tick(0)
    here.pipeline.writer.tick()
    assert here.bytes_of("averages") == whole


def test_settings_for_lines_that_were_cut_off_never_govern_others(tmp_path):
    """An entry for a line that a truncated file no longer has is superseded before it could govern a new line."""
    folder = Folder(tmp_path)
    one, two = (Settings(window, {"t": "t"}, "UTC", 10.0, 0.2) for window in (3, 5))
    day, path = "2026-11-22", folder.path("raw", "2026-11-22")
    path.parent.mkdir()
    for used, lines in ((one, 10), (two, 20), (one, 3)):
        path.write_bytes(b"{}\n" * lines)
        write_settings(folder, used, day, lambda *_, **__: None)
    assert SettingsLog(folder, one).entries == [
        SettingsEntry(day, 11, one),
        SettingsEntry(day, 21, two),
        SettingsEntry(day, 4, one),
    ]


DAYS = ["2026-11-22", "2026-11-23", "2026-11-24", "2026-11-25"]


@pytest.mark.parametrize(
    "missing", [DAYS[:1], DAYS[1:2], DAYS[3:], DAYS[:2], DAYS], ids=["oldest", "middle", "newest", "two", "all"]
)
@pytest.mark.parametrize("keep_days", [None, 2])
def test_a_start_derives_missing_averages_unless_keep_days_deletes_them(plant, missing, keep_days, monkeypatch):
    """Whichever averages are missing, a start derives them; only those of reported days beyond keep_days stay away."""
    monkeypatch.setattr(recovery, "TAIL_BYTES", 1)
    here = plant(output={"keep_days": keep_days})
    for _ in range(3):
        here.tick_days(1)
        here.pipeline.writer.close_day(here.folder.days("raw")[-1])
        make_reports(here)
    here.tick(4)
    here.pipeline.writer.finish()
    whole = here.bytes_of("averages")
    for day in missing:
        here.folder.path("averages", day).unlink()
    here.open()
    here.pipeline.writer.tick()
    deleted = {DAYS[0]} & {*missing} if keep_days else set()
    assert here.bytes_of("averages") == {day: data for day, data in whole.items() if day not in deleted}


def test_a_start_that_is_killed_leaves_no_part_of_missing_averages(plant, monkeypatch):
    """Older averages are derived completely or not at all, so that the next start derives them."""
    monkeypatch.setattr(recovery, "TAIL_BYTES", 1)
    here = plant()
    here.tick_days(4)
    here.pipeline.writer.finish()
    whole = here.bytes_of("averages")
    here.folder.path("averages", DAYS[0]).unlink()
    here.open()
    with monkeypatch.context() as patches:
        patches.setattr(staging, "_has_lines", killed)
        with pytest.raises(KeyboardInterrupt):
            here.pipeline.writer.tick()
    assert not here.folder.path("averages", DAYS[0]).exists()
    here.open()
    here.pipeline.writer.tick()
    assert here.bytes_of("averages") == whole


def killed(*_) -> None:
    raise KeyboardInterrupt


def make_reports(here) -> None:
    """Report every day that is over."""
    for day in here.folder.days("raw"):
        if day not in here.folder.reports():
            write_report(SettingsLog(here.folder, here.loaded.settings), day)


def test_a_start_derives_the_averages_of_a_day_that_lacks_them(plant, monkeypatch):
    """At the next start a day in the middle without averages gets them again; compressed days stay as they are."""
    monkeypatch.setattr("etl.storage.recovery.start.TAIL_BYTES", 1)
    here = plant(start=1_795_392_000.0 - 20)
    here.tick_days(6)
    here.pipeline.writer.finish()
    wanted = here.bytes_of("averages")
    _, gone, packed, *_ = wanted
    for kind in ("raw", "averages"):
        path = here.folder.path(kind, packed)
        here.folder.packed_path(kind, packed).write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    here.folder.path("averages", gone).unlink()
    here.open()
    here.pipeline.writer.tick()
    assert not here.folder.path("averages", packed).exists()
    assert {
        day: b"".join(line for _, line in here.folder.lines("averages", day)) for day in here.folder.days("averages")
    } == wanted


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:-8] + bytes(8), lambda data: b""])
def test_a_damaged_compressed_day_does_not_prevent_a_start(plant, damage):
    """The windows and the positions go on from what can be read of it; the start changes nothing that is there."""
    here = plant(start=1_795_392_000.0 - 20)
    here.tick_days(2)
    here.pipeline.writer.finish()
    damaged, today = here.folder.days("raw")[-2:]
    here.pipeline.logs.close()
    packed = here.folder.packed_path("raw", damaged)
    packed.write_bytes(damage(gzip.compress(here.folder.path("raw", damaged).read_bytes())))
    here.folder.path("raw", damaged).unlink()
    before = here.folder.path("raw", today).read_bytes()
    here.open()
    last_positions(here.folder, {"new"})
    here.tick()
    assert here.folder.path("raw", today).read_bytes().startswith(before)
    assert here.folder.count("averages", today) == here.folder.count("raw", today) > before.count(b"\n")
