"""Writing the folder: whole lines, no half-written file, torn ends repaired, one owner."""

from __future__ import annotations

import os
import subprocess
import sys

import orjson
import pytest

from etl.storage.appender import Appender, DisturbedError
from etl.storage.atomic import write_whole
from etl.storage.folder import Folder
from etl.storage.lock import HeldError, take_lock
from etl.storage.recovery.repair import repair

DAY = "2026-11-22"


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def flush(appender: Appender) -> list[bytes]:
    return [line for _, lines in appender.flush() for line in lines]


def test_lines_are_in_the_files_of_their_days_in_order(folder):
    """Each day has its file with its lines in order, and the link names the newest."""
    appender = Appender(folder, "raw")
    for day, line in [(DAY, b"1\n"), (DAY, b"2\n"), ("2026-11-23", b"3\n")]:
        appender.put(day, [line])
    assert flush(appender) == [b"1\n", b"2\n", b"3\n"]
    assert folder.path("raw", DAY).read_bytes() == b"1\n2\n"
    assert (folder.root / "raw.jsonl").read_bytes() == b"3\n"
    assert os.readlink(folder.root / "raw.jsonl") == "raw/2026-11-23.jsonl"
    assert (appender.waiting_bytes, len(appender)) == (0, 0)


class Failing:
    """The os module, but a write takes `room` bytes in all, then fails."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, fd, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        written = os.write(fd, data[: self.room])
        self.room -= written
        return written


def test_a_failed_write_leaves_no_part_of_a_line_and_is_repeated(folder):
    """When the disk is full in the middle of a line, the file ends with the line before; later all lines follow."""
    system = Failing(4)
    appender = Appender(folder, "raw", system=system)
    appender.put(DAY, [b"one\n"])
    flush(appender)
    appender.put(DAY, [b"two\n"])
    appender.put(DAY, [b"three\n"])
    system.room = 6
    with pytest.raises(OSError, match="No space"):
        flush(appender)
    assert folder.path("raw", DAY).read_bytes() == b"one\n"
    assert appender.waiting_bytes == 10
    system.room = 100
    assert flush(appender) == [b"two\n", b"three\n"]
    assert folder.path("raw", DAY).read_bytes() == b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("disturb", "reason"),
    [
        (lambda path: path.rename(path.with_suffix(".old")), "renamed or deleted"),
        (lambda path: path.unlink(), "renamed or deleted"),
        (lambda path: os.truncate(path, 2), "truncated"),
    ],
)
def test_a_file_disturbed_by_others_raises_and_the_lines_wait(folder, disturb, reason):
    """A file that was renamed, deleted or cut raises before anything is written; after `forget` writing goes on."""
    appender = Appender(folder, "raw")
    appender.put(DAY, [b"one\n"])
    flush(appender)
    disturb(folder.path("raw", DAY))
    appender.put(DAY, [b"two\n"])
    with pytest.raises(DisturbedError) as caught:
        flush(appender)
    assert caught.value.reason == reason
    appender.reset()
    assert flush(appender) == [b"two\n"]
    assert folder.path("raw", DAY).read_bytes().endswith(b"two\n")


LINES = [b'{"n":1}\n', b'{"n":22}\n', b'{"n":333}\n']


def test_an_end_torn_at_any_byte_is_repaired(tmp_path):
    """Cut at any byte, whole lines stay and the rest is kept in *.torn; a second repair changes nothing."""
    data = b"".join(LINES)
    for cut in range(len(data) + 1):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(data[:cut])
        whole = data[:cut].rfind(b"\n") + 1
        assert repair(path) == cut - whole
        assert path.read_bytes() == data[:whole]
        torn = tmp_path / f"{cut}.jsonl.torn"
        assert (torn.read_bytes() if torn.exists() else b"") == (data[whole:cut] + b"\n" if whole < cut else b"")
        assert repair(path) == 0


def test_any_flipped_byte_in_the_last_line_leaves_whole_json_lines(tmp_path):
    """Whatever byte of the last line is damaged, the lines before stay and every line left is JSON."""
    before, last = b"".join(LINES[:2]), LINES[2]
    for i in range(len(last)):
        for flip in (0x00, 0xFF, ord("\n")):
            path = tmp_path / "x.jsonl"
            path.write_bytes(before + last[:i] + bytes([flip]) + last[i + 1 :])
            repair(path)
            kept = path.read_bytes()
            assert kept.startswith(before)
            assert all(isinstance(orjson.loads(line), dict) for line in kept.splitlines())


def test_a_block_of_nul_bytes_at_the_end_is_cut(tmp_path):
    """A block of NUL bytes, which a file system may leave after a power cut, is cut off and kept in *.torn."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(LINES) + b"\0" * 4096)
    assert repair(path) == 4096
    assert path.read_bytes() == b"".join(LINES)


def test_a_repair_that_was_killed_keeps_the_end_once(tmp_path):
    """A torn end that is in *.torn already, but not yet cut off, is not kept twice."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(LINES[0] + b'{"n"')
    (tmp_path / "x.jsonl.torn").write_bytes(b'{"n"\n')
    repair(path)
    assert (tmp_path / "x.jsonl.torn").read_bytes() == b'{"n"\n'


def test_an_empty_or_missing_file_needs_no_repair(tmp_path):
    """An empty or missing file has no torn end."""
    (tmp_path / "empty.jsonl").touch()
    assert repair(tmp_path / "empty.jsonl") == 0
    assert repair(tmp_path / "missing.jsonl") == 0


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    """When writing fails the old file is unchanged."""
    path = tmp_path / "report.json"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        write_whole(path, [b"brand new"], Failing(3))
    assert path.read_bytes() == b"old"
    write_whole(path, [b"brand new"])
    assert path.read_bytes() == b"brand new"


def test_only_one_process_holds_a_folder(tmp_path):
    """A second owner is refused with the holder's pid; a holder that was killed is no obstacle."""
    hold = (
        "import sys, pathlib; from etl.storage.lock import take_lock; "
        "take_lock(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        link = tmp_path.parent / "link"
        link.symlink_to(tmp_path)
        for path in (tmp_path, link):
            with pytest.raises(HeldError, match=f"process {holder.pid}"):
                take_lock(path)
        holder.kill()
        holder.wait()
    os.close(take_lock(tmp_path))
