"""Recovery: the end of the folder repaired and made consistent, at start and after a disturbance.

A crash may leave a partial or damaged last line, which is cut off and kept in `*.torn`.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import accumulate, chain
from pathlib import Path
from typing import IO, Any

from etl.readings.answers import parse
from etl.readings.fold import Windows
from etl.readings.lines import raw_decoder
from etl.readings.records import RejectedError, Settings
from etl.storage.atomic import append_whole, open_regular, read_regular, sync
from etl.storage.derivation import Derivation
from etl.storage.folder import KINDS, Folder
from etl.storage.places import Place, blocks_backwards, nth_place, place_at
from etl.storage.settings_log import SettingsLog, shape

TAIL_BYTES = 1 << 20
"""Bytes of the raw log's end whose averages every start derives again."""

Record = Callable[..., None]
"""Records an event: record("repaired", reason="torn", file=...)."""


def recover(folder: Folder, settings: Settings, today: str, record: Record) -> Windows:
    """Repair the end of the folder and write down the settings; the windows to go on with from day `today` on.

    After an OSError it is safe to try again later.
    """
    repair_ends(folder, record, 2)
    write_settings(folder, settings, today, record)
    days = folder.days("raw")
    for day in folder.days("averages"):
        if day >= max([today, *days[-1:]]) and day not in days:
            _rewrite_end(folder, day, 1, iter(()), record)
    if not days:
        return {}
    settings_log = SettingsLog(folder, settings)
    windows = _derive_from(settings_log, _tail(folder, days), record)
    last = settings_log.at(days[-1], folder.count("raw", days[-1]))
    return windows if shape(last) == shape(settings) else {}


def repair_ends(folder: Folder, record: Record, newest: int | None = None) -> list[Path]:
    """Cut torn ends off all files, or the `newest` ones of each kind, and keep them in `*.torn`; the files cut."""
    repaired = []
    paths = [folder.path(kind, day) for kind in KINDS for day in folder.days(kind)[-(newest or 0) :]]
    for path in [*paths, folder.settings_path]:
        if cut := repair(path, raw_decoder(()) if path.parent.name == "raw" else parse):
            record("repaired", reason="torn", file=str(path.relative_to(folder.root)), bytes=cut)
            repaired.append(path)
    return repaired


def write_settings(folder: Folder, settings: Settings, today: str, record: Record) -> None:
    """Write changed settings down before the first line they govern: the next one of `today`."""
    day = max([today, *folder.days("raw")[-1:]])
    settings_log = SettingsLog(folder, settings)
    is_change = bool(settings_log.entries)
    if entry := settings_log.entry_for(settings, day, folder.count("raw", day) + 1):
        settings_log.append(entry)
        if is_change:
            record("settings", reason="changed", day=day, line=entry.line)


def _tail(folder: Folder, days: list[str]) -> Place:
    """The start of the raw log's last TAIL_BYTES, or its first line without an averages line if that is earlier.

    Days before the oldest averages file were deleted on purpose and are not derived again.
    """
    bytes_left = TAIL_BYTES
    place = Place(days[-1], 1, 0)
    for age, day in enumerate(reversed(days)):
        path = folder.path("raw", day)
        if not path.exists():
            break
        if bytes_left > 0:
            place = place_at(folder, day, max(0, path.stat().st_size - bytes_left))
        averages, raw = folder.count("averages", day), folder.count("raw", day)
        if averages < raw and (day < place.day or averages + 1 < place.line):
            place = nth_place(folder, day, averages + 1)
        bytes_left -= path.stat().st_size
        if bytes_left <= 0 and age:
            break
    averaged = [day for day in folder.days("averages") if day in days]
    lacking = [i for i, day in enumerate(days) if day > min(averaged, default="") and day not in averaged]
    # A start that was killed while it derived them may have left the day before unfinished.
    return min(place, Place(days[max(0, lacking[0] - 1)], 1, 0)) if lacking else place


def _derive_from(settings_log: SettingsLog, start: Place, record: Record) -> Windows:
    """Derive the averages from `start` on and make the files equal to them."""
    folder, derivation = settings_log.folder, Derivation(settings_log, start)
    for day in [day for day in folder.days("raw") if day >= start.day]:
        line, offset = (start.line, start.offset) if day == start.day else (1, 0)
        agrees = _rewrite_end(folder, day, line, derivation.day(day, line, offset), record)
        if not agrees and line > 1:
            # Not even the first line agrees: damaged lines further up may have shifted the line numbers.
            return _derive_from(settings_log, Place(day, 1, 0), record)
    return derivation.windows


def _rewrite_end(folder: Folder, day: str, line: int, derived: Iterator[bytes], record: Record) -> bool:
    """Make a day's averages from line `line` on equal to `derived`.

    False, with nothing changed, where the very first line to compare differs. A compressed file is left unchanged.
    """
    path = folder.path("averages", day)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    if is_new and folder.packed_path("averages", day).exists():
        deque(derived, 0)  # only the windows are needed: a file is complete before it is compressed
        return True
    with open(path, "ab+", opener=open_regular) as file:
        start = end = nth_place(folder, day, line, "averages").offset
        file.seek(start)
        different: list[bytes] = []
        for averages in derived:
            stored = file.readline()
            if stored != averages:
                if stored and end == start and line > 1:
                    return False
                different = [averages]
                break
            end += len(averages)
        size = path.stat().st_size
        if not different and end == size:
            return True
        file.truncate(end)
        written = sum(file.write(averages) for averages in chain(different, derived))
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync(path.parent)
    record("repaired", reason="averages", file=str(path.relative_to(folder.root)), cut=size - end, written=written)
    return True


def repair(path: Path, decode: Callable[[bytes], Any] = parse) -> int:
    """Cut the torn or damaged end off a file of lines and keep it in `*.torn`; how many bytes were cut.

    `decode` raises RejectedError for a damaged line. After a kill the next repair does not keep the end twice.
    """
    with suppress(FileNotFoundError), open(path, "r+b", 0, opener=open_regular) as file:
        size = os.fstat(file.fileno()).st_size
        end = _sound_end(file, size, decode)
        if end < size:
            file.seek(end)
            _keep(path.with_name(path.name + ".torn"), file.read())
            file.truncate(end)
            os.fsync(file.fileno())
        return size - end
    return 0


def torn_files(root: Path) -> list[tuple[Path, int]]:
    """The `*.torn` files of an output folder, each with its size in bytes."""
    paths = sorted(path for kind in (".", *KINDS) for path in (root / kind).glob("*.torn"))
    return [(path, path.stat().st_size) for path in paths]


def _sound_end(file: IO[bytes], size: int, decode: Callable[[bytes], Any]) -> int:
    """The offset after the last sound line."""
    for offset, lines in blocks_backwards(file, 0, size):
        starts = accumulate((len(line) + 1 for line in lines), initial=offset)
        for start, line in reversed(list(zip(starts, lines, strict=False))):
            with suppress(RejectedError):
                decode(line)
                return start + len(line) + 1
    return 0


def _keep(path: Path, torn: bytes) -> None:
    with suppress(FileNotFoundError):
        if read_regular(path).endswith(torn + b"\n"):
            return
    append_whole(path, torn if torn.endswith(b"\n") else torn + b"\n")
