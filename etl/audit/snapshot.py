"""How far the folder reached when a check began, so that a running process cannot make the check see half a write."""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from etl.storage.folder import Folder


class Snapshot(NamedTuple):
    """The days with a report, the size in bytes of each day's averages, alarms and raw log, and whether a process ran.

    A compressed file has the size sys.maxsize: it is complete.
    """

    reports: list[str]
    averages: dict[str, int]
    alarms: dict[str, int]
    raw: dict[str, int]
    is_running: bool


def take_snapshot(folder: Folder, is_running: Callable[[Path], bool]) -> Snapshot:
    """List what is derived before what it follows from: reports, averages, alarms, and raw logs last."""
    was_running = is_running(folder.root)
    reports = folder.reports()
    averages, alarms, raw = (_sizes(folder, kind) for kind in ("averages", "alarms", "raw"))
    return Snapshot(reports, averages, alarms, raw, was_running or is_running(folder.root))


def _sizes(folder: Folder, kind: str) -> dict[str, int]:
    """The size of each day's file.

    The newest day is measured first, so that an older file has every line that was written before those of a newer one.
    """
    sizes: dict[str, int] = {}
    for day in reversed(folder.days(kind)):
        sizes[day] = sys.maxsize
        with suppress(FileNotFoundError):
            sizes[day] = folder.path(kind, day).stat().st_size
    return sizes
