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
import time
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.machines import Machines
from etl.audit.recording import Recording
from etl.audit.replay import RefusedError, replay
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.derivation import Derivation
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog
from tests.benchmarks.generate import write_day
from tests.support.plant import FIXTURE

BERLIN = ZoneInfo("Europe/Berlin")
SETTINGS = Settings(5, {"temperature": "temperature", "speed": "fan_speed"}, "Europe/Berlin", 10.0, 0.2)
DAY = 86_400
START = 1_795_341_600.0
"""2026-11-22T10:00:00Z."""


def fold(root, *files, settings=SETTINGS, sources=None, watch=lambda _: None):
    """Replay files into a folder; the result, and the rejected lines."""
    rejected = []
    zone = ZoneInfo(settings.timezone)
    recording = Recording(sources or {}, zone, "2027-01-31", watch)
    return replay(SettingsLog(Folder(root), settings), recording, files, rejected.append, watch), rejected


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder except symbolic links."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def logs(root: Path) -> dict[str, bytes]:
    """The raw and averages files of a folder."""
    return {name: data for name, data in tree(root).items() if name.split("/")[0] in ("raw", "averages")}


@pytest.fixture
def lived(plant):
    """The plant of a live run over three days."""
    here = plant(start=START)
    for _ in range(3):
        here.tick(7)
        here.clock.now += DAY - 70
    here.pipeline.tick.finish()
    return here


def test_raw_logs_become_the_folder_of_the_live_run(lived, tmp_path):
    """The raw logs of a live run, one of them compressed, become byte-equal raw logs and averages."""
    files = [lived.folder.path("raw", day) for day in lived.folder.days("raw")]
    packed = tmp_path / f"{files[1].name}.gz"
    packed.write_bytes(gzip.compress(files[1].read_bytes()))
    result, rejected = fold(tmp_path / "new", files[0], packed, files[2], settings=lived.loaded.settings)
    assert logs(tmp_path / "new") == logs(lived.folder.root)
    assert (result.readings, result.added, rejected) == (21, lived.folder.days("raw"), [])
    assert os.readlink(tmp_path / "new" / "averages.jsonl") == f"averages/{result.added[-1]}.jsonl"


def test_a_second_replay_changes_nothing(lived, tmp_path):
    """Days that are present already are not written again."""
    files = [lived.folder.path("raw", day) for day in lived.folder.days("raw")]
    fold(tmp_path / "new", *files)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jsonl")}
    result, _ = fold(tmp_path / "new", *files)
    assert (result.added, result.present) == ([], lived.folder.days("raw"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jsonl")} == before


def test_windows_continue_over_several_replays(lived, tmp_path):
    """Days imported one by one have the same averages as days imported together."""
    for day in lived.folder.days("raw"):
        fold(tmp_path / "new", lived.folder.path("raw", day), settings=lived.loaded.settings)
    assert logs(tmp_path / "new") == logs(lived.folder.root)


def test_added_days_are_governed_by_the_current_settings(lived):
    """Under another window size the added days start new windows and a settings entry; older days stay unchanged."""
    recorded = lived.root / "recorded.jsonl"
    recorded.write_bytes(raw_line({"id": 1, "temperature": 1.0}, "machine-1", START + 9 * DAY))
    changed = Settings(3, {"temperature": "temperature"}, "UTC", 10.0, 0.2)
    before = tree(lived.folder.root)
    fold(lived.folder.root, recorded, settings=changed)
    after = tree(lived.folder.root)
    assert after["settings.jsonl"].startswith(before.pop("settings.jsonl"))
    assert after.items() >= before.items()
    assert orjson.loads(after["settings.jsonl"].splitlines()[-1])["day"] == "2026-12-01"
    derivation = Derivation(SettingsLog(lived.folder, lived.loaded.settings))
    for day in lived.folder.days("raw"):
        assert b"".join(derivation.day(day)) == after[f"averages/{day}.jsonl"]


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_is_read_like_lines(tmp_path, packed):
    """An array and JSON lines of the same readings, plain or compressed, become the same days."""
    items = orjson.loads(FIXTURE.read_bytes())
    array, lines = orjson.dumps(items, option=orjson.OPT_INDENT_2), b"\n".join(map(orjson.dumps, items))
    for name, data in (("array", array), ("lines", lines)):
        file = tmp_path / name / ("machine.json.gz" if packed else "machine.json")
        file.parent.mkdir()
        file.write_bytes(gzip.compress(data) if packed else data)
        assert fold(tmp_path / name / "out", file)[0].readings == len(items)
    assert logs(tmp_path / "array" / "out") == logs(tmp_path / "lines" / "out")
    assert all(b'"machine"' in log for log in logs(tmp_path / "array" / "out").values())


def test_a_reading_is_polled_at_its_own_timestamp(tmp_path):
    """`_polled_at` is the timestamp in UTC; a naive one is in the config's zone. The source is that of the file, or its stem."""
    file = tmp_path / "press.jsonl"
    file.write_bytes(
        b'{"timestamp":"2026-07-01 00:30:00","id":1}\n{"timestamp":"2026-07-01T01:00:00.5+02:00","id":1}\n'
    )
    fold(tmp_path / "out", file)
    written = (tmp_path / "out" / "raw" / "2026-07-01.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["_polled_at"] for line in written] == [
        "2026-06-30T22:30:00.000Z",
        "2026-06-30T23:00:00.500Z",
    ]
    assert b'"_source":"press"' in written[0]
    fold(tmp_path / "named", file, sources={file: "the press"})
    assert b'"_source":"the press"' in (tmp_path / "named" / "raw" / "2026-07-01.jsonl").read_bytes()


def test_lines_that_are_not_readings_are_rejected(tmp_path):
    """A line that is no reading, has no time or goes back a day is rejected by file and line; the others are imported."""
    file = tmp_path / "m.jsonl"
    good = [raw_line({"id": 1, "n": n}, "m", START + n * 10) for n in range(3)]
    bad = [
        b"[1]\n",
        b'{"id": 1}\n',
        b'{"timestamp":"yesterday"}\n',
        b'{"timestamp":17}\n',
        b"{\xff}\n",
        good[0][:50] + b"\n",
        raw_line({"id": 1}, "m", START - DAY),
        b'{"_source":"m","_polled_at":"2026-11-22"}\n',
    ]
    file.write_bytes(b"".join([good[0], *bad, b"\n", good[1], b" " + good[2].rstrip() + b"\r\n"]))
    result, rejected = fold(tmp_path / "out", file)
    assert (tmp_path / "out" / "raw" / "2026-11-22.jsonl").read_bytes() == b"".join([*good[:2], b" " + good[2]])
    assert result.readings == 3
    assert [each.line for each in rejected] == list(range(2, 2 + len(bad)))
    assert "2026-11-21 lies before 2026-11-22" in rejected[6].why
    packed = tmp_path / "cut.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes())[:-20])
    assert fold(tmp_path / "cut", packed)[1][-1].why.startswith("the compressed file is damaged")


def test_only_the_line_at_the_end_of_the_calendar_is_rejected(tmp_path):
    """A line of the last day of the calendar is rejected, and the lines around it are imported."""
    kept = [raw_line({"id": 1, "temperature": 1.0}, "m", START + second) for second in range(2)]
    far = b'{"id":1,"_source":"m","_polled_at":"9999-12-31T23:59:59-09:00"}\n'
    file = tmp_path / "m.jsonl"
    file.write_bytes(kept[0] + far + kept[1])
    result, rejected = fold(tmp_path / "out", file)
    assert (result.readings, [each.line for each in rejected]) == (2, [2])


def test_lines_that_only_resemble_raw_lines_are_rejected(tmp_path):
    """Objects that share a line or span two, bytes that are not UTF-8, and times beyond today or the calendar are rejected."""
    one = raw_line({"id": 1}, "m", START)
    rows = [
        one.rstrip() + one + b"\n",
        one.replace(b",", b",\n", 1),
        one.replace(b'"m"', b'"\xff"'),
        raw_line({"id": 1}, "m", START + 100 * DAY),
        b'{"timestamp":"0001-01-01T00:00:00+14:00"}\n',
        b'{"timestamp":"0001-01-01T12:00:00Z"}\n',
        b'{"timestamp":"9999-12-31T23:59:59.9999Z"}\n',
        b"[" + one.rstrip().replace(b"1", b"[" * 300 + b"]" * 300, 1) + b"]",
    ]
    for number, row in enumerate(rows):
        file = tmp_path / f"{number}.jsonl"
        file.write_bytes(row)
        result, rejected = fold(tmp_path / "out", file)
        assert result.readings == 0
        assert rejected


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
            fold(tmp_path / "out", file)
    finally:
        waiting.set()
        other.join()
    folder = Folder(tmp_path / "out")
    assert len(folder.days("raw")) == 3
    assert folder.days("averages") == folder.days("raw")


def test_following_continues_after_the_replayed_lines(plant):
    """Lines of a followed file that were imported are not read again when the file is followed."""
    here = plant(start=START, sources=[{"name": "f", "file": "f.jsonl"}])
    file = here.root / "f.jsonl"
    file.write_bytes(b"".join(b'{"n":%d,"timestamp":"2026-11-22T09:00:0%d+00:00"}\n' % (n, n) for n in range(3)))
    here.close()
    fold(here.folder.root, file, settings=here.loaded.settings, sources={file.resolve(): "f"})
    here.open()
    with file.open("ab") as more:
        more.write(b'{"n":3}\n')
    here.tick(2)
    assert [record["n"] for record in here.records("raw")] == [0, 1, 2, 3]


def test_a_raw_log_keeps_the_day_of_its_name(tmp_path):
    """Lines of a day file stay in its day, whatever their times: the clock may have been set back."""
    file = tmp_path / "2026-11-25.jsonl"
    file.write_bytes(raw_line({"id": 1}, "m", START + 3 * DAY) + raw_line({"id": 1}, "m", START))
    result, rejected = fold(tmp_path / "out", file)
    assert (result.added, rejected) == (["2026-11-25"], [])


@pytest.mark.parametrize("change", ["other bytes", "an older day"])
def test_a_conflicting_day_refuses_the_whole_replay(lived, tmp_path, change):
    """With a day of other bytes, or one before the newest, no day is added, and the folder is unchanged."""
    file = tmp_path / "x.jsonl"
    at = START + 10 if change == "other bytes" else START - 5 * DAY
    file.write_bytes(raw_line({"id": 1}, "x", at) + raw_line({"id": 1}, "x", START + 30 * DAY))
    before = tree(lived.folder.root)
    with pytest.raises(RefusedError, match="2026-11-"):
        fold(lived.folder.root, file)
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
            fold(lived.folder.root, file, watch=interrupted)
            break
        except KeyboardInterrupt:
            assert tree(lived.folder.root) == before
            calls += 1
    assert calls > 2


lines = st.lists(
    st.one_of(
        st.builds(
            lambda m, at, value: raw_line({"id": m, "temperature": value}, "s", START + at),
            st.integers(1, 3),
            st.integers(-DAY, 2 * DAY),
            st.floats(-9, 9) | st.none(),
        ),
        st.builds(lambda hour: b'{"id":1,"timestamp":"2026-11-23T%02d:00:00Z"}\n' % hour, st.integers(0, 23)),
        st.sampled_from([b"{\n", b"\n", b"null\n", b'{"_source":1,"_polled_at":2}\n']),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines, st.integers(0, 12), st.integers(16, 400))
def test_files_and_blocks_do_not_change_the_result(tmp_path_factory, monkeypatch, lines, cut, block):
    """The same lines in one file or two, read in blocks of any size, give the same folder and the same rejections."""
    root = tmp_path_factory.mktemp("cut")
    whole, first, second = root / "s.jsonl", root / "a" / "s.jsonl", root / "b" / "s.jsonl"
    for path, part in ((whole, lines), (first, lines[:cut]), (second, lines[cut:])):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(part))
    result, rejected = fold(root / "one", whole)
    monkeypatch.setattr("etl.audit.recording.READ_BYTES", block)
    second_result, second_rejected = fold(root / "two", first, second)
    assert logs(root / "one") == logs(root / "two")
    assert second_result == result
    assert [each.why for each in rejected] == [each.why for each in second_rejected]
    derivation = Derivation(SettingsLog(Folder(root / "one"), SETTINGS))
    for day in result.added:
        assert b"".join(derivation.day(day)) == (root / "one" / "averages" / f"{day}.jsonl").read_bytes()


def command(root: Path, *arguments) -> list[str]:
    return [sys.executable, "-m", "etl", "replay", "--config", str(root / "config.yaml"), *map(str, arguments)]


def run(root: Path, *arguments):
    """Run `etl replay` to its end."""
    return subprocess.run(command(root, *arguments), capture_output=True, text=True, timeout=60)


@pytest.fixture
def site(tmp_path):
    """A config and a raw log of one day to import."""
    (tmp_path / "config.yaml").write_text("timezone: UTC\nsources: [{name: m, file: m.json}]\n")
    log = tmp_path / "recorded" / "2026-01-05.jsonl"
    write_day(log, date(2026, 1, 5), Machines(2, random.Random(1)))
    return tmp_path, log


def test_exit_codes_and_output_of_the_command(site):
    """`etl replay` exits with 0, with 1 if lines were rejected, with 73 if it is refused, and says so."""
    root, log = site
    result = run(root, log)
    assert result.returncode == 0
    assert result.stdout == ("17,280 readings, 0 rejected lines; days added: 1 (2026-01-05); already present: none\n")
    file = root / "m.json"
    file.write_bytes(b'{"timestamp":"2026-01-06T00:00:00Z"}\nno\n')
    result = run(root, file)
    assert result.returncode == 1
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
    for n in range(6):
        with subprocess.Popen(command(root, log, "--output", root / "out"), stdout=subprocess.DEVNULL) as process:
            time.sleep(0.2 + 0.07 * n)
            process.kill()
        assert run(root, log, "--output", root / "out").returncode == 0
        assert logs(root / "out") == logs(root / "right")
        shutil.rmtree(root / "out")
