"""The output folder, locked for this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etl.cli.exits import CANNOT_CREATE, HELD, ExitError
from etl.config.load import Loaded
from etl.storage.lock import HeldError, renew_lock, take_lock

SUBFOLDERS = ("raw", "averages", "events", "reports")


def output_root(loaded: Loaded) -> Path:
    """The output folder of a config."""
    return loaded.path(loaded.config.output.folder)


@contextmanager
def locked(root: Path) -> Iterator[Callable[[], None]]:
    """Lock an output folder and create its subfolders.

    Yields a function that takes the lock again if the folder was deleted and recreated; call it periodically.

    Raises:
        ExitError: another process holds the folder, or it cannot be created or written.

    """
    try:
        lock = take_lock(root)
    except HeldError as error:
        raise _held(error) from None
    except OSError as error:
        raise ExitError(
            f"{root} cannot be created or written: {error.strerror}. Check output.folder and its owner.", CANNOT_CREATE
        ) from None

    def renew() -> None:
        nonlocal lock
        with suppress(OSError):
            lock = renew_lock(root, lock)

    try:
        _create_subfolders(root)
        yield renew
    except HeldError as error:
        raise _held(error) from None
    finally:
        os.close(lock)


def _create_subfolders(root: Path) -> None:
    for kind in SUBFOLDERS:
        with suppress(OSError):
            (root / kind).mkdir(exist_ok=True)
        if not os.access(root / kind, os.W_OK | os.X_OK):
            raise ExitError(f"{root / kind} cannot be written. Check its owner and mode.", CANNOT_CREATE)


def _held(error: HeldError) -> ExitError:
    return ExitError(f"{error}. Stop that process first, or set another output.folder.", HELD)
