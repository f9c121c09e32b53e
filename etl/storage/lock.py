"""The output folder's lock: one process writes to a folder at a time."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from etl.storage.atomic import is_same_file, open_regular

RETRIES = 2
RETRY_S = 0.1
"""`etl report` and `etl status` take the lock for an instant to see whether it is free: a start waits for them."""


class HeldError(Exception):
    """Another process holds the output folder."""


def take_lock(root: Path) -> int:
    """Lock the output folder until the returned descriptor is closed; HeldError if another process holds it."""
    root.mkdir(parents=True, exist_ok=True)
    fd = open_regular(root / ".lock", os.O_RDWR | os.O_CREAT)
    for retries in range(RETRIES, -1, -1):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not retries:
                pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                raise HeldError(f"{root} is held by process {pid}") from None
            time.sleep(RETRY_S)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def renew_lock(root: Path, fd: int) -> int:
    """Take the lock again if the folder was deleted and recreated; the descriptor that holds it from now on."""
    if is_same_file(fd, root / ".lock"):
        return fd
    renewed = take_lock(root)
    os.close(fd)
    return renewed


def held_since(root: Path) -> float | None:
    """When a process took the lock the last time (seconds since the epoch), held or not; None if none did."""
    with suppress(OSError):
        return (root / ".lock").stat().st_mtime
    return None


def is_held(root: Path) -> bool:
    """Whether a process holds the folder."""
    try:
        with open(root / ".lock", "rb", opener=open_regular) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
