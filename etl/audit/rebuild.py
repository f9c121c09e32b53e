"""Averages, alarms and reports derived again from the raw log, a day at a time; each file is complete or unchanged."""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from etl.nightly import history
from etl.nightly.due import REPORT_ERRORS
from etl.nightly.report import DayReport, contract, encode, make, write
from etl.pages.text import NO_UNITS
from etl.readings.alarms.fold import AlarmFold, alarm_line
from etl.readings.lines import UNREADABLE
from etl.readings.text import plural
from etl.storage.folder import DAMAGED_GZIP
from etl.storage.recovery.alarms import continue_alarms
from etl.storage.recovery.derivation import Derivation
from etl.storage.recovery.repair import DELAYED_BYTES, Record, repair_files
from etl.storage.settings_log import SettingsLog
from etl.storage.staging import replace_lines


def rebuild(
    settings_log: SettingsLog,
    unreported: list[str],
    deleted: Collection[str],
    record: Record,
    units: Mapping[str, str] = NO_UNITS,
) -> Iterator[str]:
    """Make every derived file follow from the raw log again; yields a line for each file that changed, and counts.

    The caller holds the folder's lock. `unreported` are the closed days without a report. The averages and alarms of
    the days `deleted`, which output.keep_days deletes, are not derived again where they are missing. `units` are those
    of the parameters, for pages. Interrupted, each day is done or unchanged; the next call does the others.

    Raises:
        OSError: a file cannot be written.

    """
    for path in repair_files(settings_log.folder, record, DELAYED_BYTES):
        yield f"{path}: torn or damaged lines were moved to {path.name}.torn"
    settings_log = SettingsLog(settings_log.folder, settings_log.default)  # its entries may have moved
    yield from _averages(settings_log, deleted, record)
    yield from _reports(settings_log, unreported, record, units)


def _averages(settings_log: SettingsLog, deleted: Collection[str], record: Record) -> Iterator[str]:
    folder, derivation = settings_log.folder, Derivation(settings_log)
    days = folder.days("raw")
    derivation.alarms = alarms = AlarmFold(settings_log.at(min(days, default=""), 0))
    skipped = {*deleted} - {*folder.days("averages")}
    correct: Counter[str] = Counter({"averages": 0})
    changed: list[Path] = []

    def replace(kind: str, day: str, lines: Iterator[bytes]) -> None:
        if replace_lines(folder, kind, day, lines):
            path = folder.path(kind, day)
            record("repaired", reason=kind, file=str(path.relative_to(folder.root)))
            changed.append(path)
        else:
            correct[kind] += 1

    def lines_of(day: str) -> Iterator[bytes]:
        """The averages lines; at their end, before they replace the file, the alarms are written."""
        yield from derivation.day(day)
        if derivation.has_alarms or derivation.changes or day in folder.days("alarms"):
            replace("alarms", day, map(alarm_line, derivation.changes))

    for day in days:
        continue_alarms(settings_log, day, alarms, deleted)
        try:
            if day in skipped:
                deque(derivation.day(day), maxlen=0)  # only the state is needed, for the days after it
            else:
                replace("averages", day, lines_of(day))
        except DAMAGED_GZIP as error:
            yield f"{folder.packed_path('raw', day)}: cannot be read, so its averages were left unchanged: {error}"
        yield from (f"{path}: derived again" for path in changed)
        changed.clear()
    yield from (f"{plural(count, f'{kind} file')} already correct" for kind, count in correct.items())


def _reports(
    settings_log: SettingsLog, unreported: list[str], record: Record, units: Mapping[str, str]
) -> Iterator[str]:
    folder = settings_log.folder
    correct, previous = 0, None
    for day in sorted({*folder.reports(), *unreported} & {*folder.days("raw")}):
        path = folder.report_path(day)
        try:
            computed = make(settings_log, day, previous=previous, charted=True)
            previous = computed.history
            stored = folder.read(path)
            if stored is not None and _is_correct(stored, computed):
                if previous:
                    history.keep(folder, previous)
                correct += 1
                continue
            write(folder, computed, units)
        except REPORT_ERRORS as error:
            previous = None
            yield f"{path}: cannot be computed again: {error}"
        else:
            record("report", reason="made anew", day=day)
            yield f"{path}: written"
    yield f"{plural(correct, 'report')} already correct"


def _is_correct(stored: bytes, computed: DayReport) -> bool:
    """Whether a stored report equals the computed one.

    Incidents depend on earlier days as well: they may be missing, and where some of those days were deleted, differ.
    """
    if stored == encode(computed.report):
        return True
    try:
        report = msgspec.json.decode(stored)
        figures = contract(report)
    except (AttributeError, *UNREADABLE, *REPORT_ERRORS):
        return False
    return encode(figures) == encode(contract(computed.report)) and (figures == report or not computed.provable)
