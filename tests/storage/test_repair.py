"""Damage that a power cut leaves between sound lines: moved to `*.torn`, with everything that follows from it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from etl.readings.answers import parse
from etl.storage.recovery import start as recovery
from etl.storage.recovery.repair import remove_leftovers
from etl.storage.settings_log import SettingsLog
from tests.support.folders import prove

DAY = "2026-11-22"


def zero(path: Path, start: int, end: int) -> None:
    """Put zeros into a file, as a page that did not reach the disk does."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(end - start))


def starts_of(path: Path) -> list[int]:
    """The offset of each line of a file."""
    data = path.read_bytes()
    return [0, *(offset + 1 for offset in range(len(data) - 1) if data[offset : offset + 1] == b"\n")]


def check_sound(here) -> None:
    """Everything follows from the raw log, and every line is JSON."""
    here.settings = here.loaded.settings
    assert prove(here)[0] == []
    for kind in ("raw", "averages", "events"):
        for data in here.bytes_of(kind).values():
            assert all(parse(line) for line in data.splitlines())


def restart(here) -> None:
    here.open()
    here.pipeline.writer.tick()


def test_damage_between_raw_lines_is_moved_aside(plant):
    """Zeros in the middle of the raw log cost the lines they hit, which are kept in `*.torn` and reported."""
    here = plant()
    here.tick(12)
    path = here.folder.path("raw", DAY)
    lines, starts = path.read_bytes().splitlines(keepends=True), starts_of(path)
    zero(path, starts[4] + 10, starts[5] + 10)
    damaged = path.read_bytes()[starts[4] : starts[6]]
    restart(here)
    assert path.read_bytes() == b"".join(lines[:4] + lines[6:])
    assert path.with_name(path.name + ".torn").read_bytes() == damaged
    event = here.events("repaired")[0]
    assert (event["reason"], event["file"], event["lines"], event["bytes"]) == (
        "damaged",
        f"raw/{DAY}.jsonl",
        1,
        len(damaged),
    )
    check_sound(here)


def test_damaged_averages_in_the_middle_are_derived_again(plant):
    """Zeros in the averages cost nothing, although more lines follow than a start derives again."""
    here = plant()
    here.tick(12)
    path = here.folder.path("averages", DAY)
    whole, starts = path.read_bytes(), starts_of(path)
    zero(path, starts[4] + 10, starts[5] + 10)
    with patch.object(recovery, "TAIL_BYTES", 200), patch.object(recovery, "DELAYED_BYTES", 1 << 20):
        here.config["output"] = {"fsync": "10s"}
        restart(here)
    assert path.read_bytes() == whole


def test_damaged_events_in_the_middle_are_moved_aside(plant):
    """Zeros in the events log cost the events they hit; those after them stay."""
    here = plant()
    here.tick()
    for number in range(4):
        here.pipeline.events.record("gap", reason="stalled", number=number)
    here.pipeline.writer.finish()
    path = here.folder.path("events", DAY)
    zero(path, starts_of(path)[1] + 10, starts_of(path)[2] - 1)
    restart(here)
    assert [event.get("number") for event in here.events("gap")] == [0, 2, 3]
    check_sound(here)


def changed_settings(plant):
    """A plant whose settings changed before line 9, and whose lines 3 to 5 are one damaged line."""
    here = plant()
    here.tick(8)
    here.config["window"] = 3
    here.open()
    here.tick(4)
    path = here.folder.path("raw", DAY)
    zero(path, starts_of(path)[2] + 10, starts_of(path)[4] + 10)
    return here


def check_moved(here) -> None:
    """The lines after the damage have the settings they had before."""
    entries = SettingsLog(here.folder, here.loaded.settings).entries
    assert [(entry.line, entry.settings.window) for entry in entries] == [(1, 5), (6, 3)]
    assert [line["readings"] for line in here.records("averages")] == [1, 2, 3, 4, 5, 1, 2, 3, 3]
    assert not list(here.folder.root.rglob("*.tmp"))
    check_sound(here)


def test_settings_entries_move_up_with_removed_lines(plant):
    """An entry of settings.jsonl goes on to govern the line it was written for."""
    here = changed_settings(plant)
    restart(here)
    check_moved(here)


@pytest.mark.parametrize("call", range(11))
def test_a_repair_that_was_killed_is_completed(plant, call, monkeypatch):
    """Killed before any of its renames and fsyncs, a repair moves the lines and the entries once."""
    here = changed_settings(plant)
    calls = 0

    def killed(function):
        def counted(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == call + 1:
                raise KeyboardInterrupt
            return function(*arguments, **named)

        return counted

    with monkeypatch.context() as patches, suppress(KeyboardInterrupt):
        for name in ("fsync", "replace"):
            patches.setattr(os, name, killed(getattr(os, name)))
        restart(here)
    remove_leftovers(here.folder.root)
    restart(here)
    check_moved(here)
    assert (here.folder.root / "raw" / f"{DAY}.jsonl.torn").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize(("fsync", "checked"), [("always", 1 << 20), ("10s", 16 << 20), ("never", 16 << 20)])
def test_the_span_that_may_not_be_durable_is_checked(plant, fsync, checked):
    """A start checks the last MiB of the raw log, 16 MiB where lines are not fsynced with each write."""
    here = plant(output={"fsync": fsync})
    here.tick()
    path = here.folder.path("raw", DAY)
    line = path.read_bytes()
    path.write_bytes(line + line.replace(b'"id"', b"\0\0\0\0") + line * (checked // len(line) - 3))
    restart(here)
    assert [event["reason"] for event in here.events("repaired")].count("damaged") == 1


@pytest.mark.parametrize("fsync", ["always", "10s", "never"])
def test_a_start_fsyncs_what_the_process_before_did_not(plant, fsync, monkeypatch):
    """The lines of a killed process are durable after a start, although the time until their fsync starts over."""
    here = plant(output={"fsync": fsync})
    here.tick(3)
    here.open()
    inodes = []
    system_fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: inodes.append(os.fstat(fd).st_ino) or system_fsync(fd))
    here.pipeline.writer.tick()
    for kind in ("raw", "averages"):
        assert here.folder.path(kind, DAY).stat().st_ino in inodes


def test_leftovers_of_killed_processes_are_removed(plant):
    """Unfinished files of a killed replay, rebuild, compression or link do not stay."""
    here = plant()
    here.tick()
    root = here.folder.root
    leftovers = [
        root / ".replay" / "raw" / f"{DAY}.jsonl",
        root / "averages" / f".{DAY}.jsonl.tmp",
        root / "raw" / f".{DAY}.jsonl.gz.tmp",
        root / "raw.jsonl.tmp",
    ]
    before = sorted(root.rglob("*"))
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remove_leftovers(root)
    assert sorted(root.rglob("*")) == before
