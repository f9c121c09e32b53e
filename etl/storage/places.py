"""Places in the logs: lines found by number or offset, and lines read backwards."""

import os
from collections.abc import Iterator
from typing import IO, NamedTuple

from etl.storage.folder import Folder

READ_BYTES = 64 << 10
"""Bytes read at once: larger blocks, read at each start and disturbance, fragment the heap of a process that lives for
months."""


class Place(NamedTuple):
    """A line of a log: its day, its number in the day (counted from 1), its byte offset in the day file."""

    day: str
    line: int
    offset: int


def line_start(file: IO[bytes], offset: int) -> int:
    """Where the first line that starts at or after an offset starts."""
    if offset <= 0:
        return 0
    file.seek(offset - 1)
    return offset - 1 + len(file.readline())


def place_at(folder: Folder, day: str, offset: int) -> Place:
    """The first raw line that starts at or after an offset; fast near the end of the file."""
    with folder.open_anywhere("raw", day) as file:
        start = line_start(file, offset)
        file.seek(start)
        following = sum(block.count(b"\n") for block in iter(lambda: file.read(READ_BYTES), b""))
    return Place(day, folder.count("raw", day) - following + 1, start)


def nth_place(folder: Folder, day: str, number: int, kind: str = "raw") -> Place:
    """A day's line by its number, or the end of its last complete line; fast near both ends of the file."""
    lines = folder.count(kind, day)
    number = min(number, lines + 1)
    if number > 1:
        behind = lines + 1 - number
        with folder.open_anywhere(kind, day) as file:
            for offset, block in blocks_backwards(file, 0, file.seek(0, os.SEEK_END)):
                if len(block) >= behind:
                    return Place(day, number, offset + sum(len(line) + 1 for line in block[: len(block) - behind]))
                behind -= len(block)
    return Place(day, 1, 0)


def blocks_backwards(file: IO[bytes], start: int, end: int) -> Iterator[tuple[int, list[bytes]]]:
    """Blocks of the complete lines between two offsets, newest block first, each with its offset.

    A line starts at `start`. The lines of a block are in the order of the file and have no line feed.
    """
    partial = b""
    while end > start:
        offset = max(start, end - READ_BYTES)
        file.seek(offset)
        *lines, _ = (file.read(end - offset) + partial).split(b"\n")
        partial = lines.pop(0) + b"\n" if offset > start and lines else b""
        if lines:
            yield offset + len(partial), lines
        end = offset


def blocks_before(folder: Folder, place: Place, first: tuple[str, int] = ("", 1)) -> Iterator[tuple[str, list[bytes]]]:
    """Blocks of raw lines before a place, newest first, each with its day; none before the line `first` (day, line)."""
    for day in reversed([day for day in folder.days("raw") if first[0] <= day <= place.day]):
        start = nth_place(folder, day, first[1]).offset if day == first[0] else 0
        with folder.open_anywhere("raw", day) as file:
            end = place.offset if day == place.day else file.seek(0, os.SEEK_END)
            for _, lines in blocks_backwards(file, start, end):
                yield day, lines


def last_lines(folder: Folder, kind: str, size: int) -> Iterator[bytes]:
    """The complete lines in the last `size` bytes of this kind over all days, newest first, without line feeds.

    A compressed file, which has to be unpacked, is read only if it is the newest one.
    """
    days = folder.days(kind)
    for day in reversed(days):
        if size <= 0 or (day != days[-1] and not folder.path(kind, day).exists()):
            return
        with folder.open_anywhere(kind, day) as file:
            end = file.seek(0, os.SEEK_END)
            for _, lines in blocks_backwards(file, line_start(file, end - size), end):
                yield from reversed(lines)
            size -= end
