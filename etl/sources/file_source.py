"""Readings from JSON files: one object, an array that goes round, or lines as they are appended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson

from etl.readings.records import Answer, Failure, Poll, RejectedError
from etl.sources.workers import Workers

CAP = 64 << 20
"""Bytes of a file that holds an object or an array, at most; recorded months go through `etl replay`."""
AT_ONCE = 5 << 20
"""Bytes a followed file gives in one poll, at most; the rest waits for the next."""


class FileSource(NamedTuple):
    """A machine that writes its readings to a file."""

    name: str
    path: Path


class _Reader(Protocol):
    def read(self) -> tuple[Answer, ...]: ...


class Files:
    """Polls of files, each on a thread of its own: a stuck network drive costs only itself.

    `positions` says, for each followed file by its source's name, where the last kept line ended. What `before` reads
    already is read on from where it is.
    """

    def __init__(
        self,
        sources: Iterable[FileSource],
        clock: Callable[[], float],
        positions: Mapping[str, int],
        before: Files | None = None,
    ) -> None:
        self._clock = clock
        self._workers = Workers("file")
        known = before.reading if before else {}
        self.reading: dict[FileSource, _Reader] = {
            source: known.get(source) or _reader(source, positions.get(source.name, 0)) for source in sources
        }
        self._readers = {source.name: reader for source, reader in self.reading.items()}

    def start(self, names: Iterable[str], deliver: Callable[[Poll], None]) -> None:
        """Begin one poll of each source; `deliver` gets each result, from another thread."""
        self._workers.run([partial(self._run, name, deliver) for name in names])

    def _run(self, name: str, deliver: Callable[[Poll], None]) -> None:
        try:
            answers = self._readers[name].read()
        except FileNotFoundError:
            failure = Failure("no_file", "no such file")
        except OSError as error:
            failure = Failure("file", error.strerror or str(error))
        except RejectedError as error:
            failure = Failure(error.reason, str(error))
        else:
            deliver(Poll(name, self._clock(), answers))
            return
        deliver(Poll(name, self._clock(), failure=failure))

    def close(self) -> None:
        """Begin no further poll."""
        self._workers.close()


def _reader(source: FileSource, position: int) -> _Reader:
    return _Followed(source.path, position) if source.path.suffix == ".jsonl" else _Document(source.path)


class _Document:
    """A file read anew each time: its object, or the next item of its array, round and round."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = 0
        self._known: tuple[int, int, int] | None = None
        self._items: list[bytes] | None = None
        self._body = b""

    def read(self) -> tuple[Answer, ...]:
        self._load()
        if self._items is None:
            return (Answer(self._body),)
        if not self._items:
            raise RejectedError("empty", "the array is empty")
        item = self._items[self._turn % len(self._items)]
        self._turn += 1
        return (Answer(item),)

    def _load(self) -> None:
        stat = self._path.stat()
        if (stat.st_mtime_ns, stat.st_size, stat.st_ino) == self._known:
            return
        if stat.st_size > CAP:
            raise RejectedError("too_large", f"the file is larger than {CAP >> 20} MiB; `etl replay` reads it")
        self._body = self._path.read_bytes()
        self._items = None
        if self._body.lstrip()[:1] == b"[":
            try:
                self._items = [orjson.dumps(item) for item in orjson.loads(self._body)]
            except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
                raise RejectedError("not_json", f"the file is not JSON: {error}") from None
        self._known = (stat.st_mtime_ns, stat.st_size, stat.st_ino)


class _Followed:
    """A file that grows by whole lines; one that was replaced or cut is read from its start."""

    def __init__(self, path: Path, position: int) -> None:
        self._path = path
        self.position = position
        self._inode: int | None = None

    def read(self) -> tuple[Answer, ...]:
        with self._path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if self._replaced(file.fileno(), stat):
                self.position = 0
            self._inode = stat.st_ino
            block = os.pread(file.fileno(), AT_ONCE, self.position)
        whole = block.rfind(b"\n") + 1
        if not whole and len(block) == AT_ONCE:
            raise RejectedError("too_large", f"a line is longer than {AT_ONCE >> 20} MiB")
        answers = []
        for line in block[:whole].split(b"\n")[:-1]:
            self.position += len(line) + 1
            if line.strip():
                answers.append(Answer(line, self.position))
        return tuple(answers)

    def _replaced(self, fd: int, stat: os.stat_result) -> bool:
        if self._inode not in (None, stat.st_ino) or stat.st_size < self.position:
            return True
        return self.position > 0 and os.pread(fd, 1, self.position - 1) != b"\n"
