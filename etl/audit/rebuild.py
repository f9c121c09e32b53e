"""Averages and reports derived anew from the raw log, a day at a time, each file whole or as it was."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import orjson

from etl.nightly import history
from etl.nightly.due import REPORT_ERRORS
from etl.nightly.report import Made, Page, contract, encode, make, write
from etl.storage.atomic import sync_folder
from etl.storage.derivation import Derivation
from etl.storage.folder import DAMAGED_GZIP, Folder
from etl.storage.recovery import Record, repair_ends
from etl.storage.settings_log import SettingsLog


def rebuild(
    settings_log: SettingsLog, unreported: list[str], keep: bool, tell: Record, page: Page | None = None
) -> Iterator[str]:
    """Make every file follow from the raw log again; a line for people about each file that was not as it should be.

    The caller holds the folder. Interrupted, each day is done or as it was; the next call does the others. `unreported`
    are the closed days without a report; with `keep` averages that output.keep_days has deleted stay deleted.

    Raises:
        OSError: a file cannot be written.

    """
    folder = settings_log.folder
    cut: list[str] = []

    def told(event: str, *, file: str, **more: Any) -> None:
        cut.append(file)
        tell(event, file=file, **more)

    repair_ends(folder, told)
    yield from (f"{folder.root / file}: the torn end was cut off and is kept in {file}.torn" for file in cut)
    yield from _averages(settings_log, keep, tell)
    yield from _reports(settings_log, unreported, tell, page)


def _averages(settings_log: SettingsLog, keep: bool, tell: Record) -> Iterator[str]:
    folder, derivation = settings_log.folder, Derivation(settings_log)
    first = min(folder.days("averages"), default="") if keep else ""
    right = 0
    for day in folder.days("raw"):
        lines, path = derivation.day(day), folder.path("averages", day)
        try:
            if day < first:
                deque(lines, maxlen=0)  # for the windows of the days after it
            elif _rewritten(folder, day, lines):
                tell("repaired", reason="averages", file=str(path.relative_to(folder.root)))
                yield f"{path}: derived anew"
            else:
                right += 1
        except DAMAGED_GZIP as error:
            yield f"{folder.packed_path('raw', day)}: left alone with its averages, it cannot be read: {error}"
    yield f"{right} days of averages were right already"


def _rewritten(folder: Folder, day: str, lines: Iterator[bytes]) -> bool:
    """Make a day's averages equal to these lines; whether they were not."""
    path = folder.path("averages", day)
    aside = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(exist_ok=True)
    try:
        with open(aside, "w+b", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o640)) as derived:
            derived.writelines(lines)
            derived.seek(0)
            if _stands(folder, day, derived):
                return False
            os.fsync(derived.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    folder.packed_path("averages", day).unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _stands(folder: Folder, day: str, derived: Iterable[bytes]) -> bool:
    try:
        with folder.open("averages", day) as file:
            return all(line == there for line, there in zip_longest(derived, file))
    except (FileNotFoundError, *DAMAGED_GZIP):
        return False


def _reports(settings_log: SettingsLog, unreported: list[str], tell: Record, page: Page | None) -> Iterator[str]:
    folder = settings_log.folder
    right, known = 0, None
    for day in sorted({*folder.reports(), *unreported} & {*folder.days("raw")}):
        path = folder.report_path(day)
        try:
            made = make(settings_log, day, known=known, charted=page is not None)
            known = made.history
            if path.exists() and _is_right(path.read_bytes(), made):
                if known:
                    history.keep(folder, known)
                right += 1
                continue
            write(folder, made, page)
        except REPORT_ERRORS as error:
            known = None
            yield f"{path}: cannot be made anew: {error}"
        else:
            tell("report", reason="made anew", day=day)
            yield f"{path}: made anew"
    yield f"{right} reports were right already"


def _is_right(report: bytes, made: Made) -> bool:
    """Whether a report is the one that is made anew; without incidents it may be, or with some that nothing proves."""
    if report == encode(made.report):
        return True
    try:
        there = orjson.loads(report)
        bare = contract(there)
    except (AttributeError, *REPORT_ERRORS):
        return False
    return encode(bare) == encode(contract(made.report)) and (bare == there or not made.sure)
