"""Recorded readings imported through the same steps as live ones: days are added completely or not at all."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import NamedTuple

from etl.audit.recording.files import Recording, Rejection
from etl.readings.alarms.fold import alarm_line
from etl.storage.folder import DAMAGED_GZIP, Folder, Progress
from etl.storage.recovery.alarms import derivation_from, derive_missing_alarms, has_alarms
from etl.storage.recovery.start import derive_missing
from etl.storage.settings_log import SettingsLog
from etl.storage.staging import append, move_into_place, staging

MAX_PENDING_BYTES = 8 << 20
"""Bytes of raw lines kept in memory, about, before they are appended to the files of their days: a recording may switch
between days with each line."""
LINES_PER_WRITE = 1000
"""Averages lines per write: one write and one progress report for each line would cost more than deriving it."""


class RefusedError(Exception):
    """The folder has other readings in the place of the recorded ones; nothing was changed."""


class Replayed(NamedTuple):
    """The result of a replay: the number of readings read, the days added, the days that were present already."""

    readings: int
    added: list[str]
    present: list[str]


def replay(
    settings_log: SettingsLog,
    recording: Recording,
    files: Iterable[Path],
    reject: Callable[[Rejection], None],
    progress: Progress,
) -> Replayed:
    """Add the days of recorded readings to the folder, under the default settings of `settings_log`.

    The caller holds the folder's lock. `reject` is called with each line that is not a reading, `progress` with the
    bytes of averages lines written since its last call. Unless the process is killed, all days are added or none.

    Raises:
        RefusedError: a day exists already with other bytes, or lies before the folder's newest day.
        OSError: a file cannot be read, or the folder cannot be written.

    """
    folder, settings = settings_log.folder, settings_log.default
    with staging(folder) as staged:
        readings = _write_raw(staged, recording, files, reject)
        days = staged.days("raw")
        present = [day for day in days if _is_present(folder, staged, day)]
        added = [day for day in days if day not in present]
        if added:
            newest = folder.newest_day("raw")
            if added[0] < newest:
                raise RefusedError(
                    f"{added[0]} lies before {newest}, the earliest day that can be added to {folder.root}"
                )
            entry = settings_log.entry_for(settings, added[0], 1)
            _write_derived(SettingsLog(folder, settings, [entry] if entry else []), staged, added, progress)
            move_into_place(settings_log, staged, added, entry)
        # A replay that was killed between two renames left a day without averages.
        written = SettingsLog(folder, settings)
        derive_missing(written, present, lambda *_, **__: None)
        if has_alarms(written):
            derive_missing_alarms(written, present, lambda *_, **__: None)
        return Replayed(readings, added, present)


def _write_raw(staged: Folder, recording: Recording, files: Iterable[Path], reject: Callable[[Rejection], None]) -> int:
    """Sort the raw lines into the files of their days; the number of readings."""
    pending: dict[str, list[bytes]] = {}
    pending_bytes = readings = 0
    for item in chain.from_iterable(map(recording.read, files)):
        if isinstance(item, Rejection):
            reject(item)
            continue
        pending.setdefault(item.day, []).append(item.data)
        readings += item.readings
        pending_bytes += len(item.data)
        if pending_bytes > MAX_PENDING_BYTES:
            _append_raw(staged, pending)
            pending, pending_bytes = {}, 0
    _append_raw(staged, pending)
    return readings


def _append_raw(staged: Folder, pending: dict[str, list[bytes]]) -> None:
    for day, blocks in pending.items():
        append(staged, "raw", day, blocks)


def _is_present(folder: Folder, staged: Folder, day: str) -> bool:
    """Whether the folder has this day already with the same bytes; raises RefusedError if it has others."""
    if day not in folder.days("raw"):
        return False
    try:
        if all(stored == block for stored, block in zip_longest(folder.blocks("raw", day), staged.blocks("raw", day))):
            return True
    except DAMAGED_GZIP as error:
        raise RefusedError(f"{folder.packed_path('raw', day)} is damaged: {error}") from None
    raise RefusedError(f"{folder.root} has other readings of {day}")


def _write_derived(settings_log: SettingsLog, staged: Folder, days: list[str], progress: Progress) -> None:
    """Derive averages and alarms of the staged days, starting with the state at the end of the folder's raw log."""
    derivation = derivation_from(settings_log, days[0])
    for day in days:
        with staged.open("raw", day) as raw:
            append(staged, "averages", day, _blocks(derivation.fold(day, raw), progress))
        if derivation.has_alarms or derivation.changes:
            append(staged, "alarms", day, map(alarm_line, derivation.changes))


def _blocks(lines: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    while block := b"".join(islice(lines, LINES_PER_WRITE)):
        progress(len(block))
        yield block
