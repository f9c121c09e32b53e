"""The output folder written: one owner, whole lines, nothing acknowledged before it is durable."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from etl.readings.wire import RejectedError, parse
from etl.storage.folder import Folder

RUN = 1 << 20
"""Bytes written at once, at most."""


class HeldError(Exception):
    """Another process holds the output folder."""


class DisturbedError(Exception):
    """A day's file is not as it was left: somebody renamed, truncated or deleted it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} was {reason} by somebody else")
        self.path = path
        self.reason = reason


class Sync(NamedTuple):
    """When lines are made durable: with each write, some seconds after it at the latest, or when the system does it."""

    every: float
    """Seconds; 0 is with each write, infinity never."""


ALWAYS, NEVER = Sync(0.0), Sync(math.inf)


class _Batch(NamedTuple):
    day: str
    lines: list[bytes]
    size: int
    given_back: bool
    """Whether `flush` gave it back before: it is written again because it was not durable."""


class Appender:
    """Appends lines of one kind to the files of their days, in order.

    Lines wait until `flush` has written them; what a failed write left behind is cut off again. Lines that were written
    and not yet made durable are remembered: where that fails, they are cut off and wait again. `system` is the
    module os, or a stand-in for it.
    """

    def __init__(self, folder: Folder, kind: str, sync: Sync = ALWAYS, system: Any = os) -> None:
        self.kind = kind
        self.sync = sync
        self.waiting = 0
        self._folder = folder
        self._os = system
        self._queue: deque[_Batch] = deque()
        self._fd: int | None = None
        self._day = ""
        self._size: int | None = None
        self._unsynced: list[_Batch] = []
        self._since = 0.0
        self._surplus = False

    def put(self, day: str, lines: list[bytes]) -> None:
        """Let lines of one day wait for the next flush."""
        size = sum(map(len, lines))
        self._queue.append(_Batch(day, lines, size, given_back=False))
        self.waiting += size

    def __len__(self) -> int:
        return sum(len(batch.lines) for batch in self._queue)

    def flush(self) -> Iterator[tuple[str, list[bytes]]]:
        """Write what waits and give it back, batch by batch, as soon as it is as durable as `sync` asks.

        Raises:
            OSError: it cannot be written now. The lines wait on; the file holds none of them.
            DisturbedError: the file is not as it was left. The lines wait on; `forget` before the next flush.

        """
        while self._queue:
            batches = self._run()
            self._append(batches)
            for batch in batches:
                self._queue.popleft()
                self.waiting -= batch.size
                if not batch.given_back:
                    yield batch.day, batch.lines
        self._sync_if_due()

    @property
    def undurable(self) -> bool:
        """Whether lines were written that a later flush is to make durable."""
        return bool(self._unsynced) and self.sync.every < math.inf

    def _run(self) -> list[_Batch]:
        """The first waiting batches of one day, about RUN bytes of them."""
        batches: list[_Batch] = []
        size = 0
        for batch in self._queue:
            if batches and (batch.day != batches[0].day or size + batch.size > RUN):
                break
            batches.append(batch)
            size += batch.size
        return batches

    def _append(self, batches: list[_Batch]) -> None:
        day = batches[0].day
        if day != self._day:
            self.make_durable()
            self.forget()
            self._day = day
        fd = self._open()
        data = b"".join([line for batch in batches for line in batch.lines])
        try:
            write_all(fd, data, self._os)
            if not self.sync.every:
                self._os.fsync(fd)
        except OSError:
            self._take_back(fd)
            raise
        self._size = (self._size or 0) + len(data)
        if 0 < self.sync.every < math.inf:
            if not self._unsynced:
                self._since = time.monotonic()
            self._unsynced += [batch._replace(given_back=True) for batch in batches]

    def _sync_if_due(self) -> None:
        if self._unsynced and time.monotonic() - self._since >= self.sync.every:
            self.make_durable()

    def make_durable(self) -> None:
        """Make durable what was written and is not.

        Raises:
            OSError: it cannot be; what was written since the last time is cut off and waits again.

        """
        if self._surplus:
            self._open()
        if not self._unsynced:
            return
        try:
            self._os.fsync(self._open())
        except OSError:
            # After a failed fsync the system may have dropped the data and call the next one a success.
            size = sum(batch.size for batch in self._unsynced)
            self._size = (self._size or 0) - size
            if self._fd is not None:
                self._take_back(self._fd)
            self._queue.extendleft(reversed(self._unsynced))
            self.waiting += size
            self._unsynced = []
            raise
        self._unsynced = []

    def _open(self) -> int:
        """The day's file, open and as long as it was left."""
        path = self._folder.path(self.kind, self._day)
        if self._fd is not None and not _same(self._os, self._fd, path):
            self._close()
            self._surplus = False
            raise DisturbedError(path, "renamed or deleted")
        if self._fd is None:
            self._fd = self._create(path)
        size = self._os.fstat(self._fd).st_size
        if self._size is None:
            self._size = size
        if size > self._size:
            self._os.ftruncate(self._fd, self._size)
        self._surplus = False
        if size < self._size:
            self._close()
            raise DisturbedError(path, "truncated")
        return self._fd

    def _create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fresh = False
        try:
            fd: int = self._os.open(path, flags)
        except FileNotFoundError:
            self._surplus = False
            if self._size:
                raise DisturbedError(path, "renamed or deleted") from None
            self._os.makedirs(path.parent, exist_ok=True)
            fd = self._os.open(path, flags | os.O_CREAT, 0o640)
            fresh = True
        try:
            if fresh:
                sync_folder(path.parent, self._os)
            link(self._folder.root / f"{self.kind}.jsonl", f"{self.kind}/{path.name}", self._os)
        except OSError:
            self._os.close(fd)
            if fresh:
                self._os.unlink(path)
            raise
        return fd

    def _take_back(self, fd: int) -> None:
        """Cut off what a failed write left; where even that fails, the next open does it."""
        try:
            self._os.ftruncate(fd, self._size)
        except OSError:
            self._surplus = True
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                self._os.close(fd)

    def drain(self) -> list[bytes]:
        """Give up what waits, and give it back."""
        lines = [line for batch in self._queue if not batch.given_back for line in batch.lines]
        self._queue.clear()
        self.waiting = 0
        return lines

    def waits_for(self, day: str) -> bool:
        """Whether lines of this day or an earlier one wait."""
        return any(batch.day <= day for batch in self._queue)

    def forget(self) -> None:
        """Close the file and take it, at the next flush, as it stands then, but for what a failed write left there."""
        self._close()
        if not self._surplus:
            self._size = None
        self._unsynced = []

    def take(self, day: str) -> None:
        """Take a day's file as it stands now; what others do to it from now on is noticed."""
        self.forget()
        self._day = day
        with suppress(FileNotFoundError):
            self._size = self._os.stat(self._folder.path(self.kind, day)).st_size


def _same(system: Any, fd: int, path: Path) -> bool:
    try:
        there = system.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    ours = system.fstat(fd)
    return bool((there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev))


def sync_folder(path: Path, system: Any = os) -> None:
    """Make the names in a folder durable."""
    fd = system.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        system.fsync(fd)
    finally:
        system.close(fd)


def link(path: Path, target: str, system: Any = os) -> None:
    """Point a symbolic link somewhere else, in one step."""
    with suppress(OSError):
        if system.readlink(path) == target:
            return
    aside = path.with_name(path.name + ".tmp")
    aside.unlink(missing_ok=True)
    system.symlink(target, aside)
    system.replace(aside, path)


def write_whole(path: Path, data: bytes, system: Any = os) -> None:
    """Write a file whole or not at all: aside, synced, renamed."""
    write_pieces(path, [data], system)


def write_pieces(path: Path, pieces: Iterable[bytes], system: Any = os) -> None:
    """Write a file, given in pieces, whole or not at all."""
    system.makedirs(path.parent, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp")
    fd = system.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        try:
            for piece in pieces:
                write_all(fd, piece, system)
            system.fsync(fd)
        finally:
            system.close(fd)
        system.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)  # what is left of it may be what fills the disk
        raise
    sync_folder(path.parent, system)


def append_whole(path: Path, line: bytes) -> None:
    """Append one line to a small file, durably, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    size = os.fstat(fd).st_size
    try:
        write_all(fd, line)
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, size)
        raise
    finally:
        os.close(fd)
    if not size:
        sync_folder(path.parent)


def write_all(fd: int, data: bytes, system: Any = os) -> None:
    """Write all of the data, also where the system takes it piece by piece."""
    left = memoryview(data)
    while left:
        left = left[system.write(fd, left) :]


def is_object(line: bytes) -> bool:
    """Whether a line is a JSON object."""
    try:
        parse(line)
    except RejectedError:
        return False
    return True


def repair(path: Path, sound: Callable[[bytes], bool] = is_object) -> int:
    """Cut a torn or unsound end off a file of lines and keep it in `*.torn`; how many bytes were cut.

    Killed in between, the next repair finishes the work without keeping the end twice.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        size = os.fstat(fd).st_size
        end = _sound_end(fd, size, sound)
        if end < size:
            _keep(path.with_name(path.name + ".torn"), os.pread(fd, size - end, end))
            os.ftruncate(fd, end)
            os.fsync(fd)
        return size - end
    finally:
        os.close(fd)


def _sound_end(fd: int, size: int, sound: Callable[[bytes], bool]) -> int:
    """Where the last sound line ends."""
    end = size
    while end:
        start = _line_start(fd, end)
        line = os.pread(fd, end - start, start)
        if line.endswith(b"\n") and sound(line):
            break
        end = start
    return end


def _line_start(fd: int, end: int) -> int:
    """Where the line that ends at `end`, with or without its line feed, starts."""
    block_end = end - 1
    while block_end > 0:
        start = max(0, block_end - RUN)
        feed = os.pread(fd, block_end - start, start).rfind(b"\n")
        if feed >= 0:
            return start + feed + 1
        block_end = start
    return 0


def _keep(path: Path, torn: bytes) -> None:
    try:
        if path.read_bytes().endswith(torn + b"\n"):
            return
    except FileNotFoundError:
        pass
    append_whole(path, torn if torn.endswith(b"\n") else torn + b"\n")


def take_lock(root: Path) -> int:
    """Take the output folder for this process until the returned descriptor is closed, or the process ends.

    Raises:
        HeldError: another process has it; the message names its pid.
        OSError: the folder cannot be created or written.

    """
    root.mkdir(parents=True, exist_ok=True)
    fd = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    for last in (False, False, True):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if last:
                holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                raise HeldError(f"{root} is held by process {holder}") from None
            # `etl report` holds it for an instant to see that nobody else does.
            time.sleep(0.1)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def renew_lock(root: Path, fd: int) -> int:
    """Take the output folder anew where it was deleted, and the lock with it; the lock to hold from now on.

    Raises:
        HeldError: another process took it first.
        OSError: the folder cannot be created or written.

    """
    if _same(os, fd, root / ".lock"):
        return fd
    anew = take_lock(root)
    os.close(fd)
    return anew
