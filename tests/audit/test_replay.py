"""Replay: recorded readings become the same files as if they had been polled, completely or not at all."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import date
from pathlib import Path

import orjson
import pytest
from freezegun import freeze_time

from api.machines import Machines
from etl.audit.replay import RefusedError
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.benchmarks.generate import write_day
from tests.support import commands
from tests.support.recordings import DAY, START, import_files, logs, tree


@pytest.fixture
def lived(plant):
    """The plant of a live run over three days."""
    here = plant(start=START)
    for _ in range(3):
        here.tick(7)
        here.clock.now += DAY - 70
    here.pipeline.writer.finish()
    return here


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:-8] + bytes(8), lambda data: b""])
def test_a_day_whose_compressed_file_is_damaged_is_refused_with_its_path(lived, damage):
    """Whether it has the recorded readings cannot be known."""
    day = lived.folder.days("raw")[0]
    recorded = lived.folder.path("raw", day)
    copy = lived.folder.root.parent / recorded.name
    shutil.move(recorded, copy)
    lived.folder.packed_path("raw", day).write_bytes(damage(gzip.compress(copy.read_bytes())))
    with pytest.raises(RefusedError, match=rf"raw/{day}\.jsonl\.gz is damaged"):
        import_files(lived.folder.root, copy, settings=lived.loaded.settings)


def test_a_link_to_itself_is_an_error_with_its_path(tmp_path):
    """As a file to import it is refused; as the file of a source it prevents no import of others."""
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    (tmp_path / "good.jsonl").write_text('{"temperature": 1, "timestamp": "2026-01-05T10:00:00Z"}\n')
    (tmp_path / "config.yaml").write_text("sources: [{name: a, file: circle.jsonl}]")
    refused = commands.etl(tmp_path, "replay", "circle.jsonl")
    assert refused.returncode in (2, 73)
    assert "circle.jsonl" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert commands.etl(tmp_path, "replay", "good.jsonl").returncode == 0


def test_raw_logs_become_the_folder_of_the_live_run(lived, tmp_path):
    """The raw logs of a live run, one of them compressed, become byte-equal raw logs and averages."""
    files = [lived.folder.path("raw", day) for day in lived.folder.days("raw")]
    packed = tmp_path / f"{files[1].name}.gz"
    packed.write_bytes(gzip.compress(files[1].read_bytes()))
    result, rejected = import_files(tmp_path / "new", files[0], packed, files[2], settings=lived.loaded.settings)
    assert logs(tmp_path / "new") == logs(lived.folder.root)
    assert (result.readings, result.added, rejected) == (21, lived.folder.days("raw"), [])
    assert os.readlink(tmp_path / "new" / "averages.jsonl") == f"averages/{result.added[-1]}.jsonl"


def test_a_second_replay_changes_nothing(lived, tmp_path):
    """Days that are present already are not written again."""
    files = [lived.folder.path("raw", day) for day in lived.folder.days("raw")]
    import_files(tmp_path / "new", *files)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jsonl")}
    result, _ = import_files(tmp_path / "new", *files)
    assert (result.added, result.present) == ([], lived.folder.days("raw"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jsonl")} == before


def test_windows_continue_over_several_replays(lived, tmp_path):
    """Days imported one by one have the same averages as days imported together."""
    for day in lived.folder.days("raw"):
        import_files(tmp_path / "new", lived.folder.path("raw", day), settings=lived.loaded.settings)
    assert logs(tmp_path / "new") == logs(lived.folder.root)


def test_added_days_are_governed_by_the_current_settings(lived):
    """Under another window size the added days start new windows and a settings entry; older days stay unchanged."""
    recorded = lived.root / "recorded.jsonl"
    recorded.write_bytes(raw_line({"id": 1, "temperature": 1.0}, "machine-1", START + 9 * DAY))
    changed = Settings(3, {"temperature": "temperature"}, "UTC", 10.0, 0.2)
    before = tree(lived.folder.root)
    import_files(lived.folder.root, recorded, settings=changed)
    after = tree(lived.folder.root)
    assert after["settings.jsonl"].startswith(before.pop("settings.jsonl"))
    assert after.items() >= before.items()
    assert orjson.loads(after["settings.jsonl"].splitlines()[-1])["day"] == "2026-12-01"
    derivation = Derivation(SettingsLog(lived.folder, lived.loaded.settings))
    for day in lived.folder.days("raw"):
        assert b"".join(derivation.day(day)) == after[f"averages/{day}.jsonl"]


@pytest.mark.parametrize("renames", range(6))
def test_a_replay_that_was_killed_is_completed_by_the_next(tmp_path, monkeypatch, renames):
    """Killed between any two renames, a replay is completed when it is run again: every day has its averages."""
    file = tmp_path / "m.jsonl"
    file.write_bytes(b"".join(raw_line({"id": 1, "temperature": 20}, "m", START - n * DAY) for n in (2, 1, 0)))
    import_files(tmp_path / "whole", file)
    rename, calls = Path.replace, iter(range(99))

    def killed(self, target):
        if next(calls) == renames:
            raise SystemExit
        return rename(self, target)

    with monkeypatch.context() as patches:
        patches.setattr(Path, "replace", killed)
        with pytest.raises(SystemExit):
            import_files(tmp_path / "killed", file)
    import_files(tmp_path / "killed", file)
    assert logs(tmp_path / "killed") == logs(tmp_path / "whole")


def test_ctrl_c_is_handled_after_the_last_rename(tmp_path, monkeypatch):
    """A SIGINT between two renames is handled after the last one, whichever thread receives it."""
    file = tmp_path / "m.jsonl"
    file.write_bytes(b"".join(raw_line({"id": 1, "temperature": 20}, "m", START - n * DAY) for n in (2, 1, 0)))
    rename, waiting = Path.replace, threading.Event()
    other = threading.Thread(target=waiting.wait)

    def interrupted(self, target):
        os.kill(os.getpid(), signal.SIGINT)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            import_files(tmp_path / "out", file)
    finally:
        waiting.set()
        other.join()
    folder = Folder(tmp_path / "out")
    assert len(folder.days("raw")) == 3
    assert folder.days("averages") == folder.days("raw")


def test_following_continues_after_the_replayed_lines(plant):
    """Lines of a followed file that were imported are not read again, also if the last has no line feed yet."""
    here = plant(start=START, sources=[{"name": "f", "file": "f.jsonl"}])
    file = here.root / "f.jsonl"
    recorded = b"".join(b'{"n":%d,"timestamp":"2026-11-22T09:00:0%d+00:00"}\n' % (n, n) for n in range(3))
    file.write_bytes(recorded + b'{"n":3,"timestamp":"2026-11-22T10:00:00Z"}')
    here.close()
    import_files(here.folder.root, file, settings=here.loaded.settings, sources={file.resolve(): "f"})
    here.open()
    with file.open("ab") as more:
        more.write(b'\n{"n":4}\n')
    here.tick(2)
    assert [record["n"] for record in here.records("raw")] == [0, 1, 2, 3, 4]
    assert not here.events("truncated")


@pytest.mark.parametrize("change", ["other bytes", "an older day"])
def test_a_conflicting_day_refuses_the_whole_replay(lived, tmp_path, change):
    """With a day of other bytes, or one before the newest, no day is added, and the folder is unchanged."""
    file = tmp_path / "x.jsonl"
    at = START + 10 if change == "other bytes" else START - 5 * DAY
    file.write_bytes(raw_line({"id": 1}, "x", at) + raw_line({"id": 1}, "x", START + 30 * DAY))
    before = tree(lived.folder.root)
    with pytest.raises(RefusedError, match="2026-11-"):
        import_files(lived.folder.root, file)
    assert tree(lived.folder.root) == before


def test_an_interrupted_replay_leaves_the_folder_as_it_was(lived, tmp_path):
    """After Ctrl-C at any moment before the renames, the folder has exactly the files it had."""
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"".join(raw_line({"id": 1}, "x", START + 30 * DAY + n * 3600) for n in range(200)))
    before = tree(lived.folder.root)
    calls = 0
    while True:
        left = calls

        def interrupted(_):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt

        try:
            import_files(lived.folder.root, file, watch=interrupted)
            break
        except KeyboardInterrupt:
            assert tree(lived.folder.root) == before
            calls += 1
    assert calls > 2


def run(root: Path, *arguments) -> commands.Finished:
    """Run `etl replay` to its end."""
    return commands.etl(root, "replay", *map(str, arguments))


@pytest.fixture
def site(tmp_path):
    """A config and a raw log of one day to import."""
    (tmp_path / "config.yaml").write_text("timezone: UTC\nsources: [{name: m, file: m.json}]\n")
    log = tmp_path / "recorded" / "2026-01-05.jsonl"
    write_day(log, date(2026, 1, 5), Machines(2, random.Random(1)))
    return tmp_path, log


@freeze_time("2026-01-06T12:00:00Z")
def test_exit_codes_and_output_of_the_command(site):
    """`etl replay` exits with 0, with 1 if lines were rejected, with 73 if it is refused, and says so."""
    root, log = site
    result = run(root, log)
    assert result.returncode == 0
    assert result.stdout == ("17,280 readings, 0 rejected lines; days added: 1 (2026-01-05); already present: none\n")
    file = root / "m.json"
    file.write_bytes(b'{"timestamp":"2026-01-06T00:00:00Z"}\nno\n{"timestamp":"2026-01-07T00:00:00Z"}\n')
    result = run(root, file)
    assert result.returncode == 1
    assert f"{file}:3: rejected, " in result.stderr
    assert f"{file}:2: rejected, the answer is not JSON" in result.stderr
    late = root / "late.jsonl"
    late.write_bytes(b'{"timestamp":"2026-01-05T00:00:00Z"}\n')
    result = run(root, late)
    assert result.returncode == 73
    assert "--output DIR" in result.stderr
    assert run(root, late, "--output", root / "own").returncode == 0
    assert (root / "own" / "raw" / "2026-01-05.jsonl").exists()
    assert run(root, late, late, "--output", root / "twice").returncode == 2


def test_a_killed_replay_can_be_run_again(site):
    """A replay after a killed one has the same result as an undisturbed one."""
    root, log = site
    assert run(root, log, "--output", root / "right").returncode == 0
    command = [sys.executable, "-m", "etl", "replay", str(log), "--output", str(root / "out")]
    for changes in range(6):
        with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) as process:
            listings = set()
            while len(listings) <= changes and process.poll() is None:
                with suppress(FileNotFoundError):  # a file may be renamed while the folder is listed
                    listings.add(frozenset((root / "out").rglob("*")))
            process.kill()
        assert run(root, log, "--output", root / "out").returncode == 0
        assert logs(root / "out") == logs(root / "right")
        shutil.rmtree(root / "out")
