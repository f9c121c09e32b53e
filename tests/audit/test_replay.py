"""`etl replay`: recorded readings give the files that polling would have written, whole days or none."""

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
from zoneinfo import ZoneInfo

import orjson
import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.machines import Machines
from etl.audit.recording import Recording
from etl.audit.replay import RefusedError, replay
from etl.readings.days import day_finder
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.derivation import Derivation
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog
from tests.benchmarks.generate import write_day
from tests.support import commands
from tests.support.plant import FIXTURE

BERLIN = ZoneInfo("Europe/Berlin")
SETTINGS = Settings(5, {"temperature": "temperature", "speed": "fan_speed"}, "Europe/Berlin", 10.0, 0.2)
DAY = 86_400
START = 1_795_341_600.0
"""2026-11-22T10:00:00Z."""


def fold(root, *files, settings=SETTINGS, sources=None, watch=lambda _: None):
    """Replay files into a folder; its result, and the rejected lines."""
    told = []
    zone = ZoneInfo(settings.timezone)
    recording = Recording(sources or {}, zone, day_finder(zone), "2027-01-31", watch)
    return replay(Folder(root), recording, files, settings, told.append, watch), told


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, but for links."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def logs(root: Path) -> dict[str, bytes]:
    """The raw and averages files of a folder."""
    return {name: data for name, data in tree(root).items() if name.split("/")[0] in ("raw", "averages")}


@pytest.fixture
def lived(plant):
    """A live run over three days, with its folder and settings."""
    here = plant(start=START)
    for _ in range(3):
        here.tick(7)
        here.clock.now += DAY - 70
    here.pipeline.writer.finish()
    return here


def test_our_own_raw_logs_give_what_the_live_run_wrote(lived, tmp_path):
    """Raw logs of this program, one of them compressed, give the same raw logs and averages, to the byte."""
    files = [lived.folder.path("raw", day) for day in lived.folder.days("raw")]
    packed = tmp_path / f"{files[1].name}.gz"
    packed.write_bytes(gzip.compress(files[1].read_bytes()))
    done, told = fold(tmp_path / "new", files[0], packed, files[2], settings=lived.loaded.settings)
    assert logs(tmp_path / "new") == logs(lived.folder.root)
    assert (done.lines, done.added, told) == (21, lived.folder.days("raw"), [])
    assert os.readlink(tmp_path / "new" / "averages.jsonl") == f"averages/{done.added[-1]}.jsonl"


def test_a_second_replay_changes_nothing(lived, tmp_path):
    """Days that were replayed already are left alone, and so is everything else in the folder."""
    files = [lived.folder.path("raw", day) for day in lived.folder.days("raw")]
    fold(tmp_path / "new", *files)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jsonl")}
    done, _ = fold(tmp_path / "new", *files)
    assert (done.added, done.left) == ([], lived.folder.days("raw"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.jsonl")} == before


def test_a_replay_goes_on_where_the_folder_ends(lived, tmp_path):
    """Days added one by one have the averages of a replay of all of them: windows go on over the days."""
    for day in lived.folder.days("raw"):
        fold(tmp_path / "new", lived.folder.path("raw", day), settings=lived.loaded.settings)
    assert logs(tmp_path / "new") == logs(lived.folder.root)


def test_other_settings_govern_what_is_added(lived):
    """Days added under another window start new windows, with an entry in settings.jsonl; the folder stays sound."""
    coming = lived.root / "coming.jsonl"
    coming.write_bytes(raw_line({"id": 1, "temperature": 1.0}, "machine-1", START + 9 * DAY))
    changed = Settings(3, {"temperature": "temperature"}, "UTC", 10.0, 0.2)
    before = tree(lived.folder.root)
    fold(lived.folder.root, coming, settings=changed)
    after = tree(lived.folder.root)
    assert after["settings.jsonl"].startswith(before.pop("settings.jsonl"))
    assert after.items() >= before.items()
    assert orjson.loads(after["settings.jsonl"].splitlines()[-1])["day"] == "2026-12-01"
    derivation = Derivation(SettingsLog(lived.folder, lived.loaded.settings))
    for day in lived.folder.days("raw"):
        assert b"".join(derivation.day(day)) == after[f"averages/{day}.jsonl"]


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_is_read_like_lines(tmp_path, packed):
    """An array and JSON lines of the same readings, plain or compressed, give the same days."""
    items = orjson.loads(FIXTURE.read_bytes())
    array, lines = orjson.dumps(items, option=orjson.OPT_INDENT_2), b"\n".join(map(orjson.dumps, items))
    for name, data in (("array", array), ("lines", lines)):
        file = tmp_path / name / ("machine.json.gz" if packed else "machine.json")
        file.parent.mkdir()
        file.write_bytes(gzip.compress(data) if packed else data)
        assert fold(tmp_path / name / "out", file)[0].lines == len(items)
    assert logs(tmp_path / "array" / "out") == logs(tmp_path / "lines" / "out")
    assert all(b'"machine"' in log for log in logs(tmp_path / "array" / "out").values())


def test_a_reading_is_polled_at_its_own_timestamp(tmp_path):
    """Its timestamp in UTC, in the configured zone where it names none; its source is that of its file, or the stem."""
    file = tmp_path / "press.jsonl"
    file.write_bytes(
        b'{"timestamp":"2026-07-01 00:30:00","id":1}\n{"timestamp":"2026-07-01T01:00:00.5+02:00","id":1}\n'
    )
    fold(tmp_path / "out", file)
    written = (tmp_path / "out" / "raw" / "2026-07-01.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["_polled_at"] for line in written] == [
        "2026-06-30T22:30:00.000Z", "2026-06-30T23:00:00.500Z",
    ]  # fmt: skip
    assert b'"_source":"press"' in written[0]
    fold(tmp_path / "named", file, sources={file: "the press"})
    assert b'"_source":"the press"' in (tmp_path / "named" / "raw" / "2026-07-01.jsonl").read_bytes()


def test_damaged_lines_are_named_and_left_out(tmp_path):
    """A line that is not a reading, has no time or goes back by a day is named by file and line; the others count."""
    file = tmp_path / "m.jsonl"
    good = [raw_line({"id": 1, "n": n}, "m", START + n * 10) for n in range(3)]
    bad = [
        b"[1]\n", b'{"id": 1}\n', b'{"timestamp":"yesterday"}\n', b'{"timestamp":17}\n', b"{\xff}\n",
        good[0][:50] + b"\n", raw_line({"id": 1}, "m", START - DAY), b'{"_source":"m","_polled_at":"2026-11-22"}\n',
    ]  # fmt: skip
    file.write_bytes(b"".join([good[0], *bad, b"\n", good[1], b" " + good[2].rstrip() + b"\r\n"]))
    done, told = fold(tmp_path / "out", file)
    assert (tmp_path / "out" / "raw" / "2026-11-22.jsonl").read_bytes() == b"".join([*good[:2], b" " + good[2]])
    assert done.lines == 3
    assert [damage.line for damage in told] == list(range(2, 2 + len(bad)))
    assert "2026-11-21 lies before 2026-11-22" in told[6].why
    packed = tmp_path / "cut.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes())[:-20])
    assert fold(tmp_path / "cut", packed)[1][-1].why.startswith("the compressed file is damaged")


def test_a_line_at_the_end_of_the_calendar_is_damaged_and_no_other(tmp_path):
    """Its day has no end; the lines around it keep theirs."""
    kept = [raw_line({"id": 1, "temperature": 1.0}, "m", START + second) for second in range(2)]
    far = b'{"id":1,"_source":"m","_polled_at":"9999-12-31T23:59:59-09:00"}\n'
    file = tmp_path / "m.jsonl"
    file.write_bytes(kept[0] + far + kept[1])
    done, told = fold(tmp_path / "out", file)
    assert (done.lines, [damage.line for damage in told]) == (2, [2])


def test_lines_that_resemble_raw_lines_are_damaged(tmp_path):
    """Objects that share a line or span two, bytes that are not text, times beyond the calendar or today."""
    one = raw_line({"id": 1}, "m", START)
    rows = [
        one.rstrip() + one + b"\n", one.replace(b",", b",\n", 1), one.replace(b'"m"', b'"\xff"'),
        raw_line({"id": 1}, "m", START + 100 * DAY), b'{"timestamp":"0001-01-01T00:00:00+14:00"}\n',
        b'{"timestamp":"0001-01-01T12:00:00Z"}\n', b'{"timestamp":"9999-12-31T23:59:59.9999Z"}\n',
        b"[" + one.rstrip().replace(b"1", b"[" * 300 + b"]" * 300, 1) + b"]",
    ]  # fmt: skip
    for number, row in enumerate(rows):
        file = tmp_path / f"{number}.jsonl"
        file.write_bytes(row)
        done, told = fold(tmp_path / "out", file)
        assert done.lines == 0
        assert told


def test_ctrl_c_takes_effect_after_the_last_rename(tmp_path, monkeypatch):
    """An interrupt between two renames waits for the last one, whichever thread receives the signal."""
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


def test_following_goes_on_behind_what_was_replayed(plant):
    """Lines of a followed file that were replayed are not read again when the file is followed."""
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
    """Lines of a raw log stay in the day of its name, whatever their time: the clock may have been set back."""
    file = tmp_path / "2026-11-25.jsonl"
    file.write_bytes(raw_line({"id": 1}, "m", START + 3 * DAY) + raw_line({"id": 1}, "m", START))
    done, told = fold(tmp_path / "out", file)
    assert (done.added, told) == (["2026-11-25"], [])


@pytest.mark.parametrize("change", ["other bytes", "an older day"])
def test_a_conflicting_day_is_refused_before_anything_changes(lived, tmp_path, change):
    """A day that exists with other bytes, or a day before the newest: the whole replay is refused."""
    file = tmp_path / "x.jsonl"
    at = START + 10 if change == "other bytes" else START - 5 * DAY
    file.write_bytes(raw_line({"id": 1}, "x", at) + raw_line({"id": 1}, "x", START + 30 * DAY))
    before = tree(lived.folder.root)
    with pytest.raises(RefusedError, match="2026-11-"):
        fold(lived.folder.root, file)
    assert tree(lived.folder.root) == before


def test_an_interrupted_replay_leaves_the_folder_as_it_was(lived, tmp_path):
    """After Ctrl-C at any moment before the end, nothing is added and no temporary file is left."""
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
            st.integers(1, 3), st.integers(-DAY, 2 * DAY), st.floats(-9, 9) | st.none(),
        ),
        st.builds(lambda hour: b'{"id":1,"timestamp":"2026-11-23T%02d:00:00Z"}\n' % hour, st.integers(0, 23)),
        st.sampled_from([b"{\n", b"\n", b"null\n", b'{"_source":1,"_polled_at":2}\n']),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines, st.integers(0, 12), st.integers(16, 400))
def test_it_does_not_matter_how_readings_are_cut_into_files_and_blocks(
    tmp_path_factory, monkeypatch, lines, cut, block
):
    """The same lines in one file or two, read in blocks of any size, give the same folder and the same rejections."""
    root = tmp_path_factory.mktemp("cut")
    whole, first, second = root / "s.jsonl", root / "a" / "s.jsonl", root / "b" / "s.jsonl"
    for path, part in ((whole, lines), (first, lines[:cut]), (second, lines[cut:])):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(part))
    done, told = fold(root / "one", whole)
    monkeypatch.setattr("etl.audit.recording.BLOCK", block)
    again, told_again = fold(root / "two", first, second)
    assert logs(root / "one") == logs(root / "two")
    assert again == done
    assert [damage.why for damage in told] == [damage.why for damage in told_again]
    derivation = Derivation(SettingsLog(Folder(root / "one"), SETTINGS))
    for day in done.added:
        assert b"".join(derivation.day(day)) == (root / "one" / "averages" / f"{day}.jsonl").read_bytes()


@pytest.fixture
def site(tmp_path):
    """A config and a day's raw log to replay."""
    (tmp_path / "config.yaml").write_text("timezone: UTC\nsources: [{name: m, file: m.json}]\n")
    log = tmp_path / "recorded" / "2026-01-05.jsonl"
    write_day(log, date(2026, 1, 5), Machines(2, random.Random(1)))
    return tmp_path, log


@freeze_time("2026-01-06T12:00:00Z")
def test_the_command_prints_what_it_did(site):
    """`etl replay` exits with 0, with 1 where lines were rejected, with 73 where it is refused, and says why."""
    root, log = site
    done = run(root, log)
    assert done.returncode == 0
    assert done.stdout == (
        "17280 readings, 0 damaged lines; days added: 1 (2026-01-05 to 2026-01-05); there already: none\n"
    )
    damaged = root / "m.json"
    damaged.write_bytes(b'{"timestamp":"2026-01-06T00:00:00Z"}\nno\n{"timestamp":"2026-01-07T00:00:00Z"}\n')
    done = run(root, damaged)
    assert done.returncode == 1
    assert done.stdout.startswith("1 readings, 2 damaged lines")
    assert f"{damaged}:2: the answer is not JSON" in done.stderr
    assert f"{damaged}:3: " in done.stderr
    late = root / "late.jsonl"
    late.write_bytes(b'{"timestamp":"2026-01-05T00:00:00Z"}\n')
    done = run(root, late)
    assert done.returncode == 73
    assert "--output DIR" in done.stderr
    assert run(root, late, "--output", root / "own").returncode == 0
    assert (root / "own" / "raw" / "2026-01-05.jsonl").exists()
    assert run(root, late, late, "--output", root / "twice").returncode == 2


def run(root: Path, *arguments) -> commands.Finished:
    """Run `etl replay` to its end."""
    return commands.etl(root, "replay", *map(str, arguments))


def test_a_killed_replay_can_be_run_again(site):
    """Killed at any moment, the next replay writes the files that an undisturbed one writes."""
    root, log = site
    assert run(root, log, "--output", root / "undisturbed").returncode == 0
    command = [sys.executable, "-m", "etl", "replay", str(log), "--output", str(root / "out")]
    for changes in range(6):
        with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) as process:
            seen = set()
            while len(seen) <= changes and process.poll() is None:
                with suppress(FileNotFoundError):  # a file may be renamed while the folder is listed
                    seen.add(frozenset((root / "out").rglob("*")))
            process.kill()
        assert run(root, log, "--output", root / "out").returncode == 0
        assert logs(root / "out") == logs(root / "undisturbed")
        shutil.rmtree(root / "out")
