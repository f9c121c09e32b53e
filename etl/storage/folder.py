"""The output folder read back: its layout, its days, its lines, the settings that govern them."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import date
from functools import lru_cache
from io import BufferedReader, FileIO, RawIOBase
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, cast

from etl.readings.days import day_after
from etl.readings.records import Governed, Settings
from etl.readings.wire import RejectedError, parse_settings

KINDS = ("raw", "averages", "events")
_DAY = re.compile(r"(\d{4}-\d\d-\d\d)\.jsonl(\.gz)?")
_REPORT = re.compile(r"(\d{4}-\d\d-\d\d)\.json")
_HISTORY = re.compile(r"(\d{4}-\d\d-\d\d)\.msgpack")
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a damaged compressed file raises."""
BLOCK = 128 << 10
"""Bytes read at once: what is made of more no longer fits into a processor's caches."""


def ignore(_: int) -> None:
    """Nobody watches."""


class _Watched(FileIO):
    """A file that tells how much of it is read, as it is."""

    def __init__(self, path: Path, watch: Callable[[int], None]) -> None:
        super().__init__(path)
        self._watch = watch

    def readinto(self, buffer: Any) -> int | None:
        size = super().readinto(buffer)
        self._watch(size or 0)
        return size


class Folder:
    """Where everything stands below `root`. Reading a folder needs no lock and changes nothing.

    `watch` is told how many bytes of the raw log, as they are stored, were read from start to end.
    """

    def __init__(self, root: Path, watch: Callable[[int], None] = ignore) -> None:
        self.root = root
        self.watch = watch
        self.settings_path = root / "settings.jsonl"
        self.reports_path = root / "reports"

    def path(self, kind: str, day: str) -> Path:
        """The plain file of a day, whether it exists or not."""
        return self.root / kind / f"{day}.jsonl"

    def report_path(self, day: str) -> Path:
        """The report of a day, whether it exists or not."""
        return self.reports_path / f"{day}.json"

    def history_path(self, day: str) -> Path:
        """What passes from the night of a day to the next one, whether it exists or not."""
        return self.reports_path / "history" / f"{day}.msgpack"

    def histories(self) -> list[str]:
        """The days whose history is kept, oldest first."""
        return _names(self.reports_path / "history", _HISTORY)

    def page_path(self, day: str) -> Path:
        """The page of a day's report, whether it exists or not."""
        return self.reports_path / f"{day}.html"

    def days(self, kind: str) -> list[str]:
        """The days that have a file of this kind, oldest first; a missing folder has none."""
        return _names(self.root / kind, _DAY)

    def reports(self) -> list[str]:
        """The days that have a report, oldest first."""
        return _names(self.reports_path, _REPORT)

    def newest_day(self, kind: str) -> str:
        """The earliest day the next line of this kind may go to, as the folder's day never goes back; "" if empty."""
        return max([*self.days("raw")[-1:], *self.days(kind)[-1:], *map(day_after, self.reports()[-1:])], default="")

    def packed_path(self, kind: str, day: str) -> Path:
        """The compressed file of a day, whether it exists or not."""
        return self.root / kind / f"{day}.jsonl.gz"

    def open(self, kind: str, day: str) -> IO[bytes]:
        """Open a day's file to read from its start; where both forms stand, the plain one counts."""
        watch = self.watch if kind == "raw" else ignore
        try:
            return BufferedReader(_Watched(self.path(kind, day), watch), BLOCK)
        except FileNotFoundError:
            packed = self.packed_path(kind, day)
            watch(packed.stat().st_size)
            # A GzipFile gives its lines one by one in Python; a buffer around it does so in C.
            return BufferedReader(cast(RawIOBase, gzip.open(packed, "rb")), BLOCK)

    def open_anywhere(self, kind: str, day: str) -> IO[bytes]:
        """Open a day's file to read at any offset; a compressed one is unpacked beside the system's other files."""
        try:
            return self.path(kind, day).open("rb")
        except FileNotFoundError:
            unpacked = TemporaryFile()  # noqa: SIM115  the caller closes it
            with gzip.open(self.packed_path(kind, day), "rb") as packed:
                shutil.copyfileobj(packed, unpacked)
            unpacked.seek(0)
            return cast(IO[bytes], unpacked)

    def stored(self, kind: str, days: Iterable[str]) -> int:
        """How many bytes the files of these days take on the disk."""
        there = (path for day in days for path in (self.path(kind, day), self.packed_path(kind, day)) if path.exists())
        return sum(path.stat().st_size for path in there)

    def lines(self, kind: str, day: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """The complete lines of a day with the offset of each, from a line's start at `offset` on."""
        with self.open_anywhere(kind, day) if offset else self.open(kind, day) as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield offset, line
                offset += len(line)

    def cuts(self, kind: str, day: str, parts: int) -> list[tuple[int, int | None]]:
        """Cut a day's file into parts of whole lines: where each starts, and the next one (None: the file ends).

        There are at most `parts`, of about one size; a compressed file, which is read from its start only, is one.
        """
        try:
            with self.path(kind, day).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                starts = {0}
                for number in range(1, parts):
                    file.seek(max(0, number * size // parts - 1))
                    file.readline()
                    starts.add(file.tell())
        except FileNotFoundError:
            return [(0, None)]
        cuts = sorted(starts - {size} | {0})
        return list(zip(cuts, [*cuts[1:], None], strict=True))

    def blocks(self, kind: str, day: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """The complete lines of a day, or of a part of it, in blocks, each with its offset.

        Raises:
            EOFError: the file ends before `end`.

        """
        with self.open(kind, day) as file:
            offset = file.seek(start)
            while block := file.read(BLOCK if end is None else min(BLOCK, end - offset)):
                if not block.endswith(b"\n"):
                    block += file.readline()
                whole = block[: block.rfind(b"\n") + 1]
                yield offset, whole
                offset += len(block)
        if end is not None and offset < end:
            raise EOFError(f"{self.path(kind, day)} is shorter here than it was: {offset} bytes, not {end}")

    def last_lines(self, kind: str) -> list[bytes]:
        """The complete lines in about the last 64 KiB of the newest file, oldest first; a missing one has none."""
        days = self.days(kind)
        if not days:
            return []
        with self.open_anywhere(kind, days[-1]) as file:
            start = max(0, file.seek(0, os.SEEK_END) - (64 << 10))
            file.seek(start)
            lines = file.read().splitlines(keepends=True)
        return [line for line in lines[1 if start else 0 :] if line.endswith(b"\n")]

    def backwards(self, kind: str, size: int) -> Iterator[bytes]:
        """The complete lines in the last `size` bytes of this kind, the newest first, over days.

        A compressed file, which has to be unpacked, is read only if it is the newest one.
        """
        days = self.days(kind)
        for day in reversed(days):
            if size <= 0 or (day != days[-1] and not self.path(kind, day).exists()):
                return
            with self.open_anywhere(kind, day) as file:
                start = file.seek(0, os.SEEK_END)
                rest = b""
                while start and size > 0:
                    block = min(BLOCK, start, size)
                    start -= block
                    size -= block
                    file.seek(start)
                    rest = file.read(block) + rest
                    *lines, _ = rest.split(b"\n")
                    if lines:
                        rest = lines.pop(0) + b"\n" if start else b""
                    yield from reversed(lines)

    def count(self, kind: str, day: str) -> int:
        """How many complete lines a day has; 0 without a file. A file that did not change is not read again."""
        for path in (self.path(kind, day), self.packed_path(kind, day)):
            with suppress(FileNotFoundError):
                stat = path.stat()
                return _count(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        return 0

    def settings(self) -> list[Governed]:
        """The entries of settings.jsonl in the order they were written; damaged lines are passed over."""
        try:
            written = self.settings_path.read_bytes()
        except FileNotFoundError:
            return []
        entries = []
        for line in written.splitlines():
            try:
                entries.append(parse_settings(line))
            except RejectedError:
                continue
        return entries


def governing(entries: list[Governed], day: str, line: int, otherwise: Settings) -> Settings:
    """The settings that govern a line (counted from 1) of a day: the entry written last that is not after it."""
    for entry in reversed(entries):
        if (entry.day, entry.line) <= (day, line):
            return entry.settings
    return otherwise


@lru_cache(maxsize=8)
def _count(path: Path, _inode: int, _size: int, _changed: int) -> int:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))


def day_of_file(name: str) -> str | None:
    """The day a file of ours is named for, compressed or not; None for any other name."""
    match = _DAY.fullmatch(name)
    return match[1] if match and _is_day(match[1]) else None


def _names(path: Path, pattern: re.Pattern[str]) -> list[str]:
    try:
        names = [entry.name for entry in path.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted({match[1] for name in names if (match := pattern.fullmatch(name)) and _is_day(match[1])})


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return "0001-01-01" < name < "9999-12-31"
