"""The alarms at a line of the raw log, and the alarms files derived again from there on."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple

from etl.readings.alarms.conditions import Change, Condition, States
from etl.readings.alarms.fold import AlarmFold, AlarmRecord, alarm_line, parse_alarm
from etl.readings.lines import raw_decoder
from etl.readings.records import Machine, RejectedError, Settings
from etl.storage.folder import DAMAGED_GZIP, Folder
from etl.storage.places import Place, blocks_backwards
from etl.storage.recovery.derivation import Derivation
from etl.storage.recovery.lookback import conditions_before
from etl.storage.recovery.repair import Record
from etl.storage.recovery.rewrite import rewrite_end
from etl.storage.settings_log import SettingsLog

_decode = raw_decoder(())


class AlarmsAtEnd(NamedTuple):
    """The fold of alarms at the end of the raw log, and the changes that no alarms file had yet."""

    fold: AlarmFold
    changes: list[Change]


class _Start(NamedTuple):
    """The fold of alarms before a line, and how many lines the alarms file of its day has up to there."""

    fold: AlarmFold
    lines: int


def has_alarms(settings_log: SettingsLog) -> bool:
    """Whether any settings of the log have alarms: without, a folder has no alarms files."""
    return any(settings.alarms for settings in (settings_log.default, *(e.settings for e in settings_log.entries)))


def recover_alarms(settings_log: SettingsLog, start: Place, record: Record, now: float) -> AlarmsAtEnd:
    """Derive the alarms again from `start` on, a line of the newest days, and make their files equal to them.

    They are durable when this returns, before the averages lines of the same readings are written.
    """
    folder = settings_log.folder
    place, at = _start_of_poll(folder, start)
    derivation = Derivation(settings_log, place, now)
    before = _before(settings_log, place, at, derivation)
    if before is None:
        # The alarms file is not what the lines before this place make of it: somebody changed it.
        return recover_alarms(settings_log, Place(place.day, 1, 0), record, now)
    derivation.alarms = before.fold
    changes: list[Change] = []
    for day in [day for day in folder.days("raw") if day >= place.day]:
        line, offset, lines = (place.line, place.offset, before.lines) if day == place.day else (1, 0, 0)
        is_known = day in folder.days("alarms")
        stored, told = folder.count("alarms", day), 0
        averages = folder.count("averages", day)
        for number, _ in enumerate(derivation.day(day, line, offset), start=line):
            if number <= averages:
                told = len(derivation.changes)  # its averages line was written after these were told
        if not _rewrite(folder, day, lines, derivation, record) and place.line > 1:
            return recover_alarms(settings_log, Place(day, 1, 0), record, now)
        changes += derivation.changes[max(told, stored - lines if is_known else 0) :]
    return AlarmsAtEnd(derivation.alarms, changes)


def derive_missing_alarms(settings_log: SettingsLog, days: Iterable[str], record: Record) -> None:
    """Derive the alarms of those of the days that should have a file and have none."""
    folder = settings_log.folder
    present = {*folder.days("alarms")}
    for day in sorted({*days} - present):
        if not _had_alarms(settings_log, Place(day, max(1, folder.count("raw", day)) + 1, 0)):
            continue
        with suppress(*DAMAGED_GZIP):
            derivation = derivation_from(settings_log, day)
            for _ in derivation.day(day):
                pass
            _rewrite(folder, day, 0, derivation, record)


def derivation_from(settings_log: SettingsLog, day: str) -> Derivation:
    """Derive averages and alarms from the first line of a day on."""
    place = Place(day, 1, 0)
    derivation = Derivation(settings_log, place)
    before = _before(settings_log, place, 0, derivation)
    derivation.alarms = before.fold if before else None
    return derivation


def alarms_at_start(settings_log: SettingsLog, day: str) -> AlarmFold:
    """The fold before the first line of a day: raised is what was at the end of the day before."""
    folder, settings = settings_log.folder, settings_log.before(day, 1)
    previous = _day_before(folder, day)
    if previous in folder.days("alarms"):
        return AlarmFold(settings, "", _raised(settings, _records(folder, previous)))
    fold = AlarmFold(settings)
    continue_alarms(settings_log, day, fold, {previous})
    return fold


def continue_alarms(settings_log: SettingsLog, day: str, fold: AlarmFold, deleted: Collection[str]) -> None:
    """Where the alarms file of the day before is among those deleted by `keep_days`, take what a day continues as true.

    The same where its raw log is, which settings.jsonl tells.
    """
    folder, previous = settings_log.folder, _day_before(settings_log.folder, day)
    is_deleted = previous in deleted if previous else any(entry.day < day for entry in settings_log.entries)
    days = folder.days("alarms")
    if not is_deleted or previous in days or day not in days:
        return
    records = takewhile(lambda record: record.is_continued, _records(folder, day))
    fold.set_raised(_raised(settings_log.before(day, 1), records))


def _day_before(folder: Folder, day: str) -> str:
    return max((each for each in folder.days("raw") if each < day), default="")


def _rewrite(folder: Folder, day: str, lines: int, derivation: Derivation, record: Record) -> bool:
    """Make the alarms file of a day equal to the changes derived, behind its first `lines` lines; as `rewrite_end`."""
    if not (derivation.has_alarms or derivation.changes or day in folder.days("alarms")):
        return True
    return rewrite_end(folder, "alarms", day, lines + 1, map(alarm_line, derivation.changes), record)


def _before(settings_log: SettingsLog, place: Place, at: int, derivation: Derivation) -> _Start | None:
    """The fold before a line polled `at`; None if the alarms file is lost, or contradicts the averages before it."""
    folder, settings = settings_log.folder, settings_log.before(place.day, place.line)
    if place.line == 1:
        raised, lines = alarms_at_start(settings_log, place.day).states, 0
        day, values_from = "", _day_before(folder, place.day)
    elif place.day not in folder.days("alarms") and _had_alarms(settings_log, place):
        return None
    else:
        records = list(_records(folder, place.day))
        before = [each for each in records if each.at < at]
        if before != records[: len(before)]:
            return None  # the clock was set back: times do not tell which lines come before this one
        raised, lines = _raised(settings, before), len(before)
        day = values_from = place.day
    states, agrees = conditions_before(settings_log, place, raised, values_from, derivation.windows)
    if not agrees and place.line > 1:
        return None
    return _Start(AlarmFold(settings, day, states), lines)


def _had_alarms(settings_log: SettingsLog, place: Place) -> bool:
    """Whether the day has a file because of the lines before this one: they are under alarms, or end raised ones."""
    if any(settings.alarms for first, _, settings in settings_log.segments(place.day) if first < place.line):
        return True
    previous = _day_before(settings_log.folder, place.day)
    settings = settings_log.before(place.day, 1)
    return bool(_raised(settings, _records(settings_log.folder, previous)))


def _records(folder: Folder, day: str) -> Iterator[AlarmRecord]:
    with suppress(FileNotFoundError):
        for _, line in folder.lines("alarms", day):
            with suppress(RejectedError):
                yield parse_alarm(line)


def _raised(settings: Settings, records: Iterable[AlarmRecord]) -> States:
    """What these settings raise after these lines."""
    names = {rule.name for rule in settings.alarms}
    raised: dict[Machine, dict[str, Condition]] = {}
    for each in records:
        conditions = raised.setdefault(each.machine, {})
        conditions.pop(each.name, None)
        if each.condition.raised and each.name in names:
            conditions[each.name] = each.condition
    return {machine: conditions for machine, conditions in raised.items() if conditions}


def _start_of_poll(folder: Folder, place: Place) -> tuple[Place, int]:
    """The first of the lines around a place that were polled at the same time, and that time in milliseconds."""
    at: int | None = None
    for _, line in folder.lines("raw", place.day, place.offset):
        with suppress(RejectedError):
            at = _polled_ms(line)
            break
    if at is None:
        return place, 1 << 62  # no reading follows
    number, offset = place.line, place.offset
    with folder.open_anywhere("raw", place.day) as file:
        for _, lines in blocks_backwards(file, 0, place.offset):
            for line in reversed(lines):
                try:
                    is_same = _polled_ms(line) == at
                except RejectedError:
                    is_same = False
                if not is_same:
                    return Place(place.day, number, offset), at
                number, offset = number - 1, offset - len(line) - 1
    return Place(place.day, number, offset), at


def _polled_ms(line: bytes) -> int:
    return round(_decode(line).polled_at * 1000)
