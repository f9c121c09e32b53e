"""What becomes of closed days: compressed, and after `keep_days` deleted; never a day without its report."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import date, timedelta
from pathlib import Path

from etl.readings.records import Settings
from etl.storage.folder import KINDS, Folder
from etl.storage.log import sync_folder
from etl.storage.recover import oldest_needed

_BLOCK = 1 << 20
Still = Callable[[], AbstractContextManager[bool]]
"""Keeps everybody from writing to the folder for a moment; whether its files may be touched in it."""


def undisturbed() -> AbstractContextManager[bool]:
    """Nobody else writes to the folder."""
    return nullcontext(enter_result=True)


def compress(folder: Folder, stopping: Callable[[], bool], still: Still = undisturbed) -> list[str]:
    """Compress the files of every closed, reported day; the days done.

    A day's plain file is deleted only after its compressed form is durable: killed in between, both stand, the plain
    one counts, and the next night does it again.
    """
    done: list[str] = []
    for day in _reported(folder):
        plain = [path for kind in KINDS if (path := folder.path(kind, day)).exists()]
        for path in plain:
            if not _pack(path, stopping, still):
                return done
        if plain:
            done.append(day)
    return done


def _for_us(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)


def _pack(path: Path, stopping: Callable[[], bool], still: Still) -> bool:
    """Compress a file; False, with nothing changed, when it is to stop or the file is changed meanwhile."""
    packed = path.with_name(path.name + ".gz")
    aside = packed.with_name(f".{packed.name}.tmp")
    with path.open("rb") as source, open(aside, "wb", opener=_for_us) as target:
        before = os.fstat(source.fileno())
        # The name and the time of packing stay out of the file: the same day packs to the same bytes.
        with gzip.GzipFile("", "wb", 6, target, 0) as zipped:
            while not stopping() and (block := source.read(_BLOCK)):
                zipped.write(block)
        target.flush()
        os.fsync(target.fileno())
    with still() as may:
        now = path.stat()
        if not may or stopping() or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            aside.unlink()
            return False
        aside.replace(packed)
        sync_folder(packed.parent)
        path.unlink()
    return True


def delete_old(
    folder: Folder, today: str, keep_days: int, otherwise: Settings, still: Still = undisturbed
) -> list[str]:
    """Delete what is older than `keep_days` days before `today`; the names of the files deleted.

    Averages and events go first, the raw log a day later, and not before no later averages line depends on it. Reports
    stay, and so does everything of a day without a report.
    """
    oldest = date.fromisoformat(today) - timedelta(days=keep_days)
    deleted: list[str] = []
    for day in _reported(folder):
        if day < oldest.isoformat():
            deleted += _delete(folder, "averages", day, still) + _delete(folder, "events", day, still)
    raw = set(folder.days("raw"))
    averages = [day for day in folder.days("averages") if day in raw]
    for day in _reported(folder):
        if day < (oldest - timedelta(days=1)).isoformat() and averages and day < averages[0]:
            if day >= oldest_needed(folder, averages[0], otherwise):
                break
            deleted += _delete(folder, "raw", day, still)
    return deleted


def _reported(folder: Folder) -> list[str]:
    """The days that have a report and a later day after them in the raw log, oldest first."""
    reports = set(folder.reports())
    return [day for day in folder.days("raw")[:-1] if day in reports]


def _delete(folder: Folder, kind: str, day: str, still: Still) -> list[str]:
    deleted = []
    plain = folder.path(kind, day)
    with still() as may:
        for path in (plain, folder.packed_path(kind, day), plain.with_name(plain.name + ".torn")):
            if may and path.exists():
                path.unlink()
                deleted.append(str(path.relative_to(folder.root)))
    return deleted
