"""Polls of files: followed files of lines, and JSON documents (one object, or an array that is repeated)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Protocol

import orjson

from etl.config.sources.file import FileSource
from etl.readings import exact
from etl.readings.records import START, Answer, Failure, RejectedError
from etl.sources.contract import Content, Context, Deliver
from etl.sources.file.following import FollowedFile, open_source_file
from etl.sources.intake import BUSY
from etl.sources.poll_threads import PendingPoll, PollThreads

MAX_DOCUMENT_BYTES = 64 << 20
"""Size limit of a document, which is kept in memory; `etl replay` imports recorded months."""


class _Reader(Protocol):
    def read(self) -> Content: ...


class FileTransport:
    """Polls files on threads, so that a stuck network drive delays no other source.

    A followed file continues where `context.previous` is, else after the last line in the raw log.
    """

    def __init__(self, sources: Sequence[FileSource], context: Context) -> None:
        self._intake = context.intake
        paths = {source.name: context.folder / source.file for source in sources}
        previous = context.previous.readers if isinstance(context.previous, FileTransport) else {}
        self.readers: dict[tuple[str, Path], _Reader] = {
            item: previous[item] for item in paths.items() if item in previous
        }
        opened = [item for item in paths.items() if item not in self.readers]
        followed = {source.name for source in sources if source.is_followed}
        positions = context.positions({name for name, _ in opened if name in followed})
        for name, path in opened:
            self.readers[name, path] = (
                FollowedFile(path, positions.get(name, START)) if name in followed else _Document(path)
            )
        self._by_name = {name: reader for (name, _), reader in self.readers.items()}
        self._threads = PollThreads("file", len(self.readers), self._read, _explain, context.clock)

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; `deliver` gets each result, from another thread."""
        self._threads.start([PendingPoll(name, inf, deliver) for name in names])

    def close(self) -> None:
        """Start no further poll; a read in progress is still delivered, because its lines count as read."""
        self._threads.close()

    def _read(self, poll: PendingPoll) -> Content:
        reader = self._by_name[poll.name]
        poll.lease = self._intake.lease()
        if isinstance(reader, FollowedFile) and not poll.lease.grow(reader.next_bytes()):
            raise RejectedError(*BUSY)
        return reader.read()


def _explain(_: PendingPoll, error: Exception) -> Failure:
    if isinstance(error, FileNotFoundError):
        return Failure("no_file", "no such file")
    if isinstance(error, OSError):
        return Failure("file", error.strerror or str(error))
    if isinstance(error, RejectedError):
        return Failure(error.reason, str(error))
    return Failure("failed", f"the file cannot be read: {type(error).__name__}")


class _Document:
    """A file that is read again whenever it changed: its object, or the items of its array in turn, in a loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_item = 0
        self._version: tuple[int, int, int] | None = None
        self._items: list[bytes] | None = None
        self._body = b""

    def read(self) -> Content:
        """The object, or the next item.

        Raises:
            OSError: the file cannot be read.
            RejectedError: it is too large, not JSON, or an empty array.

        """
        self._load()
        if self._items is None:
            return Content([Answer(self._body)])
        if not self._items:
            raise RejectedError("empty", "the array is empty")
        item = self._items[self._next_item % len(self._items)]
        self._next_item += 1
        return Content([Answer(item)])

    def _load(self) -> None:
        stat = self._path.stat()
        version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if version == self._version:
            return
        if stat.st_size > MAX_DOCUMENT_BYTES:
            limit = f"{MAX_DOCUMENT_BYTES >> 20} MiB"
            raise RejectedError("too_large", f"the file is larger than {limit}; `etl replay` reads it")
        with open_source_file(self._path) as file:
            self._body = file.readall()
        self._items = None
        if self._body.lstrip()[:1] == b"[":
            try:
                self._items = [exact.dumps(item) for item in exact.loads(self._body)]
            except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
                raise RejectedError("not_json", f"the file is not JSON: {error}") from None
        self._version = version
