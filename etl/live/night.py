"""The nightly job: closed days are reported by a child process at low priority, then retention is applied."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import msgspec

import etl
from etl.live.pipeline import Pipeline
from etl.nightly.due import REPORT_ERRORS, due_days
from etl.nightly.job import Job, Result, safe_path
from etl.readings.days import day_finder
from etl.readings.text import plural, shortened
from etl.storage.retention import compress, delete_old
from etl.storage.settings_log import SettingsLog

CHECK_S = 0.2
"""Seconds between two checks whether the process is stopping, while a child works."""
MAX_WHY_CHARACTERS = 200
"""Characters of an error in an event."""

MakeReport = Callable[[Job], Result]
"""Writes the report of a closed day; OSError if it cannot be written now, REPORT_ERRORS if never from this raw log."""

log = logging.getLogger("etl")


class StoppedError(Exception):
    """The process is stopping: the next start writes the report."""


class Night:
    """Reports every closed day that has no report, and compresses and deletes old days as the config asks.

    `notify` sends the summary of a report, `stopping` is true once the process is to end.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        make_report: MakeReport,
        notify: Callable[[dict[str, Any]], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pipeline = pipeline
        self._make_report = make_report
        self._notify = notify
        self._stopping = stopping
        self._failed_days: set[str] = set()

    def run(self) -> None:
        """Run the nightly job; the schedule calls it once a minute."""
        try:
            for result in self.report_due_days():
                self._notify(result.summary)
            self.apply_retention()
        except StoppedError:
            log.info("The process is stopping: the next start writes the report")
        except OSError as error:
            log.error(
                "The report cannot be written to %s: %s. The next try is in a minute.",
                self._pipeline.folder.root,
                error,
            )

    def report_due_days(self) -> Iterator[Result]:
        """Report every closed day that has no report yet; a day that cannot be reported holds up no other."""
        pipeline, loaded, report = self._pipeline, self._pipeline.loaded, self._pipeline.loaded.config.report
        for day in due_days(pipeline.folder, pipeline.clock(), report.at, loaded.zone):
            if not pipeline.writer.close_day(day):
                continue
            job = Job(str(pipeline.folder.root), day, loaded.settings, report.workers, report.cluster)
            try:
                result = self._make_report(job)
            except REPORT_ERRORS as error:
                self._record_failure(day, str(error))
                continue
            codes = pipeline.events.record("report", reason="written", day=day)
            log.info("Report of %s written to %s", day, result.path, extra=codes)
            pipeline.poller.wake()
            yield result

    def _record_failure(self, day: str, why: str) -> None:
        """Log a day that cannot be reported, once."""
        if day in self._failed_days:
            return
        self._failed_days.add(day)
        cut = shortened(why, MAX_WHY_CHARACTERS)
        codes = self._pipeline.events.record("report", reason="failed", day=day, why=cut)
        text = "The report of %s cannot be made: %s. `etl verify` shows where its raw log is damaged."
        log.error(text, day, why, extra=codes)
        self._pipeline.poller.wake()

    def apply_retention(self) -> None:
        """Delete and compress closed days as the config asks."""
        pipeline, loaded = self._pipeline, self._pipeline.loaded
        output, pause = loaded.config.output, pipeline.writer.paused
        if output.keep_days is not None:
            today = day_finder(loaded.zone)(pipeline.clock())
            deleted = delete_old(SettingsLog(pipeline.folder, loaded.settings), today, output.keep_days, pause)
            if deleted:
                log.info("Deleted, as they are older than %s: %s", plural(output.keep_days, "day"), ", ".join(deleted))
        if output.compress and (days := compress(pipeline.folder, self._stopping, pause)):
            log.info("Compressed the files of %s", ", ".join(days))


def in_child(job: Job, stopping: Callable[[], bool]) -> Result:
    """Run `etl report` for a closed day in a child process, which ends when this one does.

    A fresh interpreter, not a fork: a forked child would keep the output folder's lock after this process was killed.

    Raises:
        StoppedError: `stopping` became true; the child is killed.
        ValueError: the report cannot be made from this raw log.
        ChildProcessError: the child ended without a result; its log says why.
    """
    command = [sys.executable, "-P", "-m", "etl", "report", "--date", job.day, "--closed"]
    safe = safe_path()
    # The child runs the same code as this process, and numpy's BLAS library needs no thread per core.
    path = os.pathsep.join(filter(None, [str(Path(etl.__file__).parents[1]), safe["PYTHONPATH"]]))
    with subprocess.Popen(  # noqa: S603  this program itself
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **safe, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
    ) as process:
        try:
            line = _exchange(process, msgspec.json.encode(job) + b"\n", stopping)
        finally:
            process.kill()
    if not line:
        raise ChildProcessError(f"the child process of {job.day} ended with exit code {process.returncode}")
    result = msgspec.json.decode(line, type=Result)
    if result.failure is not None:
        raise ValueError(result.failure)
    return result


def _exchange(process: subprocess.Popen[bytes], request: bytes, stopping: Callable[[], bool]) -> bytes:
    """Send the job, and wait for the line that answers it; stdin stays open, as its end ends the child."""
    if process.stdin is None or process.stdout is None:
        raise ChildProcessError("the child process has no pipes")
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except BrokenPipeError:
        return b""
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        while not selector.select(CHECK_S):
            if stopping():
                raise StoppedError
    return process.stdout.readline()
