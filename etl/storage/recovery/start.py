"""Recovery: the end of the folder repaired and made consistent, at start and after a disturbance."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from math import inf
from typing import NamedTuple

from etl.readings.alarms.conditions import Change
from etl.readings.alarms.fold import AlarmFold
from etl.readings.averages.fold import Windows
from etl.readings.records import Settings
from etl.storage.atomic import sync
from etl.storage.folder import DAMAGED_GZIP, Folder
from etl.storage.places import Place, nth_place, place_at
from etl.storage.recovery.alarms import AlarmsAtEnd, derive_missing_alarms, has_alarms, recover_alarms
from etl.storage.recovery.derivation import Derivation
from etl.storage.recovery.repair import DELAYED_BYTES, Record, repair_files
from etl.storage.recovery.rewrite import rewrite_end
from etl.storage.retention import without_averages
from etl.storage.settings_log import SettingsLog
from etl.storage.staging import replace_lines

TAIL_BYTES = 1 << 20
"""Bytes of the raw log's end whose averages every start derives again, and that may not be durable after a power cut
with `fsync: always`: one write is not larger."""


class Written(NamedTuple):
    """How the folder is written: what deletes averages, and seconds from the write of raw lines to their fsync."""

    keep_days: int | None = None
    sync_delay_s: float = 0.0


BY_DEFAULT = Written()


class Recovered(NamedTuple):
    """What to go on with: the windows, the fold of alarms, and the changes of alarms that no file had yet."""

    windows: Windows
    alarms: AlarmFold
    changes: list[Change]


def recover(
    folder: Folder,
    settings: Settings,
    today: str,
    record: Record,
    written: Written = BY_DEFAULT,
    now: float = inf,
) -> Recovered:
    """Repair the end of the folder and write down the settings; what to go on with from day `today` on.

    Averages that `keep_days` deletes are not derived again. No reading before `now` (seconds since the epoch) follows
    the log. After an OSError it is safe to try again later.
    """
    repair_files(folder, record, DELAYED_BYTES if written.sync_delay_s else TAIL_BYTES, 2)
    _sync_newest(folder)
    write_settings(folder, settings, today, record)
    days = folder.days("raw")
    for day in folder.days("averages"):
        if day >= max([today, *days[-1:]]) and day not in days:
            rewrite_end(folder, "averages", day, 1, iter(()), record)
    if not days:
        return Recovered({}, AlarmFold(settings), [])
    settings_log = SettingsLog(folder, settings)
    deleted = without_averages(folder, today, written.keep_days) - {*folder.days("averages")}
    start = _tail(folder, days, deleted)
    older = {day for day in days if day < start.day}
    derive_missing(settings_log, older - deleted, record)
    if has_alarms(settings_log):
        derive_missing_alarms(settings_log, older - without_averages(folder, today, written.keep_days), record)
    recovered = _derive_from(settings_log, start, record, now)
    last = settings_log.at(days[-1], folder.count("raw", days[-1]))
    return recovered if last.shape == settings.shape else recovered._replace(windows={})


def _sync_newest(folder: Folder) -> None:
    """Fsync the newest files, which the process before may not have done; a start is too rare to spare it."""
    for kind in ("raw", "averages"):
        for day in folder.days(kind)[-2:]:
            with suppress(FileNotFoundError):
                sync(folder.path(kind, day))


def derive_missing(settings_log: SettingsLog, days: Iterable[str], record: Record) -> None:
    """Derive the averages of those of the days that have none, each day's completely or not at all.

    A day whose raw log is compressed and damaged stays without averages.
    """
    folder = settings_log.folder
    for day in sorted({*days} - {*folder.days("averages")}):
        with suppress(*DAMAGED_GZIP):
            lines = Derivation(settings_log, Place(day, 1, 0)).day(day)
            if replace_lines(folder, "averages", day, lines):
                file = str(folder.path("averages", day).relative_to(folder.root))
                record("repaired", reason="averages", file=file)


def write_settings(folder: Folder, settings: Settings, today: str, record: Record) -> None:
    """Write changed settings down before the first line they govern: the next one of `today`."""
    day = max([today, *folder.days("raw")[-1:]])
    settings_log = SettingsLog(folder, settings)
    is_change = bool(settings_log.entries)
    if entry := settings_log.entry_for(settings, day, folder.count("raw", day) + 1):
        settings_log.append(entry)
        if is_change:
            record("settings", reason="changed", day=day, line=entry.line)


def _tail(folder: Folder, days: list[str], deleted: Collection[str]) -> Place:
    """The start of the raw log's last TAIL_BYTES, or its first line of these days without an averages line."""
    bytes_left = TAIL_BYTES
    place = Place(days[-1], 1, 0)
    for age, day in enumerate(reversed(days)):
        path = folder.path("raw", day)
        if not path.exists() or day in deleted:
            break
        if bytes_left > 0:
            place = place_at(folder, day, max(0, path.stat().st_size - bytes_left))
        averages, raw = folder.count("averages", day), folder.count("raw", day)
        if averages < raw and (day < place.day or averages + 1 < place.line):
            place = nth_place(folder, day, averages + 1)
        bytes_left -= path.stat().st_size
        if bytes_left <= 0 and age:
            break
    return place


def _derive_from(settings_log: SettingsLog, start: Place, record: Record, now: float) -> Recovered:
    """Derive the averages and alarms from `start` on and make the files equal to them, those of the alarms first.

    So whoever finds an averages line finds the alarms lines of the same reading.
    """
    alarms = AlarmsAtEnd(AlarmFold(settings_log.default), [])
    if has_alarms(settings_log):
        alarms = recover_alarms(settings_log, start, record, now)
    folder, derivation = settings_log.folder, Derivation(settings_log, start, now)
    for day in [day for day in folder.days("raw") if day >= start.day]:
        line, offset = (start.line, start.offset) if day == start.day else (1, 0)
        agrees = rewrite_end(folder, "averages", day, line, derivation.day(day, line, offset), record)
        if not agrees and line > 1:
            # Not even the first line agrees: damaged lines further up may have shifted the line numbers.
            return _derive_from(settings_log, Place(day, 1, 0), record, now)
    return Recovered(derivation.windows, *alarms)
