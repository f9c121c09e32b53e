"""Averages and reports derived anew from the raw log, a day at a time, each file whole or as it was."""

from __future__ import annotations

import gzip
import os
import zlib
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from etl.folder import Folder
from etl.log import sync_folder
from etl.records import Settings
from etl.recover import Derivation, Tell, repair_ends
from etl.report import encode, make_report, write_report

BLOCK = 1 << 20
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a damaged compressed file raises."""


def rebuild(folder: Folder, otherwise: Settings, unreported: list[str], keep: bool, tell: Tell) -> Iterator[str]:
    """Make every file follow from the raw log again; a line for people about each file that was not as it should be.

    The caller holds the folder. Interrupted, each day is done or as it was; the next call does the others. `unreported`
    are the closed days without a report; with `keep` averages that output.keep_days has deleted stay deleted.

    Raises:
        OSError: a file cannot be written.

    """
    yield from _raw_log(folder, tell)
    yield from _averages(folder, otherwise, keep, tell)
    yield from _reports(folder, otherwise, unreported, tell)


def _raw_log(folder: Folder, tell: Tell) -> Iterator[str]:
    """Put the torn ends aside, as `etl run` does at its start, but of every day."""
    files: list[str] = []

    def told(event: str, *, file: str, **more: Any) -> None:
        files.append(file)
        tell(event, file=file, **more)

    repair_ends(folder, told)
    for file in files:
        yield f"{folder.root / file}: the torn end was cut off and is kept in {file}.torn"


def _averages(folder: Folder, otherwise: Settings, keep: bool, tell: Tell) -> Iterator[str]:
    derivation = Derivation(folder, otherwise)
    there = folder.days("averages")
    first = there[0] if keep and there else ""
    right = 0
    for day in folder.days("raw"):
        lines = derivation.day(day)
        try:
            if day < first:
                deque(lines, maxlen=0)
            elif _rewrite(folder, day, lines):
                path = folder.path("averages", day)
                tell("repaired", reason="averages", file=str(path.relative_to(folder.root)))
                yield f"{path}: derived anew"
            else:
                right += 1
        except _BROKEN as error:
            yield f"{folder.packed_path('raw', day)}: left alone with its averages, it cannot be read: {error}"
    yield f"{right} days of averages were right already"


def _rewrite(folder: Folder, day: str, lines: Iterator[bytes]) -> bool:
    """Make a day's averages equal to these lines; whether they were not."""
    path = folder.path("averages", day)
    aside = path.with_name(f".{path.name}.tmp")
    aside.unlink(missing_ok=True)
    same, rest = _agree(folder, day, lines)
    if rest is None:
        return False
    try:
        with open(_create(aside), "wb") as target:
            _copy(folder, day, same, target)
            target.writelines(rest)
            target.flush()
            os.fsync(target.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    folder.packed_path("averages", day).unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _agree(folder: Folder, day: str, lines: Iterator[bytes]) -> tuple[int, Iterator[bytes] | None]:
    """How many bytes of a day's averages are as they should be, and what must follow; None if nothing must change."""
    same = 0
    try:
        file = folder.open("averages", day)
    except FileNotFoundError:
        return 0, lines
    with file:
        for line in lines:
            if _next(file, len(line)) != line:
                return same, chain([line], lines)
            same += len(line)
        return same, iter(()) if _next(file, 1) else None


def _next(file: IO[bytes], most: int) -> bytes:
    """The next line of averages, or as much of it as matters; nothing where the file is damaged."""
    try:
        return file.readline(most)
    except _BROKEN:
        return b""


def _copy(folder: Folder, day: str, size: int, target: IO[bytes]) -> None:
    if size:
        with folder.open("averages", day) as file:
            while size:
                size -= target.write(file.read(min(size, BLOCK)))


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)


def _reports(folder: Folder, otherwise: Settings, unreported: list[str], tell: Tell) -> Iterator[str]:
    days, right = set(folder.days("raw")), 0
    for day in sorted(days & {*folder.reports(), *unreported}):
        path = folder.report_path(day)
        try:
            if _bytes(path) == encode(make_report(folder, day, otherwise)):
                right += 1
                continue
            write_report(folder, day, otherwise)
        except (*_BROKEN, KeyError, TypeError, ValueError) as error:
            yield f"{path}: cannot be made anew: {error}"
        else:
            tell("report", reason="made anew", day=day)
            yield f"{path}: made anew"
    yield f"{right} reports were right already"


def _bytes(path: Path) -> Any:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
