"""Lines appended to day files: whole lines, in order, acknowledged only once they are durable."""

import math
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from etl.storage.atomic import is_same_file, link, open_regular, sync, write_all
from etl.storage.folder import Folder

MAX_WRITE_BYTES = 1 << 20
"""Bytes of one write, about: larger ones gain nothing, and a failed one has to be undone."""
MAX_UNSYNCED_BYTES = 4 << 20
"""Bytes of written lines that wait in memory for a delayed fsync, about; more are fsynced at once."""


class DisturbedError(Exception):
    """A day file is not as this process left it: somebody else renamed, truncated or deleted it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} was {reason} by another program")
        self.path = path
        self.reason = reason


class _Chunk(NamedTuple):
    """Lines of one day that wait to be written."""

    day: str
    lines: list[bytes]
    size: int
    returned: bool
    """Whether `flush` returned them before: they are written again because the first fsync failed."""


class Appender:
    """Appends lines of one kind (raw, averages, events) to their day files, in order.

    Lines wait in a queue until `flush` has written them; what a failed write left in the file is cut off again. Lines
    are fsynced at most `sync_delay_s` seconds after their write: 0 means with each write, infinity never. Until then
    they are kept: if the fsync fails, they are cut off and wait again. `system` is os, or a test double for it.
    """

    def __init__(self, folder: Folder, kind: str, sync_delay_s: float = 0.0, system: Any = os) -> None:
        self.folder = folder
        self.kind = kind
        self.sync_delay_s = sync_delay_s
        self.waiting_bytes = 0
        self._os = system
        self._queue: deque[_Chunk] = deque()
        self._fd: int | None = None
        self._day = ""
        self._size: int | None = None
        self._unsynced: list[_Chunk] = []
        self._unsynced_since = 0.0
        self._has_surplus = False

    def put(self, day: str, lines: list[bytes]) -> None:
        """Queue lines of one day for the next flush."""
        size = sum(map(len, lines))
        self._queue.append(_Chunk(day, lines, size, returned=False))
        self.waiting_bytes += size

    def __len__(self) -> int:
        return sum(len(chunk.lines) for chunk in self._queue)

    def flush(self) -> Iterator[tuple[str, list[bytes]]]:
        """Write the queue; yield each day's lines as soon as they are as durable as `sync_delay_s` asks.

        Raises:
            OSError: they cannot be written now. They stay in the queue; the file holds none of them.
            DisturbedError: the file is not as it was left. They stay in the queue; call `reset` before the next flush.
        """
        while self._queue:
            chunks = self._next_write()
            self._append(chunks)
            for chunk in chunks:
                self._queue.popleft()
                self.waiting_bytes -= chunk.size
                if not chunk.returned:
                    yield chunk.day, chunk.lines
        is_due = time.monotonic() - self._unsynced_since >= self.sync_delay_s
        if self._unsynced and (is_due or sum(chunk.size for chunk in self._unsynced) > MAX_UNSYNCED_BYTES):
            self.sync()

    @property
    def needs_sync(self) -> bool:
        """Whether written lines wait for an fsync."""
        return bool(self._unsynced)

    def _next_write(self) -> list[_Chunk]:
        """The first chunks of one day in the queue, about MAX_WRITE_BYTES of them."""
        chunks: list[_Chunk] = []
        size = 0
        for chunk in self._queue:
            if chunks and (chunk.day != chunks[0].day or size + chunk.size > MAX_WRITE_BYTES):
                break
            chunks.append(chunk)
            size += chunk.size
        return chunks

    def _append(self, chunks: list[_Chunk]) -> None:
        day = chunks[0].day
        if day != self._day:
            self.sync()
            if self._fd is not None:
                self._os.fsync(self._fd)  # a day that is over is durable, also with `fsync: never`
            self.reset()
            self._day = day
        fd = self._open()
        data = b"".join([line for chunk in chunks for line in chunk.lines])
        try:
            write_all(fd, data, self._os)
            if not self.sync_delay_s:
                self._os.fsync(fd)
        except OSError:
            self._undo(fd)
            raise
        self._size = (self._size or 0) + len(data)
        if 0 < self.sync_delay_s < math.inf:
            if not self._unsynced:
                self._unsynced_since = time.monotonic()
            self._unsynced += [chunk._replace(returned=True) for chunk in chunks]

    def sync(self) -> None:
        """Fsync what was written; if that raises OSError, what was written since the last fsync waits again."""
        if self._has_surplus:
            self._open()
        if not self._unsynced:
            return
        try:
            self._os.fsync(self._open())
        except OSError:
            # After a failed fsync the kernel may have dropped the pages and report success the next time.
            size = sum(chunk.size for chunk in self._unsynced)
            self._size = (self._size or 0) - size
            if self._fd is not None:
                self._undo(self._fd)
            self._queue.extendleft(reversed(self._unsynced))
            self.waiting_bytes += size
            self._unsynced = []
            raise
        self._unsynced = []

    def _open(self) -> int:
        """The day file's descriptor, its length checked against what this process wrote."""
        path = self.folder.path(self.kind, self._day)
        if self._fd is not None and not is_same_file(self._fd, path, self._os):
            self.close()
            self._has_surplus = False
            raise DisturbedError(path, "renamed or deleted")
        if self._fd is None:
            self._fd = self._open_or_create(path)
        size = self._os.fstat(self._fd).st_size
        if self._size is None:
            self._size = size
        if size > self._size:
            self._os.ftruncate(self._fd, self._size)
        self._has_surplus = False
        if size < self._size:
            self.close()
            raise DisturbedError(path, "truncated")
        return self._fd

    def _open_or_create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_APPEND
        created = False
        try:
            fd = open_regular(path, flags, self._os)
        except FileNotFoundError:
            self._has_surplus = False
            if self._size:
                raise DisturbedError(path, "renamed or deleted") from None
            self._os.makedirs(path.parent, exist_ok=True)
            fd = open_regular(path, flags | os.O_CREAT, self._os)
            created = True
        try:
            if created:
                sync(path.parent, self._os)
                sync(self.folder.root, self._os)
            link(self.folder.root / f"{self.kind}.jsonl", f"{self.kind}/{path.name}", self._os)
        except OSError:
            self._os.close(fd)
            if created:
                self._os.unlink(path)
            raise
        return fd

    def _undo(self, fd: int) -> None:
        """Cut off what a failed write left; if even that fails, the next open does it."""
        try:
            self._os.ftruncate(fd, self._size)
        except OSError:
            self._has_surplus = True
        self.close()

    def close(self) -> None:
        """Close the file; the next flush opens it again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                self._os.close(fd)

    def drain(self) -> list[bytes]:
        """Empty the queue and return its lines."""
        lines = [line for chunk in self._queue if not chunk.returned for line in chunk.lines]
        self._queue.clear()
        self.waiting_bytes = 0
        return lines

    def has_waiting(self, day: str) -> bool:
        """Whether lines of this day or an earlier one wait in the queue."""
        return any(chunk.day <= day for chunk in self._queue)

    def reset(self) -> None:
        """Close the file. The next flush accepts its length at that moment, minus the bytes of a failed write."""
        self.close()
        if not self._has_surplus:
            self._size = None
        self._unsynced = []

    def adopt(self, day: str) -> None:
        """Accept a day file's current length; a change that others make to it from now on is detected."""
        self.reset()
        self._day = day
        with suppress(FileNotFoundError):
            self._size = self._os.stat(self.folder.path(self.kind, day)).st_size
