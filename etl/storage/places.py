"""Places in the raw log: lines found by number or offset, and blocks of lines read backwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from etl.storage.folder import Folder

READ_BYTES = 64 << 10
"""Bytes read at once: larger blocks, read at each start and disturbance, fragment the heap of a process that lives for
months."""


class Place(NamedTuple):
    """A line of a log: its day, its number in the day (counted from 1), its byte offset in the day file."""

    day: str
    line: int
    offset: int


def place_at(folder: Folder, day: str, offset: int) -> Place:
    """The first raw line that starts at or after an offset; fast near the end of the file."""
    with folder.open_anywhere("raw", day) as file:
        file.seek(max(0, offset - 1))
        rest = file.readline() if offset else b""
        start = offset if not rest or rest == b"\n" else offset - 1 + len(rest)
        file.seek(start)
        following = sum(block.count(b"\n") for block in iter(lambda: file.read(READ_BYTES), b""))
    return Place(day, folder.count("raw", day) - following + 1, start)


def nth_place(folder: Folder, day: str, number: int, kind: str = "raw") -> Place:
    """A day's line by its number; where the day has fewer lines, the end of its last complete one.

    Fast near both ends of the file.
    """
    if number <= 1:
        return Place(day, 1, 0)
    lines = folder.count(kind, day)
    with folder.open_anywhere(kind, day) as file:
        end = file.seek(0, os.SEEK_END)
        feeds_left = lines - min(number, lines + 1) + 2
        while True:
            start = max(0, end - READ_BYTES)
            file.seek(start)
            block = file.read(end - start)
            feeds = block.count(b"\n")
            if feeds >= feeds_left or not start:
                break
            feeds_left -= feeds
            end = start
    position = len(block)
    for _ in range(feeds_left):
        position = block.rindex(b"\n", 0, position)
    return Place(day, min(number, lines + 1), start + position + 1)


def blocks_before(folder: Folder, place: Place, first: tuple[str, int] = ("", 1)) -> Iterator[tuple[str, list[bytes]]]:
    """Blocks of raw lines before a place, newest block first, each with its day; none before the line `first`.

    `first` is (day, line). The lines of a block are in the order of the file and have no line feed.
    """
    for day in reversed([day for day in folder.days("raw") if first[0] <= day <= place.day]):
        start = nth_place(folder, day, first[1]).offset if day == first[0] else 0
        with folder.open_anywhere("raw", day) as file:
            end = place.offset if day == place.day else file.seek(0, os.SEEK_END)
            partial = b""
            while end > start:
                begin = max(start, end - READ_BYTES)
                file.seek(begin)
                lines = (file.read(end - begin) + partial).split(b"\n")[:-1]
                partial = lines.pop(0) + b"\n" if begin > start and lines else b""
                yield day, lines
                end = begin
