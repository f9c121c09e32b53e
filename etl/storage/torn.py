"""Torn ends of files: a crash may leave a partial or damaged last line, which is cut off and kept in `*.torn`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from etl.readings.answers import parse
from etl.readings.lines import raw_decoder
from etl.readings.records import RejectedError
from etl.storage.atomic import append_whole
from etl.storage.folder import KINDS

READ_BYTES = 1 << 20
"""Bytes read at once while looking for the start of a line."""


def is_object(line: bytes) -> bool:
    """Whether a line is a JSON object."""
    try:
        parse(line)
    except RejectedError:
        return False
    return True


def is_raw(line: bytes) -> bool:
    """Whether a line is a raw line of ours."""
    try:
        raw_decoder(())(line)
    except RejectedError:
        return False
    return True


def repair(path: Path, is_sound: Callable[[bytes], bool] = is_object) -> int:
    """Cut the torn or damaged end off a file of lines and keep it in `*.torn`; how many bytes were cut.

    Killed in between, the next repair finishes the work without keeping the end twice.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        size = os.fstat(fd).st_size
        end = _sound_end(fd, size, is_sound)
        if end < size:
            _keep(path.with_name(path.name + ".torn"), os.pread(fd, size - end, end))
            os.ftruncate(fd, end)
            os.fsync(fd)
        return size - end
    finally:
        os.close(fd)


def torn_files(root: Path) -> list[tuple[Path, int]]:
    """The `*.torn` files of an output folder, each with its size in bytes."""
    paths = sorted(path for kind in (".", *KINDS) for path in (root / kind).glob("*.torn"))
    return [(path, path.stat().st_size) for path in paths]


def _sound_end(fd: int, size: int, is_sound: Callable[[bytes], bool]) -> int:
    """The offset after the last sound line."""
    end = size
    while end:
        start = _line_start(fd, end)
        line = os.pread(fd, end - start, start)
        if line.endswith(b"\n") and is_sound(line):
            break
        end = start
    return end


def _line_start(fd: int, end: int) -> int:
    """The offset of the line that ends at `end`, with or without its line feed."""
    block_end = end - 1
    while block_end > 0:
        start = max(0, block_end - READ_BYTES)
        feed = os.pread(fd, block_end - start, start).rfind(b"\n")
        if feed >= 0:
            return start + feed + 1
        block_end = start
    return 0


def _keep(path: Path, torn: bytes) -> None:
    try:
        if path.read_bytes().endswith(torn + b"\n"):
            return
    except FileNotFoundError:
        pass
    append_whole(path, torn if torn.endswith(b"\n") else torn + b"\n")
