"""A folder and a config that version 0.1 wrote: this version finds them sound, and goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from freezegun import freeze_time

from etl.storage.folder import Folder
from tests.support import commands
from tests.support.process import Site, end, until

FIXTURE = Path(__file__).parents[1] / "fixtures" / "v0.1"
NOW = "2026-11-24T00:11:00Z"
"""Ten seconds after the last reading of the fixture."""


@pytest.fixture
def old(tmp_path):
    """A copy of the folder: `oven` reads an array, `press` follows a file that has grown by a line since."""
    copy = shutil.copytree(FIXTURE, tmp_path / "v0.1", symlinks=True)
    with (copy / "press.jsonl").open("a") as file:
        file.write('{"id":"press-2","temperature":64,"fan_speed":415,"status":"IDLE"}\n')
    return copy


def records(root: Path, kind: str) -> list[dict]:
    folder = Folder(root / "output")
    return [json.loads(line) for day in folder.days(kind) for _, line in folder.lines(kind, day)]


@freeze_time(NOW)
def test_the_folder_is_sound_and_the_config_is_accepted(old):
    """`etl check` accepts the config, `etl verify` proves every file, and neither changes anything."""
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    assert commands.etl(old, "check").returncode == 0
    proved = commands.etl(old, "verify")
    assert proved.returncode == 0
    assert proved.stdout.splitlines()[-1].endswith("2 reports checked: sound")
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


@freeze_time(NOW)
def test_once_goes_on_in_it(old):
    """`etl once` adds a line of each source, goes on with the windows, and reads the followed file where it ended."""
    before = records(old, "raw")
    assert commands.etl(old, "once").returncode == 0
    raw = records(old, "raw")
    assert raw[: len(before)] == before
    assert [(line["_source"], line["temperature"]) for line in raw[len(before) :]] == [("oven", 44.05), ("press", 64)]
    assert [line["readings"] for line in records(old, "averages")[-2:]] == [3, 3]
    assert commands.etl(old, "verify").returncode == 0


def test_run_goes_on_in_it(old):
    """`etl run` repairs nothing, writes the followed file's new line once, and leaves a sound folder."""
    site = Site(old)
    known, events = len(records(old, "raw")), len(records(old, "events"))
    with site.running() as process:
        until(lambda: len(records(old, "averages")) >= known + 2)
        end(process)
    sent = (old / "press.jsonl").read_bytes().splitlines()
    assert [line["_source"] for line in records(old, "raw")].count("press") == len(sent)
    assert "repaired" not in {event["event"] for event in records(old, "events")[events:]}
    assert site.etl("verify").returncode == 0
