"""Retention: closed days are compressed, and deleted after `keep_days`; never a day without its report."""

import gzip
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from etl.readings.days import days_before
from etl.storage.atomic import open_regular, sync, temporary_path
from etl.storage.folder import KINDS, Folder
from etl.storage.places import Place
from etl.storage.recovery.derivation import windows_before
from etl.storage.settings_log import SettingsLog

READ_BYTES = 1 << 20
COMPRESSION_LEVEL = 6

Pause = Callable[[], AbstractContextManager[bool]]
"""Pauses every writer to the folder; its value says whether files may be replaced or deleted meanwhile."""


def no_writers() -> AbstractContextManager[bool]:
    """For a folder that nobody writes to."""
    return nullcontext(enter_result=True)


def compress(folder: Folder, stopping: Callable[[], bool], pause: Pause = no_writers) -> list[str]:
    """Compress the files of every closed, reported day; returns the days done.

    After a kill both forms of a file may exist: the plain one counts, and the next night compresses it again.
    """
    compressed: list[str] = []
    for day in _reported(folder):
        plain = [path for kind in KINDS if (path := folder.path(kind, day)).exists()]
        for path in plain:
            if not _compress_file(path, stopping, pause):
                return compressed
        if plain:
            compressed.append(day)
    return compressed


def _compress_file(path: Path, stopping: Callable[[], bool], pause: Pause) -> bool:
    """Compress a file; False, with nothing changed, if the process is stopping or the file changed meanwhile."""
    packed = path.with_name(path.name + ".gz")
    temporary = temporary_path(packed)
    with open(path, "rb", opener=open_regular) as source, open(temporary, "wb", opener=open_regular) as target:
        before = os.fstat(source.fileno())
        # No name and no time in the gzip header: the same day compresses to the same bytes.
        with gzip.GzipFile("", "wb", COMPRESSION_LEVEL, target, 0) as packer:
            while not stopping() and (block := source.read(READ_BYTES)):
                packer.write(block)
        target.flush()
        os.fsync(target.fileno())
    with pause() as allowed:
        now = path.stat()
        if not allowed or stopping() or (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            temporary.unlink()
            return False
        temporary.replace(packed)
        sync(packed.parent)
        path.unlink()
    return True


def without_averages(folder: Folder, today: str, keep_days: int | None) -> set[str]:
    """The days that `delete_old` leaves without averages: reported, and older than `keep_days` days before `today`."""
    return set() if keep_days is None else {day for day in _reported(folder) if day < days_before(today, keep_days)}


def delete_old(settings_log: SettingsLog, today: str, keep_days: int, pause: Pause = no_writers) -> list[str]:
    """Delete files older than `keep_days` days before `today`; returns their names.

    Averages, alarms and events go first; the raw log a day later, and only when no later averages line depends on it.
    Reports are kept, and so are all files of a day without a report.
    """
    folder = settings_log.folder
    oldest = days_before(today, keep_days)
    deleted: list[str] = []
    for day in sorted(without_averages(folder, today, keep_days)):
        for kind in ("averages", "alarms", "events"):
            deleted += _delete(folder, kind, day, pause)
    raw = set(folder.days("raw"))
    averages = [day for day in folder.days("averages") if day in raw]
    for day in _reported(folder):
        if day < days_before(oldest, 1) and averages and day < averages[0]:
            if day >= _oldest_needed(settings_log, averages[0]):
                break
            deleted += _delete(folder, "raw", day, pause)
    return deleted


def _oldest_needed(settings_log: SettingsLog, day: str) -> str:
    """The oldest day of the raw log on which averages and alarms of this day and later ones depend."""
    oldest = windows_before(settings_log, Place(day, 1, 0))[1]
    if any(settings.alarms for settings in (settings_log.default, *(e.settings for e in settings_log.entries))):
        # A condition that held for an hour before the windows began follows from the windows of that hour.
        earlier = max((each for each in settings_log.folder.days("raw") if each < oldest), default=oldest)
        oldest = windows_before(settings_log, Place(earlier, 1, 0))[1]
    return oldest


def delete_histories(folder: Folder, keep: int) -> None:
    """Delete all but the newest histories."""
    for day in folder.histories()[:-keep]:
        folder.history_path(day).unlink(missing_ok=True)


def _reported(folder: Folder) -> list[str]:
    """The days that have a report and are followed by a later day in the raw log, oldest first."""
    reports = set(folder.reports())
    return [day for day in folder.days("raw")[:-1] if day in reports]


def _delete(folder: Folder, kind: str, day: str, pause: Pause) -> list[str]:
    deleted = []
    plain = folder.path(kind, day)
    with pause() as allowed:
        for path in (plain, folder.packed_path(kind, day), plain.with_name(plain.name + ".torn")):
            if allowed and path.exists():
                path.unlink()
                deleted.append(str(path.relative_to(folder.root)))
    return deleted
