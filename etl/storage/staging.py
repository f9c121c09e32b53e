"""Files built aside and moved into place: the days that a replay adds, the lines that a rebuild derives again."""

import os
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import zip_longest

from etl.readings.records import SettingsEntry
from etl.storage.atomic import link, open_regular, sync, temporary_path
from etl.storage.folder import DAMAGED_GZIP, Folder
from etl.storage.settings_log import SettingsLog

STAGED_KINDS = ("raw", "alarms", "averages")
"""In the order in which they are moved into place: who finds averages finds the alarms of the same lines."""


@contextmanager
def staging(folder: Folder) -> Iterator[Folder]:
    """Yield an empty hidden folder to build days in, on the same file system; it is deleted at the end."""
    root = folder.root / ".replay"
    shutil.rmtree(root, ignore_errors=True)
    try:
        for kind in STAGED_KINDS:
            (root / kind).mkdir(parents=True)
        yield Folder(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def append(staged: Folder, kind: str, day: str, blocks: Iterable[bytes]) -> None:
    """Append complete lines, in blocks, to a day file of the staging folder; not fsynced."""
    with open(staged.path(kind, day), "ab", opener=open_regular) as file:
        file.writelines(blocks)


def move_into_place(settings_log: SettingsLog, staged: Folder, days: list[str], entry: SettingsEntry | None) -> None:
    """Add staged days to the folder: the settings entry first, then day by day, the raw log of each first.

    Everything is durable before the first rename. After a kill between them the next start derives missing averages.
    """
    folder = settings_log.folder
    files = [(kind, day) for day in days for kind in STAGED_KINDS if staged.path(kind, day).exists()]
    for kind, day in files:
        sync(staged.path(kind, day))
        (folder.root / kind).mkdir(exist_ok=True)
    with _signals_deferred():
        if entry:
            settings_log.append(entry)
        for kind, day in files:
            # Fsynced each, so that a power cut keeps no day without the days before it.
            staged.path(kind, day).replace(folder.path(kind, day))
            sync(folder.root / kind)
    for kind, day in dict(files).items():
        with suppress(OSError):
            link(folder.root / f"{kind}.jsonl", f"{kind}/{day}.jsonl")


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Handle SIGINT and SIGTERM only after the block: the renames take an instant, and half of them would be worse.

    Blocking the signals would not be enough: another thread, such as the progress bar's, could still receive them.
    """
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda signum, _: received.append(signum))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def replace_lines(folder: Folder, kind: str, day: str, lines: Iterable[bytes]) -> bool:
    """Make a day's file of a kind equal to these lines, atomically; False if they are equal already.

    A compressed file that differs is replaced by a plain one. After an OSError the file is as it was.
    """
    path = folder.path(kind, day)
    temporary = temporary_path(path)
    path.parent.mkdir(exist_ok=True)
    try:
        with open(temporary, "w+b", opener=open_regular) as derived:
            derived.writelines(lines)
            derived.seek(0)
            if _has_lines(folder, kind, day, derived):
                return False
            os.fsync(derived.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    folder.packed_path(kind, day).unlink(missing_ok=True)
    return True


def _has_lines(folder: Folder, kind: str, day: str, lines: Iterable[bytes]) -> bool:
    try:
        with folder.open(kind, day) as file:
            return all(line == stored for line, stored in zip_longest(lines, file))
    except (FileNotFoundError, *DAMAGED_GZIP):
        return False
