"""Averages and reports derived again from the raw log, a day at a time; each file is complete or unchanged."""

from collections import deque
from collections.abc import Collection, Iterator

import msgspec

from etl.nightly import history
from etl.nightly.due import REPORT_ERRORS
from etl.nightly.report import DayReport, contract, encode, make, write
from etl.readings.lines import UNREADABLE
from etl.readings.text import plural
from etl.storage.folder import DAMAGED_GZIP
from etl.storage.recovery.derivation import Derivation
from etl.storage.recovery.repair import DELAYED_BYTES, Record, repair_files
from etl.storage.settings_log import SettingsLog
from etl.storage.staging import replace_averages


def rebuild(
    settings_log: SettingsLog, unreported: list[str], deleted: Collection[str], record: Record
) -> Iterator[str]:
    """Make every derived file follow from the raw log again; yields a line for each file that changed, and counts.

    The caller holds the folder's lock. `unreported` are the closed days without a report. The averages of the days
    `deleted`, which output.keep_days deletes, are not derived again where they are missing. Interrupted, each day is
    done or unchanged; the next call does the others.

    Raises:
        OSError: a file cannot be written.

    """
    for path in repair_files(settings_log.folder, record, DELAYED_BYTES):
        yield f"{path}: torn or damaged lines were moved to {path.name}.torn"
    settings_log = SettingsLog(settings_log.folder, settings_log.default)  # its entries may have moved
    yield from _averages(settings_log, deleted, record)
    yield from _reports(settings_log, unreported, record)


def _averages(settings_log: SettingsLog, deleted: Collection[str], record: Record) -> Iterator[str]:
    folder, derivation = settings_log.folder, Derivation(settings_log)
    skipped = {*deleted} - {*folder.days("averages")}
    correct = 0
    for day in folder.days("raw"):
        lines, path = derivation.day(day), folder.path("averages", day)
        try:
            if day in skipped:
                deque(lines, maxlen=0)  # only the windows are needed, for the days after it
            elif replace_averages(folder, day, lines):
                record("repaired", reason="averages", file=str(path.relative_to(folder.root)))
                yield f"{path}: derived again"
            else:
                correct += 1
        except DAMAGED_GZIP as error:
            yield f"{folder.packed_path('raw', day)}: cannot be read, so its averages were left unchanged: {error}"
    yield f"{plural(correct, 'averages file')} already correct"


def _reports(settings_log: SettingsLog, unreported: list[str], record: Record) -> Iterator[str]:
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
            write(folder, computed)
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
