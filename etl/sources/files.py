"""Readings from JSON files: a document (one object, or an array that is repeated), or a followed file of lines."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping
from math import inf
from pathlib import Path
from stat import S_ISREG
from typing import Protocol

import orjson

from etl.readings.records import Answer, Failure, Poll, RejectedError
from etl.sources.contract import FileSource
from etl.sources.poll_threads import PendingPoll, PollThreads

MAX_DOCUMENT_BYTES = 64 << 20
"""Size limit of a document, which is kept in memory; `etl replay` imports recorded months."""
MAX_READ_BYTES = 5 << 20
"""Bytes read from a followed file in one poll; the next polls read the rest."""


class _Reader(Protocol):
    def read(self) -> tuple[Answer, ...]: ...


class Files:
    """Polls files on threads, so that a stuck network drive delays no other source.

    `positions` has, for each followed file by its source's name, the offset where the last stored line ends. Sources
    that `previous` reads too continue where it is.
    """

    def __init__(
        self,
        sources: Iterable[FileSource],
        clock: Callable[[], float],
        positions: Mapping[str, int],
        previous: Files | None = None,
    ) -> None:
        readers = previous.readers if previous else {}
        self.readers: dict[FileSource, _Reader] = {
            source: readers.get(source) or _reader(source, positions.get(source.name, 0)) for source in sources
        }
        self._by_name = {source.name: reader for source, reader in self.readers.items()}
        self._threads = PollThreads("file", len(self.readers), self._read, _explain, clock)

    def start(self, names: Iterable[str], deliver: Callable[[Poll], None]) -> None:
        """Start one poll of each source; `deliver` gets each result, from another thread."""
        self._threads.start([PendingPoll(name, inf, deliver) for name in names])

    def close(self) -> None:
        """Start no further poll; a read in progress is still delivered, because its lines count as read."""
        self._threads.close()

    def _read(self, poll: PendingPoll) -> tuple[Answer, ...]:
        return self._by_name[poll.name].read()


def _explain(_: PendingPoll, error: Exception) -> Failure:
    if isinstance(error, FileNotFoundError):
        return Failure("no_file", "no such file")
    if isinstance(error, OSError):
        return Failure("file", error.strerror or str(error))
    if isinstance(error, RejectedError):
        return Failure(error.reason, str(error))
    return Failure("failed", f"the file cannot be read: {type(error).__name__}")


def _reader(source: FileSource, position: int) -> _Reader:
    return _FollowedFile(source.path, position) if source.path.suffix == ".jsonl" else _Document(source.path)


def _regular(path: Path) -> os.stat_result:
    """The status of a file; OSError if it is not a regular one, as opening a FIFO would wait for its other end."""
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return status


class _Document:
    """A file that is read again whenever it changed: its object, or the items of its array in turn, in a loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_item = 0
        self._version: tuple[int, int, int] | None = None
        self._items: list[bytes] | None = None
        self._body = b""

    def read(self) -> tuple[Answer, ...]:
        """The object, or the next item.

        Raises:
            OSError: the file cannot be read.
            RejectedError: it is too large, not JSON, or an empty array.

        """
        self._load()
        if self._items is None:
            return (Answer(self._body),)
        if not self._items:
            raise RejectedError("empty", "the array is empty")
        item = self._items[self._next_item % len(self._items)]
        self._next_item += 1
        return (Answer(item),)

    def _load(self) -> None:
        stat = _regular(self._path)
        version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if version == self._version:
            return
        if stat.st_size > MAX_DOCUMENT_BYTES:
            limit = f"{MAX_DOCUMENT_BYTES >> 20} MiB"
            raise RejectedError("too_large", f"the file is larger than {limit}; `etl replay` reads it")
        self._body = self._path.read_bytes()
        self._items = None
        if self._body.lstrip()[:1] == b"[":
            try:
                self._items = [orjson.dumps(item) for item in orjson.loads(self._body)]
            except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
                raise RejectedError("not_json", f"the file is not JSON: {error}") from None
        self._version = version


class _FollowedFile:
    """A file that grows by whole lines; one that was replaced or truncated is read from its start."""

    def __init__(self, path: Path, position: int) -> None:
        self._path = path
        self._position = position
        self._inode: int | None = None

    def read(self) -> tuple[Answer, ...]:
        """The lines appended since the last call, each with the offset after it.

        Raises:
            OSError: the file cannot be read.
            RejectedError: a line is too long.

        """
        _regular(self._path)
        with self._path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if self._was_replaced(file.fileno(), stat):
                self._position = 0
            self._inode = stat.st_ino
            block = os.pread(file.fileno(), MAX_READ_BYTES, self._position)
        complete = block.rfind(b"\n") + 1
        if not complete and len(block) == MAX_READ_BYTES:
            raise RejectedError("too_large", f"a line is longer than {MAX_READ_BYTES >> 20} MiB")
        answers = []
        for line in block[:complete].split(b"\n")[:-1]:
            self._position += len(line) + 1
            if line.strip():
                answers.append(Answer(line, self._position))
        return tuple(answers)

    def _was_replaced(self, fd: int, stat: os.stat_result) -> bool:
        """Whether the position belongs to another file: other inode, beyond the end, or not after a line's end."""
        if self._inode not in (None, stat.st_ino) or stat.st_size < self._position:
            return True
        return self._position > 0 and os.pread(fd, 1, self._position - 1) != b"\n"
