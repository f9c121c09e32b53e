"""What a crash or a power cut left: torn ends and damaged lines moved to `*.torn`, unfinished files removed.

A power cut may leave zeros, or an earlier end, wherever a page of a file was not durable, also between sound lines.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from etl.readings.answers import parse
from etl.readings.blocks import block_decoder
from etl.readings.lines import parse_settings, raw_decoder, settings_line
from etl.readings.records import RejectedError
from etl.storage.atomic import append_whole, open_regular, read_regular, sync, temporary_path, write_temporary
from etl.storage.folder import KINDS, READ_BYTES, Folder
from etl.storage.places import blocks_backwards, line_start, nth_place, place_at

Record = Callable[..., object]
"""Records an event: record("repaired", reason="torn", file=...)."""
DELAYED_BYTES = 16 << 20
"""Bytes at the end of a file that may not be durable if it is fsynced later: 10 seconds of 10,000 machines are 3 MB."""


class _Damage(NamedTuple):
    """A damaged line with its line feed, and its offset in the file."""

    offset: int
    line: bytes


def repair_files(folder: Folder, record: Record, checked_bytes: int, newest: int | None = None) -> list[Path]:
    """Repair the files of all days, or the `newest` ones of each kind, and settings.jsonl; the files that changed.

    Torn ends, and damaged lines in the last `checked_bytes` of a file, are moved to `*.torn`. Averages are cut where
    the first line is damaged or follows from a line that was moved, a file of alarms with damage is removed: they
    are derived again.
    """
    _complete_removal(folder)
    days = [(kind, day) for kind in KINDS for day in folder.days(kind)[-(newest or 0) :]]
    repaired = [folder.path(*day) for day in days if _repair_day(folder, *day, record, checked_bytes)]
    return repaired + [folder.settings_path] * _repair_end(folder, folder.settings_path, record)


def _repair_day(folder: Folder, kind: str, day: str, record: Record, checked_bytes: int) -> bool:
    path = folder.path(kind, day)
    changed = _repair_end(folder, path, record)
    damages = list(_damages(path, kind, checked_bytes))
    if kind == "alarms" and (changed or damages):
        # What is raised depends on each line of the day, so that all of them are derived again.
        if damages:
            _keep(path, b"".join(damage.line for damage in damages))
        path.unlink()
        sync(path.parent)
        return True
    if not damages:
        return changed
    if kind == "averages":
        _cut(path, damages[0].offset)
    else:
        _keep(path, b"".join(damage.line for damage in damages))
        entries = None
        if kind == "raw":
            first = place_at(folder, day, damages[0].offset).line
            _cut(folder.path("averages", day), nth_place(folder, day, first, "averages").offset)
            entries = _moved_entries(folder, day, damages)
        _remove(folder, path, damages, entries)
    removed = sum(len(damage.line) for damage in damages)
    record("repaired", reason="damaged", file=_name(folder, path), lines=len(damages), bytes=removed)
    return True


def _repair_end(folder: Folder, path: Path, record: Record) -> bool:
    cut = repair(path, raw_decoder(()) if path.parent.name == "raw" else parse)
    if cut:
        record("repaired", reason="torn", file=_name(folder, path), bytes=cut)
    return bool(cut)


def _name(folder: Folder, path: Path) -> str:
    return str(path.relative_to(folder.root))


def repair(path: Path, decode: Callable[[bytes], Any] = parse) -> int:
    """Move the torn or damaged end of a file of lines to `*.torn`; how many bytes were moved.

    `decode` raises RejectedError for a damaged line. After a kill the next repair does not keep the end twice.
    """
    with suppress(FileNotFoundError), open(path, "r+b", 0, opener=open_regular) as file:
        size = os.fstat(file.fileno()).st_size
        end = _sound_end(file, size, decode)
        if end < size:
            file.seek(end)
            _keep(path, file.read())
            file.truncate(end)
            os.fsync(file.fileno())
        return size - end
    return 0


def torn_files(root: Path) -> list[tuple[Path, int]]:
    """The `*.torn` files of an output folder, each with its size in bytes."""
    paths = sorted(path for kind in (".", *KINDS) for path in (root / kind).glob("*.torn"))
    return [(path, path.stat().st_size) for path in paths]


def _sound_end(file: IO[bytes], size: int, decode: Callable[[bytes], Any]) -> int:
    """The offset after the last sound line."""
    for offset, lines in blocks_backwards(file, 0, size):
        starts = accumulate((len(line) + 1 for line in lines), initial=offset)
        for start, line in reversed(list(zip(starts, lines, strict=False))):
            with suppress(RejectedError):
                decode(line)
                return start + len(line) + 1
    return 0


def _damages(path: Path, kind: str, checked_bytes: int) -> Iterator[_Damage]:
    """The damaged lines among the last `checked_bytes` of a day file, in order."""
    with suppress(FileNotFoundError), open(path, "rb", opener=open_regular) as file:
        offset = line_start(file, file.seek(0, os.SEEK_END) - checked_bytes)
        file.seek(offset)
        while block := file.read(READ_BYTES):
            block += file.readline()
            if b"\0" in block or _has_damage(kind, block):
                for start, line in _lines(offset, block):
                    if b"\0" in line or _has_damage(kind, line):
                        yield _Damage(start, line)
            offset += len(block)


def _lines(offset: int, block: bytes) -> Iterator[tuple[int, bytes]]:
    for text in block.split(b"\n")[:-1]:
        yield offset, text + b"\n"
        offset += len(text) + 1


_decode_raw = block_decoder(())


def _has_damage(kind: str, lines: bytes) -> bool:
    """Whether one of these lines is damaged. What is not sound in averages differs from the derived line anyway."""
    if kind == "raw":
        return None in _decode_raw(lines).sources
    if kind == "averages":
        return False
    try:
        for line in lines.split(b"\n")[:-1]:
            parse(line)
    except RejectedError:
        return True
    return False


def _keep(path: Path, lines: bytes) -> None:
    """Append lines that are removed from a file to its `*.torn`, unless a killed repair did so before."""
    torn = path.with_name(path.name + ".torn")
    with suppress(FileNotFoundError):
        if read_regular(torn).endswith(lines if lines.endswith(b"\n") else lines + b"\n"):
            return
    append_whole(torn, lines if lines.endswith(b"\n") else lines + b"\n")


def _cut(path: Path, size: int) -> None:
    with suppress(FileNotFoundError), open(path, "r+b", 0, opener=open_regular) as file:
        if os.fstat(file.fileno()).st_size > size:
            file.truncate(size)
            os.fsync(file.fileno())


def _remove(folder: Folder, path: Path, damages: list[_Damage], settings: bytes | None) -> None:
    """Write a file without its damaged lines, and `settings` as settings.jsonl, both or neither.

    Two files cannot be renamed at once: `_complete_removal` renames the second one after a kill between the two.
    """
    write_temporary(path, _without(path, damages))
    sync(path.parent)
    if settings is not None:
        write_temporary(folder.settings_path, [settings])
        sync(folder.root)
    temporary_path(path).replace(path)
    sync(path.parent)
    if settings is not None:
        temporary_path(folder.settings_path).replace(folder.settings_path)
        sync(folder.root)


def _without(path: Path, damages: list[_Damage]) -> Iterator[bytes]:
    with open(path, "rb", opener=open_regular) as file:
        for damage in damages:
            while file.tell() < damage.offset:
                yield file.read(min(READ_BYTES, damage.offset - file.tell()))
            file.seek(damage.offset + len(damage.line))
        while block := file.read(READ_BYTES):
            yield block


def _complete_removal(folder: Folder) -> None:
    """Rename settings.jsonl as `_remove` left it; if the raw log was not renamed before it, discard both files."""
    settings = temporary_path(folder.settings_path)
    if settings.exists():
        if any((folder.root / "raw").glob(".*.jsonl.tmp")):
            settings.unlink()
        else:
            settings.replace(folder.settings_path)
        sync(folder.root)


def _lost_lines(folder: Folder, day: str, damages: list[_Damage]) -> list[tuple[int, int]]:
    """Of each damage to a raw log, the number that its first line had, and how many lines it was.

    Zeros also replace line feeds: how many lines they were is estimated from the mean length of the others.
    """
    size = folder.path("raw", day).stat().st_size - sum(len(damage.line) for damage in damages)
    mean = max(1.0, size / max(1, folder.count("raw", day) - len(damages)))
    lost: list[tuple[int, int]] = []
    for damage in damages:
        number = place_at(folder, day, damage.offset).line + sum(lines - 1 for _, lines in lost)
        lost.append((number, max(1, round(len(damage.line) / mean)) if b"\0" in damage.line else 1))
    return lost


def _moved_entries(folder: Folder, day: str, damages: list[_Damage]) -> bytes | None:
    """The bytes of settings.jsonl once the damaged lines of a day are removed; None if no entry moves."""
    lost = _lost_lines(folder, day, damages)
    lines = []
    with suppress(FileNotFoundError):
        for line in read_regular(folder.settings_path).splitlines(keepends=True):
            lines.append(line)
            with suppress(RejectedError):
                entry = parse_settings(line)
                removed = sum(min(count, max(0, entry.line - number)) for number, count in lost)
                if entry.day == day and removed:
                    lines[-1] = settings_line(msgspec.structs.replace(entry, line=entry.line - removed))
        if b"".join(lines) != read_regular(folder.settings_path):
            return b"".join(lines)
    return None


def remove_leftovers(root: Path) -> None:
    """Remove the unfinished files of a killed process. The caller holds the folder's lock, and writes nothing yet."""
    _complete_removal(Folder(root))
    shutil.rmtree(root / ".replay", ignore_errors=True)
    for pattern in ("*.jsonl.tmp", *(f"{kind}/.*.tmp" for kind in KINDS)):
        for path in root.glob(pattern):
            path.unlink()
