"""The output folder read back: its layout, its days, its lines."""

import gzip
import logging
import os
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
from etl.storage.atomic import IrregularFileError, irregular_type, open_regular, read_regular

log = logging.getLogger("etl")

KINDS = ("raw", "averages", "alarms", "events")
DAMAGED_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a damaged compressed file raises."""
READ_BYTES = 128 << 10
"""Bytes read at once: the objects decoded from larger blocks no longer fit into a processor's caches."""
DAY_FILE = (".jsonl", ".jsonl.gz")
"""What follows the day in the name of a day file."""
_LINKS = tuple(f"{kind}.jsonl" for kind in KINDS)
"""The links to the newest files."""

Progress = Callable[[int], None]
"""Called with the number of bytes read since the last call."""


def no_progress(_: int) -> None:
    """Ignore progress."""


class _ReportingFile(FileIO):
    """A file that reports how many of its bytes were read."""

    def __init__(self, path: Path, progress: Progress) -> None:
        super().__init__(path, opener=open_regular)
        self._progress = progress

    def readinto(self, buffer: Any) -> int | None:
        size = super().readinto(buffer)
        self._progress(size or 0)
        return size


class Folder:
    """The paths below `root` and what they hold. Reading a folder needs no lock and changes nothing.

    `progress` is called with the bytes of the raw log, as stored, that are read from start to end.
    """

    def __init__(self, root: Path, progress: Progress = no_progress) -> None:
        self.root = root
        self.progress = progress
        self.settings_path = root / "settings.jsonl"
        self.reports_path = root / "reports"

    def path(self, kind: str, day: str) -> Path:
        """The plain file of a day, whether it exists or not."""
        return self.root / kind / f"{day}.jsonl"

    def packed_path(self, kind: str, day: str) -> Path:
        """The compressed file of a day, whether it exists or not."""
        return self.root / kind / f"{day}.jsonl.gz"

    def report_path(self, day: str) -> Path:
        """The report of a day, whether it exists or not."""
        return self.reports_path / f"{day}.json"

    def page_path(self, day: str) -> Path:
        """The HTML page of a day's report, whether it exists or not."""
        return self.reports_path / f"{day}.html"

    def history_path(self, day: str) -> Path:
        """What the night of a day passes to the next one, whether it exists or not."""
        return self.reports_path / "history" / f"{day}.msgpack"

    def days(self, kind: str) -> list[str]:
        """The days that have a file of this kind, oldest first; none if the folder is missing."""
        return _days_in(self.root / kind, DAY_FILE)

    def reports(self) -> list[str]:
        """The days that have a report, oldest first."""
        return _days_in(self.reports_path, [".json"])

    def histories(self) -> list[str]:
        """The days whose history is kept, oldest first."""
        return _days_in(self.reports_path / "history", [".msgpack"])

    def newest_day(self, kind: str) -> str:
        """The earliest day the next line of this kind may go to, as the folder's day never goes back; "" if empty."""
        return max([*self.days("raw")[-1:], *self.days(kind)[-1:], *map(day_after, self.reports()[-1:])], default="")

    def read(self, path: Path) -> bytes | None:
        """A report or a page; None if it is missing or not a regular file: a link may lead out of the folder."""
        try:
            return read_regular(path)
        except (FileNotFoundError, IrregularFileError):
            return None

    def open_report(self, day: str) -> IO[bytes] | None:
        """Open the report of a day, which may be long, or None as above."""
        try:
            return open(self.report_path(day), "rb", opener=open_regular)
        except (FileNotFoundError, IrregularFileError):
            return None

    def open_history(self, day: str) -> IO[bytes]:
        """Open the history of a day."""
        return open(self.history_path(day), "rb", opener=open_regular)

    def open(self, kind: str, day: str) -> IO[bytes]:
        """Open a day's file to read it from its start; where both forms exist, the plain one counts."""
        progress = self.progress if kind == "raw" else no_progress
        try:
            return BufferedReader(_ReportingFile(self.path(kind, day), progress), READ_BYTES)
        except FileNotFoundError:
            packed = self.packed_path(kind, day)
            progress(packed.stat().st_size)
            # GzipFile iterates over lines in Python; a buffer around it does so in C.
            return BufferedReader(cast(RawIOBase, _unpacked(packed)), READ_BYTES)

    def open_anywhere(self, kind: str, day: str) -> IO[bytes]:
        """Open a day's file to read it at any offset; a compressed one is unpacked into a temporary file.

        Of a damaged compressed file this is what can be read: a start needs the end of the log, whatever became of it.
        """
        try:
            return open(self.path(kind, day), "rb", opener=open_regular)
        except FileNotFoundError:
            unpacked, path = TemporaryFile(), self.packed_path(kind, day)  # noqa: SIM115  the caller closes it
            try:
                with _unpacked(path) as packed:
                    shutil.copyfileobj(packed, unpacked)
            except DAMAGED_GZIP as error:
                log.warning("%s is damaged: %s. What can be read of it counts; restore it from a backup.", path, error)
            except BaseException:
                unpacked.close()
                raise
            unpacked.seek(0)
            return cast(IO[bytes], unpacked)

    def stored_bytes(self, kind: str, days: Iterable[str]) -> int:
        """How many bytes the files of these days take on the disk."""
        paths = (path for day in days for path in (self.path(kind, day), self.packed_path(kind, day)) if path.exists())
        return sum(path.stat().st_size for path in paths)

    def lines(self, kind: str, day: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """The complete lines of a day with the offset of each, from the line that starts at `offset`."""
        with self.open_anywhere(kind, day) if offset else self.open(kind, day) as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield offset, line
                offset += len(line)

    def parts(self, kind: str, day: str, count: int) -> list[tuple[int, int | None]]:
        """Split a day's file at line ends: the offsets where each part starts and ends (None: the end of the file).

        There are at most `count` parts of about one size; a compressed file is one part.
        """
        try:
            with open(self.path(kind, day), "rb", opener=open_regular) as file:
                size = file.seek(0, os.SEEK_END)
                starts = {0}
                for number in range(1, count):
                    file.seek(max(0, number * size // count - 1))
                    file.readline()
                    starts.add(file.tell())
        except FileNotFoundError:
            return [(0, None)]
        offsets = sorted(starts - {size} | {0})
        return list(zip(offsets, [*offsets[1:], None], strict=True))

    def blocks(self, kind: str, day: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """The complete lines of a day, or of a part, in blocks with their offsets; EOFError if it is too short."""
        with self.open(kind, day) as file:
            offset = file.seek(start)
            while block := file.read(READ_BYTES if end is None else min(READ_BYTES, end - offset)):
                if not block.endswith(b"\n"):
                    block += file.readline()
                complete = block[: block.rfind(b"\n") + 1]
                yield offset, complete
                offset += len(block)
                if len(complete) < len(block):
                    break  # a running process may go on with this line at any moment
        if end is not None and offset < end:
            raise EOFError(f"{self.path(kind, day)} is shorter here than it was: {offset} bytes, not {end}")

    def count(self, kind: str, day: str) -> int:
        """How many complete lines a day has that can be read; 0 without a file. An unchanged file is not read again."""
        for path in (self.path(kind, day), self.packed_path(kind, day)):
            with suppress(FileNotFoundError):
                stat = path.stat()
                return _count(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        return 0


@lru_cache(maxsize=8)
def _count(path: Path, _inode: int, _size: int, _changed: int) -> int:
    lines = 0
    with (
        suppress(*DAMAGED_GZIP),
        _unpacked(path) if path.suffix == ".gz" else open(path, "rb", opener=open_regular) as file,
    ):
        while block := file.read(READ_BYTES):
            lines += block.count(b"\n")
    return lines


def _unpacked(path: Path) -> gzip.GzipFile:
    """Open a compressed file to read what it holds; EOFError if it is empty, which gzip would take for no lines."""
    if not path.stat().st_size:
        raise EOFError("the compressed file is empty")
    unpacked = gzip.GzipFile(fileobj=open(path, "rb", opener=open_regular))  # noqa: SIM115  the caller closes it
    unpacked.myfileobj = cast(Any, unpacked.fileobj)  # GzipFile closes this one with itself
    return unpacked


def irregular_files(root: Path) -> Iterator[tuple[Path, str]]:
    """What has the name of a file or a folder of ours and is of another type: each path and its type.

    Links among the reports are left out: they are neither read nor served.
    """
    staging = root / ".replay"
    for path in (staging, *(root / kind for kind in (*KINDS, "reports")), root / "reports" / "history"):
        if (path == staging and path.is_symlink()) or (path.exists() and not path.is_dir()):
            yield path, irregular_type(path) or "a file"
        elif path != staging:
            yield from _irregular_in(path, allows_links=path.name in ("reports", "history"))
    yield from _irregular_in(root, allows_links=False)


def _irregular_in(folder: Path, *, allows_links: bool) -> Iterator[tuple[Path, str]]:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name.removesuffix(".tmp")
            is_link = entry.is_symlink() and (allows_links or name in _LINKS)
            if not entry.is_file(follow_symlinks=False) and not is_link and _is_ours(name):
                yield Path(entry.path), irregular_type(Path(entry.path)) or "no file"


def _is_ours(name: str) -> bool:
    """Whether the program would open or replace a file of this name in one of its folders."""
    plain = name.removeprefix(".").removesuffix(".torn")
    suffixes = (*DAY_FILE, ".json", ".html", ".msgpack")
    return name == ".lock" or plain in ("settings.jsonl", *_LINKS) or _day_of(plain, suffixes) is not None


def day_of_file(name: str) -> str | None:
    """The day that a file of ours is named for, compressed or not; None for any other name."""
    return _day_of(name, DAY_FILE)


def _days_in(path: Path, suffixes: Iterable[str]) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted({day for name in os.listdir(path) if (day := _day_of(name, suffixes))})
    return []


def _day_of(name: str, suffixes: Iterable[str]) -> str | None:
    day = name[:10]
    with suppress(ValueError):
        # fromisoformat also accepts week dates, which are as long.
        if name[10:] in suffixes and "0001-01-01" < date.fromisoformat(day).isoformat() == day < "9999-12-31":
            return day
    return None
