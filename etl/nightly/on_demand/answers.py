"""Answers an order for a page: what the child process of a running `etl run` computes."""

import errno
import logging
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from etl.nightly.due import REPORT_ERRORS
from etl.nightly.history import History, first_baseline_day, inputs_of, newest_stored
from etl.nightly.on_demand.machine_page import PageError, machine_day, machine_hours
from etl.nightly.on_demand.orders import (
    AnyPageOrder,
    DayOrder,
    MachineDayOrder,
    MachineHoursOrder,
    PageHead,
    SummariesOrder,
)
from etl.nightly.on_demand.stored_reports import summaries
from etl.nightly.report import encode, make
from etl.pages.links import with_links
from etl.pages.report import report_page
from etl.readings.days import begins, length
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog

MAX_RAW_BYTES = 2 << 30
"""A longer raw log gets no report on demand: at this size it takes one or two minutes of CPU, at each request anew."""
MAX_HISTORY_BYTES = 64 << 20
"""Raw logs of the days before that are read where no history is stored: more would take longer than the day itself.
Beyond it the detectors know the day alone."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""The directory for temporary files is full; nothing else is written."""

log = logging.getLogger("etl")


def answer(order: AnyPageOrder) -> tuple[PageHead, list[bytes]]:
    """Make what an order asks for: the head of the answer, and its parts."""
    try:
        parts = _parts(SettingsLog(Folder(Path(order.folder)), order.settings), order)
    except PageError as error:
        return PageHead(status=error.status, error=str(error)), []
    except MemoryError:
        why = "This takes more memory than a page may; the nightly report has no such limit"
        return PageHead(status=503, error=why), []
    except FileNotFoundError:
        return PageHead(status=404, error="The raw log of that day was just deleted or replaced; try again"), []
    except (OSError, *REPORT_ERRORS) as error:
        log.exception("A page cannot be made: %s", order)
        is_full = isinstance(error, OSError) and error.errno in NO_SPACE
        hint = "Make room there" if is_full else "`etl verify` shows where the files are damaged"
        why = f"This cannot be made: {error}. {hint}"
        return PageHead(status=503, error=why), []
    return PageHead(tuple(map(len, parts))), parts


def _parts(settings_log: SettingsLog, order: AnyPageOrder) -> list[bytes]:
    match order:
        case DayOrder():
            return _day(settings_log, order)
        case MachineDayOrder():
            return [machine_day(settings_log, order)]
        case MachineHoursOrder():
            return [msgspec.json.encode(machine_hours(settings_log.folder, order))]
        case SummariesOrder():
            return [msgspec.json.encode(summaries(settings_log.folder, order.since))]


def _day(settings_log: SettingsLog, order: DayOrder) -> list[bytes]:
    """The report of a day so far: its JSON and its page."""
    folder, day = settings_log.folder, order.day
    size = folder.stored_bytes("raw", [day])
    if size > MAX_RAW_BYTES:
        raise PageError(
            503,
            f"The raw log of {day} has {size / 1e9:.1f} GB; a report of the day so far is made of at most "
            f"{MAX_RAW_BYTES / 1e9:.1f} GB. The nightly report follows at /reports/{day}; until then open the day of "
            "each machine, /machines/day?source=NAME&id=ID, from its row of the console",
        )
    settings = settings_log.of_day(day)
    previous = _history(folder, day, settings) if settings.detectors else None
    report, series, *_ = make(settings_log, day, previous=previous, until=order.now, charted=True)
    # The page compares with what is expected until now; in the JSON `expected` is that of the whole day, as always.
    share = min(1.0, (order.now - begins(day, ZoneInfo(settings.timezone))) / length(day, ZoneInfo(settings.timezone)))
    machines = [{**machine, "expected": round(machine["expected"] * share)} for machine in report["machines"]]
    page = report_page({**report, "machines": machines}, series or [], order.units, order.now)
    until = datetime.fromtimestamp(order.now, ZoneInfo(settings.timezone)).strftime("%H:%M:%S")
    note = f"This is the day so far, until {until}."
    return [encode(report), with_links(page, max(folder.reports(), default=None), None, note)]


def _history(folder: Folder, day: str, settings: Settings) -> History | None:
    """The stored history; an empty one where continuing it would read too much."""
    first = first_baseline_day(day, settings)
    stored = newest_stored(folder, first, day, settings)
    missing = [each for each in folder.days("raw") if first <= each < day and not (stored and each <= stored.day)]
    if folder.stored_bytes("raw", missing) <= MAX_HISTORY_BYTES:
        return stored
    return History(missing[-1], inputs_of(settings), {})
