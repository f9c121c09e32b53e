"""Recorded readings through the same steps as live ones: whole days, built aside and renamed at the end."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from etl.audit.recording import Damage, Recording
from etl.readings.records import Settings, SettingsEntry
from etl.storage.atomic import link, sync_folder
from etl.storage.derivation import Derivation
from etl.storage.folder import Folder
from etl.storage.places import Place
from etl.storage.settings_log import SettingsLog

HELD = 8 << 20
"""Bytes of lines that wait in memory to be written aside, about."""
RUN = 1000
"""Lines written at once."""


class RefusedError(Exception):
    """The folder has other readings where the recorded ones would go; nothing was changed."""


class Replayed(NamedTuple):
    """What a replay did: readings it read, days it added, days that stood already."""

    lines: int
    added: list[str]
    left: list[str]


def replay(
    folder: Folder,
    recording: Recording,
    files: Iterable[Path],
    settings: Settings,
    damaged: Callable[[Damage], None],
    watch: Callable[[int], None],
) -> Replayed:
    """Add the days of recorded readings to a folder this process holds; whole or not at all, while it is not killed.

    `damaged` is told each line that is no reading, `watch` the bytes of raw lines whose averages were derived.

    Raises:
        RefusedError: a day stands already with other bytes, or would lie before the folder's newest.
        OSError: a file cannot be read, or the folder cannot be written.

    """
    aside = folder.root / ".replay"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        built = Folder(aside)
        lines = _write_raw(built, recording, files, damaged)
        left = [day for day in built.days("raw") if _stands(folder, built, day)]
        added = [day for day in built.days("raw") if day not in left]
        _refuse_past(folder, added)
        if added:
            settings_log = SettingsLog(folder, settings)
            entry = settings_log.entry_for(settings, added[0], 1)
            _write_averages(SettingsLog(folder, settings, [entry] if entry else []), built, added, watch)
            _take_over(settings_log, built, added, entry)
        return Replayed(lines, added, left)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_raw(built: Folder, recording: Recording, files: Iterable[Path], damaged: Callable[[Damage], None]) -> int:
    """Sort the lines into the files of their days; how many there are."""
    (built.root / "raw").mkdir(parents=True)
    waiting: dict[str, list[bytes]] = {}
    held = lines = 0
    for file in files:
        for found in recording.read(file):
            if isinstance(found, Damage):
                damaged(found)
                continue
            waiting.setdefault(found.day, []).append(found.data)
            lines += len(found.machines)
            held += len(found.data)
            if held > HELD:
                _append(built, waiting)
                held = 0
    _append(built, waiting)
    return lines


def _append(built: Folder, waiting: dict[str, list[bytes]]) -> None:
    for day, runs in waiting.items():
        with open(built.path("raw", day), "ab", opener=_for_us) as file:
            file.writelines(run if run.endswith(b"\n") else run + b"\n" for run in runs)
    waiting.clear()


def _for_us(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o640)


def _stands(folder: Folder, built: Folder, day: str) -> bool:
    """Whether the folder has this day already, with the same bytes.

    Raises:
        RefusedError: it has the day with other bytes.

    """
    if day not in folder.days("raw"):
        return False
    if all(there == here for there, here in zip_longest(folder.blocks("raw", day), built.blocks("raw", day))):
        return True
    raise RefusedError(f"{folder.root} has other readings of {day}")


def _refuse_past(folder: Folder, added: list[str]) -> None:
    newest = folder.newest_day("raw")
    if added and added[0] < newest:
        raise RefusedError(f"{added[0]} lies before {newest}, the newest day of {folder.root}")


def _write_averages(settings_log: SettingsLog, built: Folder, days: list[str], watch: Callable[[int], None]) -> None:
    """Derive the averages of the days aside, going on from the windows the folder ends with."""
    (built.root / "averages").mkdir()
    derivation = Derivation(settings_log, Place(days[0], 1, 0))
    for day in days:
        with built.open("raw", day) as raw, open(built.path("averages", day), "wb", opener=_for_us) as averages:
            lines = derivation.fold(day, raw)
            while run := list(islice(lines, RUN)):
                averages.write(b"".join(run))
                watch(sum(map(len, run)))


def _take_over(settings_log: SettingsLog, built: Folder, days: list[str], entry: SettingsEntry | None) -> None:
    """Rename what was built into its place: the settings first, then day by day, the raw log of each first.

    The averages of a day that a kill leaves without them are derived by the next start.
    """
    folder = settings_log.folder
    for kind in ("averages", "raw"):
        for day in days:
            _make_durable(built.path(kind, day))
        (folder.root / kind).mkdir(exist_ok=True)
    with _uninterrupted():
        if entry:
            settings_log.append(entry)
        for day in days:
            for kind in ("raw", "averages"):
                built.path(kind, day).replace(folder.path(kind, day))
        for kind in ("raw", "averages"):
            sync_folder(folder.root / kind)
    for kind in ("averages", "raw"):
        with suppress(OSError):
            link(folder.root / f"{kind}.jsonl", f"{kind}/{days[-1]}.jsonl")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Take Ctrl-C and SIGTERM after all days stand: it is a moment, and half of them would be worse.

    Blocking the signals would not do: another thread, such as the progress bar's, could still take them.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _make_durable(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
