"""Whether lines are written to the output folder, and what prevents it, as a process sees it that only reads."""

import os
from pathlib import Path
from typing import Any

from etl.readings.times import rfc3339
from etl.storage.appender import MAX_WRITE_BYTES
from etl.storage.folder import Folder
from etl.storage.latest import last_reading_at, newest_event
from etl.storage.lock import held_since

FULL_BYTES = MAX_WRITE_BYTES
"""With less space a disk counts as full: the appender frees again what a rejected write has filled, up to a write."""
UNKNOWN_AFTER_S = 3.0
"""Without a line for a shorter time nothing is said where no cause is seen: a start or a busy machine takes that."""


def not_written(
    folder: Folder, now: float, patience_s: float, running: bool, is_expected: bool
) -> dict[str, Any] | None:
    """Why no line is written, and since when; None if all is well, as far as the folder shows.

    While a process is `running`, it has a problem only if it wrote neither a reading nor an event for `patience_s`:
    root, for example, may fill more than is free for others. Where the file system has space, that alone is a problem
    ("unknown") if lines are expected: a quota does not show otherwise. No event says any of this, as none can be
    written; `since` is when the last line was written, or the process started.
    """
    problem, free_bytes = obstacle(folder.root)
    if not running:
        return {"problem": problem, "free_bytes": free_bytes, "since": None} if problem else None
    event_at, event = newest_event(folder) or (0.0, "")
    since = max(last_reading_at(folder) or 0.0, event_at, held_since(folder.root) or 0.0)
    if problem is None:
        if not is_expected or event in ("", "stop"):  # not `etl run` but, for example, a rebuild holds the folder
            return None
        problem, patience_s = "unknown", max(patience_s, UNKNOWN_AFTER_S)
    return {"problem": problem, "free_bytes": free_bytes, "since": rfc3339(since)} if now - since > patience_s else None


def obstacle(root: Path) -> tuple[str | None, int]:
    """Why the file system of an output folder takes no lines, as far as it shows; and its free bytes.

    "read_only", "full", "no_inodes" or None; free are the bytes that users other than root may fill.
    """
    raw = root / "raw"
    disk = os.statvfs(raw if raw.is_dir() else root)
    free_bytes = disk.f_bavail * disk.f_frsize
    if disk.f_flag & os.ST_RDONLY:
        return "read_only", free_bytes
    if free_bytes < FULL_BYTES:
        return "full", free_bytes
    return "no_inodes" if disk.f_files and not disk.f_favail else None, free_bytes
