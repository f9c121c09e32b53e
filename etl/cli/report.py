"""etl report: the anomaly reports of closed days; `etl run` calls the same command for its nightly job."""

import logging
import os
import resource
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import IO

import click
import msgspec

from etl.cli.command import config_option, execute, leave, output_root, progress
from etl.cli.exits import CANNOT_CREATE, OK, PROBLEM, ExitError
from etl.cli.logs import log_to_stderr
from etl.config.load import Loaded
from etl.nightly.due import REPORT_ERRORS, due_days
from etl.nightly.job import Job, Result
from etl.nightly.on_demand.orders import AnyPageOrder
from etl.nightly.report import encode, make
from etl.nightly.run import run
from etl.readings.days import due
from etl.storage.folder import Folder
from etl.storage.lock import HeldError, take_lock
from etl.storage.settings_log import SettingsLog

LOWEST_PRIORITY = 19
MAX_PAGE_BYTES = 2 << 30
"""Memory of a process that makes a page on demand: whoever asks must not be able to take all of the machine's."""

log = logging.getLogger("etl")


@click.command("report")
@config_option
@click.option("--date", "day", metavar="YYYY-MM-DD", help="Report this day; without it, every day that is due.")
@click.option("--closed", is_flag=True, hidden=True, help="Report the closed day that stdin describes, for `etl run`.")
@click.option("--html", is_flag=True, hidden=True, help="Make the page that stdin describes, for `etl run`.")
def command(file: Path, day: str | None, closed: bool, html: bool) -> None:
    """Write the anomaly report of closed days, and print the path of each.

    The report of a day that is not closed yet goes to stdout, and nothing is written.
    """
    if closed or html:
        leave(report_closed() if closed else page_on_demand())
    try:
        day = date.fromisoformat(day).isoformat() if day else None
    except ValueError:
        raise click.BadParameter(f"{day!r} is not a date; write it as 2026-11-22", param_hint="--date") from None
    execute(file, lambda loaded: report(loaded, day))


def report(loaded: Loaded, day: str | None) -> int:
    """Report a day, or every day that is due; the exit code."""
    folder = Folder(output_root(loaded))
    at, zone, now = loaded.config.report.at, loaded.zone, time.time()
    if day is None:
        days = [due_day for due_day in due_days(folder, now, at, zone) if _is_closed(folder, due_day)]
    elif day not in folder.days("raw"):
        raise ExitError(f"There is no raw log of {day} in {folder.root}.", PROBLEM)
    elif due(day, at, zone) > now or not _is_closed(folder, day):
        sys.stdout.buffer.write(encode(make(SettingsLog(folder, loaded.settings), day, until=now).report))
        log.warning("%s is not closed yet: its report is not written to %s", day, folder.root)
        return OK
    else:
        days = [day]
    if not days:
        log.info("No report is due in %s", folder.root)
    return _write_reports(loaded, folder, days)


def _write_reports(loaded: Loaded, folder: Folder, days: list[str]) -> int:
    options, code = loaded.config.report, OK
    with progress("report", folder.stored_bytes("raw", days)) as advance:
        for day in days:
            job = Job(str(folder.root), day, loaded.settings, options.workers, options.cluster, loaded.config.units)
            try:
                result = run(job, log.warning, advance)
            # Some damage to a compressed file is an OSError as well, so this comes first.
            except REPORT_ERRORS as error:
                log.error(
                    "The report of %s cannot be made: %s. Run `etl verify` to see where it is damaged.", day, error
                )
                code = PROBLEM
            except OSError as error:
                raise ExitError(
                    f"The report of {day} cannot be written to {folder.root}: {error}", CANNOT_CREATE
                ) from None
            else:
                click.echo(result.path)
    return code


def report_closed() -> int:
    """Report the closed day that the parent process describes on stdin, and answer with one JSON line."""
    request, answer = _order_of_parent()
    if not request:
        return PROBLEM
    job = msgspec.json.decode(request, type=Job)
    try:
        result = run(job, log.warning)
    except REPORT_ERRORS as error:
        result = Result(failure=str(error))
    except OSError as error:
        log.error("The report of %s cannot be written to %s: %s", job.day, job.folder, error)
        return CANNOT_CREATE
    with answer:
        answer.write(msgspec.json.encode(result) + b"\n")
    return OK


def page_on_demand() -> int:
    """Make the page that the parent process orders on stdin: a JSON line, then the bytes of its parts."""
    request, answer = _order_of_parent()
    if not request:
        return PROBLEM
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_PAGE_BYTES if hard < 0 else min(hard, MAX_PAGE_BYTES), hard))
    from etl.nightly.on_demand.answers import answer as answer_to  # noqa: PLC0415  jinja takes 10 MB, only pages need it

    head, parts = answer_to(msgspec.json.decode(request, type=AnyPageOrder))
    with answer:
        answer.write(msgspec.json.encode(head) + b"\n")
        answer.writelines(parts)
    return OK


def _order_of_parent() -> tuple[bytes, IO[bytes]]:
    """Become a child at low priority: the line that the parent sends, and where to write the answer.

    Stdin stays open; it closes when the parent ends, and then this process ends as well. The line is empty if the
    parent was killed before it had sent it.
    """
    log_to_stderr("text")
    os.nice(LOWEST_PRIORITY)  # the kernel derives the priority of I/O from it
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not the answer
    with os.fdopen(os.dup(0), "rb", buffering=0) as stdin:
        request = stdin.readline()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    return request if request.endswith(b"\n") else b"", os.fdopen(answer, "wb")


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(PROBLEM)


def _is_closed(folder: Folder, day: str) -> bool:
    """Whether no process can still append to a day: a later day has begun, or nobody holds the folder."""
    if folder.days("raw")[-1] > day or day in folder.reports():
        return True
    try:
        os.close(take_lock(folder.root))
    except (HeldError, OSError):
        return False
    return True
