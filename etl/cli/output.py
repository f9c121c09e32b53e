"""The output folder, locked for this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.cli.exits import CANNOT_CREATE, ExitError
from etl.config.load import Loaded
from etl.storage.lock import renew_lock, take_lock

SUBFOLDERS = ("raw", "averages", "events", "reports")


def output_root(loaded: Loaded) -> Path:
    """The output folder of a config."""
    return loaded.path(loaded.config.output.folder)


@contextmanager
def locked(root: Path) -> Iterator[Callable[[], None]]:
    """Lock an output folder and create its subfolders.

    Yields a function that takes the lock again if the folder was deleted and recreated; call it periodically.

    Raises:
        HeldError: another process holds the folder, now or when the lock is taken again.
        ExitError: it cannot be created or written.

    """
    try:
        lock = take_lock(root)
    except OSError as error:
        raise ExitError(
            f"{root} cannot be created or written: {error.strerror}. Check output.folder and its owner.", CANNOT_CREATE
        ) from None

    def renew() -> None:
        nonlocal lock
        with suppress(OSError):
            lock = renew_lock(root, lock)

    try:
        for folder in [root / kind for kind in SUBFOLDERS]:
            with suppress(OSError):
                folder.mkdir(exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ExitError(f"{folder} cannot be written. Check its owner and mode.", CANNOT_CREATE)
        yield renew
    finally:
        os.close(lock)
