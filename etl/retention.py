"""What becomes of closed days: compressed, and after `keep_days` deleted; never a day without its report."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from etl.folder import KINDS, Folder
from etl.log import sync_folder
from etl.records import Settings
from etl.recover import oldest_needed


def compress(folder: Folder, stopping: Callable[[], bool]) -> list[str]:
    """Compress the files of every closed, reported day; the days done.

    A day's plain file is deleted only after its compressed form is durable: killed in between, both stand, the plain
    one counts, and the next night does it again.
    """
    done: list[str] = []
    for day in _reported(folder):
        plain = [path for kind in KINDS if (path := folder.path(kind, day)).exists()]
        for path in plain:
            if stopping():
                return done
            _pack(path)
        if plain:
            done.append(day)
    return done


def _pack(path: Path) -> None:
    packed = path.with_name(path.name + ".gz")
    aside = packed.with_name(f".{packed.name}.tmp")
    with path.open("rb") as source, aside.open("wb") as target:
        # The name and the time of packing stay out of the file: the same day packs to the same bytes.
        with gzip.GzipFile("", "wb", 6, target, 0) as zipped:
            shutil.copyfileobj(source, zipped, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
    aside.replace(packed)
    sync_folder(packed.parent)
    path.unlink()


def delete_old(folder: Folder, today: str, keep_days: int, otherwise: Settings) -> list[str]:
    """Delete what is older than `keep_days` days before `today`; the names of the files deleted.

    Averages and events go first, the raw log a day later, and not before no later averages line depends on it. Reports
    stay, and so does everything of a day without a report.
    """
    oldest = date.fromisoformat(today) - timedelta(days=keep_days)
    deleted: list[str] = []
    for day in _reported(folder):
        if day < oldest.isoformat():
            deleted += _delete(folder, "averages", day) + _delete(folder, "events", day)
    averages = folder.days("averages")
    for day in _reported(folder):
        if day < (oldest - timedelta(days=1)).isoformat() and averages and day < averages[0]:
            if day >= oldest_needed(folder, averages[0], otherwise):
                break
            deleted += _delete(folder, "raw", day)
    return deleted


def _reported(folder: Folder) -> list[str]:
    """The days that have a report and a later day after them in the raw log, oldest first."""
    reports = set(folder.reports())
    return [day for day in folder.days("raw")[:-1] if day in reports]


def _delete(folder: Folder, kind: str, day: str) -> list[str]:
    deleted = []
    plain = folder.path(kind, day)
    for path in (plain, folder.packed_path(kind, day), plain.with_name(plain.name + ".torn")):
        if path.exists():
            path.unlink()
            deleted.append(str(path.relative_to(folder.root)))
    return deleted
