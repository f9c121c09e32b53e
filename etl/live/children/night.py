"""The nightly job: closed days are reported by a child process at low priority, then retention is applied."""

import logging
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import msgspec

from etl.live.children.child import StoppedError, Stopping, run_child
from etl.live.pipeline import Pipeline
from etl.nightly.due import REPORT_ERRORS, due_days
from etl.nightly.job import Job, Result
from etl.readings.days import day_finder
from etl.readings.text import plural, shortened
from etl.storage.retention import compress, delete_old
from etl.storage.settings_log import SettingsLog

MAX_WHY_CHARACTERS = 200
"""Characters of an error in an event."""

MakeReport = Callable[[Job], Result]
"""Writes the report of a closed day; OSError if it cannot be written now, REPORT_ERRORS if never from this raw log."""

log = logging.getLogger("etl")


class Night:
    """Reports every closed day that has no report, and compresses and deletes old days as the config asks.

    `notify` sends the summary of a report, `stopping` is true once the process is to end.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        make_report: MakeReport,
        notify: Callable[[dict[str, Any]], None] = lambda _: None,
        stopping: Stopping = lambda: False,
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
            root, units = str(pipeline.folder.root), loaded.config.units
            job = Job(root, day, loaded.settings, report.workers, report.cluster, units)
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


def in_child(job: Job, stopping: Stopping) -> Result:
    """Report a closed day in a child process.

    Raises:
        StoppedError: `stopping` became true; the child is killed.
        ValueError: the report cannot be made from this raw log.
        ChildProcessError: the child ended without a result; its log says why.
    """
    answer = bytearray()
    code = run_child(["--date", job.day, "--closed"], msgspec.json.encode(job), answer.extend, stopping, inf)
    if not answer.endswith(b"\n"):
        raise ChildProcessError(f"the child process of {job.day} ended with exit code {code}")
    result = msgspec.json.decode(answer, type=Result)
    if result.failure is not None:
        raise ValueError(result.failure)
    return result
