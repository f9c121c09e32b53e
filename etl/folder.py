"""The output folder read back: its layout, its days, its lines, the settings that govern them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from etl.records import Governed, Settings
from etl.wire import RejectedError, parse_settings

KINDS = ("raw", "averages", "events")
_DAY = re.compile(r"(\d{4}-\d\d-\d\d)\.jsonl(\.gz)?")
_REPORT = re.compile(r"(\d{4}-\d\d-\d\d)\.json")
_BLOCK = 1 << 20


class Folder:
    """Where everything stands below `root`. Reading a folder needs no lock and changes nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings_path = root / "settings.jsonl"
        self.reports_path = root / "reports"

    def path(self, kind: str, day: str) -> Path:
        """The plain file of a day, whether it exists or not."""
        return self.root / kind / f"{day}.jsonl"

    def report_path(self, day: str) -> Path:
        """The report of a day, whether it exists or not."""
        return self.reports_path / f"{day}.json"

    def days(self, kind: str) -> list[str]:
        """The days that have a file of this kind, oldest first; a missing folder has none."""
        return _names(self.root / kind, _DAY)

    def reports(self) -> list[str]:
        """The days that have a report, oldest first."""
        return _names(self.reports_path, _REPORT)

    def open(self, kind: str, day: str) -> IO[bytes]:
        """Open a day's file for reading, compressed or plain; where both stand, the plain one counts."""
        plain = self.path(kind, day)
        if plain.exists():
            return plain.open("rb")
        return cast(IO[bytes], gzip.open(plain.with_name(plain.name + ".gz"), "rb"))

    def lines(self, kind: str, day: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
        """The complete lines of a day with the offset of each, from a line's start at `offset` on."""
        with self.open(kind, day) as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield offset, line
                offset += len(line)

    def count(self, kind: str, day: str) -> int:
        """How many complete lines a day has; 0 without a file."""
        try:
            with self.open(kind, day) as file:
                return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
        except FileNotFoundError:
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


def _names(path: Path, pattern: re.Pattern[str]) -> list[str]:
    try:
        names = [entry.name for entry in path.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted({match[1] for name in names if (match := pattern.fullmatch(name))})
