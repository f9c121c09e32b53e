"""A followed file: each line is read once, whatever its writer does, also while nobody reads it."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.readings.records import START
from etl.sources.file.following import FollowedFile


class Follower:
    """A followed file, and what its polls found; `restart` is a restart of the program."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = START
        self.restart()

    def restart(self) -> None:
        self.file = FollowedFile(self.path, self.position)

    def poll(self) -> list[int]:
        """The numbers of the lines that one poll reads; other lines are left out."""
        content = self.file.read()
        self.restarts = [restart.reason for restart in content.restarts]
        self.rejections = [rejection.reason for rejection in content.rejections]
        numbers = []
        for answer in content.answers:
            try:
                numbers.append(orjson.loads(answer.body)["n"])
            except orjson.JSONDecodeError:
                continue
            self.position = answer.mark
        return numbers


@pytest.fixture
def follower(tmp_path):
    return Follower(tmp_path / "m.jsonl")


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"n":%d}\n' % number for number in numbers)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


stopped = pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])


def test_lines_appended_to_a_renamed_file_are_read(follower):
    """After a rotation the old file is read to its end, also while the new one is missing or empty."""
    path, old = follower.path, follower.path.with_suffix(".1")
    path.write_bytes(lines(1))
    assert follower.poll() == [1]
    append(path, lines(2))
    path.rename(old)
    assert follower.poll() == [2]
    append(old, lines(3))
    path.touch()
    assert follower.poll() == [3]
    append(old, lines(4) + b'{"n":5}')
    path.write_bytes(lines(6))
    assert (follower.poll(), follower.restarts) == ([4, 5, 6], ["replaced"])
    append(path, lines(7))
    assert (follower.poll(), follower.restarts) == ([7], [])


def test_a_missing_file_fails_once_the_open_one_has_no_more_lines(follower):
    """Lines are delivered before the failure that the path has no file."""
    follower.path.write_bytes(lines(1))
    follower.poll()
    append(follower.path, lines(2))
    follower.path.unlink()
    assert follower.poll() == [2]
    with pytest.raises(FileNotFoundError):
        follower.poll()
    follower.path.write_bytes(lines(3))
    assert follower.poll() == [3]


@stopped
@pytest.mark.parametrize("in_place", [False, True])
def test_a_rewrite_of_the_same_length_is_read(follower, stopped, in_place):
    """A file made anew or rewritten with lines of the same length is read from its start."""
    follower.path.write_bytes(lines(1, 2))
    assert follower.poll() == [1, 2]
    if stopped:
        follower.restart()
    if not in_place:
        follower.path.unlink()
    follower.path.write_bytes(lines(3, 4))
    assert follower.poll() == [3, 4]
    assert follower.restarts == ["cut" if in_place and not stopped else "replaced"]


@stopped
def test_a_file_that_was_cut_and_filled_again_is_read(follower, stopped):
    """A file that was cut and has more content than before at the next poll is read from its start."""
    follower.path.write_bytes(lines(1, 2))
    assert follower.poll() == [1, 2]
    if stopped:
        follower.restart()
    follower.path.write_bytes(lines(3, 4, 5))
    assert follower.poll() == [3, 4, 5]
    assert len(follower.restarts) == 1


@stopped
def test_a_longer_copy_is_read_on(follower, stopped):
    """A new file with the same beginning, as rsync writes it, is read from the position on, without an event."""
    follower.path.write_bytes(lines(1, 2) + b'{"n"')
    assert follower.poll() == [1, 2]
    if stopped:
        follower.restart()
    copy = follower.path.with_suffix(".tmp")
    copy.write_bytes(lines(1, 2, 3, 4))
    copy.replace(follower.path)
    assert (follower.poll(), follower.restarts) == ([3, 4], [])


@stopped
@pytest.mark.parametrize("nuls", [5, 5000])
def test_nuls_before_a_line_are_skipped(follower, stopped, nuls):
    """The bytes that a writer with a kept offset leaves in a file that was cut are not part of its next line."""
    follower.path.write_bytes(lines(1, 2))
    follower.poll()
    if stopped:
        follower.restart()
    follower.path.write_bytes(b"\0" * nuls + lines(3, 4))
    assert (follower.poll(), len(follower.restarts)) == ([3, 4], 1)


@pytest.mark.parametrize("filler", [b"x", b"\0"])
@pytest.mark.parametrize("polls", [1, 3])
def test_a_line_over_the_limit_is_skipped(follower, filler, polls):
    """A line over 5 MiB is rejected once, whichever poll reaches its end, and the next line is read."""
    follower.path.write_bytes(lines(1))
    rejections = []
    read = follower.poll()
    for _ in range(polls):
        append(follower.path, filler * (7 << 20))
        read += follower.poll()
        rejections += follower.rejections
    append(follower.path, filler + b"\n" + lines(2))
    read += follower.poll()
    append(follower.path, lines(3))
    read += follower.poll()
    assert (read, rejections) == ([1, 2, 3], ["too_large"])


def test_a_restart_within_a_line_over_the_limit_reads_on_behind_it(follower):
    """A process that starts while a line over the limit is being written skips it too."""
    follower.path.write_bytes(lines(1))
    follower.poll()
    append(follower.path, b"x" * (7 << 20))
    assert (follower.poll(), follower.rejections) == ([], ["too_large"])
    follower.restart()
    append(follower.path, b"x\n" + lines(2))
    assert (follower.poll(), follower.rejections, follower.restarts) == ([2], ["too_large"], [])


@stopped
def test_many_lines_are_read_in_several_polls(follower, stopped):
    """A poll reads 20,000 lines, also of a file that was replaced, and the next polls read the others."""
    follower.path.write_bytes(lines(*range(30_000)))
    assert follower.poll() == [*range(20_000)]
    if stopped:
        follower.restart()
    else:
        follower.path.rename(follower.path.with_suffix(".1"))
        follower.path.write_bytes(lines(-1))
    rest = [*range(20_000, 30_000)]
    assert follower.poll() == (rest if stopped else [*rest, -1])


def test_a_pipe_is_not_opened(follower):
    """A path that is not a regular file is an error, and does not block the thread."""
    os.mkfifo(follower.path)
    with pytest.raises(OSError, match="it is not a regular file"):
        follower.poll()


class Writer:
    """A writer that rotates, cuts, rewrites and copies its file; beside it, what the lines of each file are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = 0
        self.number = 0
        self.unfinished = 0
        self.named: list[int] | None = None
        self.open_path, self.opened = path, None
        self.reopen()

    def reopen(self) -> None:
        """Open the file at the path, a new one if there is none; it has a line from then on."""
        if self.unfinished and self.opened is not self.named:
            self._finish(b"}")
        if self.named is None:
            self.named = []
        self.open_path, self.opened = self.path, self.named
        self.append()

    def append(self, count: int = 1, pad: int = 0) -> None:
        """Append numbered lines to the open file, wherever it is now."""
        if self.unfinished:
            self._finish(b"}\n")
        for _ in range(count):
            self.number += 1
            self.opened.append(self.number)
            append(self.open_path, b'{"n":%d,"pad":"%s"}\n' % (self.number, b"x" * pad))

    def begin(self) -> None:
        """Append the first half of a line; the next call appends the other half."""
        if not self.unfinished:
            self.number += 1
            self.unfinished = self.number
            append(self.open_path, b'{"n":%d' % self.number)

    def _finish(self, end: bytes) -> None:
        append(self.open_path, end)
        self.opened.append(self.unfinished)
        self.unfinished = 0

    def rename(self) -> None:
        """Rename the file; the writer still has it open."""
        if self.named is not None:
            self.files += 1
            old = self.path.with_suffix(f".{self.files}")
            self.path.rename(old)
            if self.opened is self.named:
                self.open_path = old
            self.named = None

    def rename_and_create(self) -> None:
        """Rename the file and create an empty one, which the writer has not opened yet."""
        if self.named is not None:
            self.rename()
            self.path.touch()
            self.named = []

    def cut(self, keeps_offset: bool) -> None:
        """Cut the open file to nothing, and write a line at its start, or at the offset where it ended."""
        size = self.open_path.stat().st_size
        self._clear()
        if keeps_offset:
            os.truncate(self.open_path, size)
            self.append()

    def rewrite(self) -> None:
        """Write other lines of the same length over those of the open file."""
        size = self.open_path.stat().st_size
        self._clear()
        self.append()
        while self.open_path.stat().st_size < size:
            self.append()

    def _clear(self) -> None:
        self.opened.clear()
        self.unfinished = 0
        os.truncate(self.open_path, 0)

    def copy(self) -> None:
        """Replace the file by a longer copy of it."""
        if self.named:
            copy = self.path.with_suffix(".tmp")
            copy.write_bytes(self.path.read_bytes())
            copy.replace(self.path)
            if self.opened is self.named:
                self.open_path, self.opened = self.path, [*self.named]
                self.named = self.opened
            else:
                self.named = [*self.named]
            self.reopen()


class Model:
    """What a follower of a writer's file must read, by the writer's own account of its files."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.file: list[int] | None = None
        self.read: list[int] = []

    def poll(self) -> list[int]:
        named, expected = self.writer.named, []
        if self.file is None:
            self.file = named
        if self.file is not None:
            expected += self._unread()
        if named and named is not self.file:
            self.file = named
            expected += self._unread()
        return expected

    def _unread(self) -> list[int]:
        begin = len(self.read) if self.file[: len(self.read)] == self.read else 0
        self.read = [*self.file]
        return self.file[begin:]


writes = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 3), st.integers(0, 700)),
    st.tuples(st.sampled_from(["begin", "rename", "rename_and_create", "reopen", "rewrite", "copy"])),
    st.tuples(st.just("cut"), st.booleans()),
)
steps = st.lists(st.tuples(writes, st.sampled_from(["", "poll", "poll", "restart"])), min_size=5, max_size=20)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_each_line_that_can_be_read_is_read_once(tmp_path_factory, steps):
    """Random operations of a writer between polls and restarts: the lines read are those the model expects."""
    path = tmp_path_factory.mktemp("followed") / "m.jsonl"
    writer = Writer(path)
    follower, model = Follower(path), Model(writer)
    for (operation, *arguments), then in [*steps, (("append",), "poll")]:
        getattr(writer, operation)(*arguments)
        if then == "restart":
            follower.restart()
            model.file = None
        elif then == "poll":
            try:
                numbers = follower.poll()
            except FileNotFoundError:
                assert writer.named is None
                numbers = []
            assert numbers == model.poll()
