"""One closed day's report as a job: what `etl run` hands to its child process, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from etl.nightly.executors import Executing, executed
from etl.nightly.report import Page, make, write
from etl.readings.records import Settings
from etl.readings.text import plural
from etl.storage.folder import Folder, Progress, no_progress
from etl.storage.settings_log import SettingsLog


class Job(msgspec.Struct, frozen=True):
    """A closed day to report: in which folder, `settings` where settings.jsonl has none, and who works on it."""

    folder: str
    day: str
    settings: Settings
    workers: int = 1
    cluster: str | None = None


class Result(msgspec.Struct, frozen=True):
    """The path of a written report and its summary; or `failure`, why it cannot be made from this raw log."""

    path: str = ""
    summary: dict[str, Any] = {}
    failure: str | None = None


def run(job: Job, page: Page | None, warn: Callable[[str], None], progress: Progress = no_progress) -> Result:
    """Write the report of a closed day; `warn` gets a sentence if workers or the cluster failed.

    Raises:
        UNMADE: it cannot be made from this raw log.
        OSError: it cannot be written.

    """
    settings_log = SettingsLog(Folder(Path(job.folder), progress), job.settings)
    return executed(partial(_write, settings_log, job.day, page), job.workers, job.cluster, warn)


def _write(settings_log: SettingsLog, day: str, page: Page | None, executing: Executing) -> Result:
    made = make(settings_log, day, executing, charted=page is not None)
    return Result(str(write(settings_log.folder, made, page)), summary(made.report))


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """A report in a sentence and its counts, for a notification."""
    machines = report["machines"]
    anomalies = [
        (sum(len(parameter["anomalies"]) for parameter in machine["parameters"].values()), machine["source"])
        for machine in machines
    ]
    total = sum(count for count, _ in anomalies)
    readings = sum(machine["readings"] for machine in machines)
    expected = sum(machine["expected"] for machine in machines)
    text = (
        f"{report['date']}: {plural(len(machines), 'machine')}, {readings:,} of {expected:,.0f} readings, "
        f"{'1 anomaly' if total == 1 else f'{total:,} anomalies'}"
    )
    if total:
        text += f", most of them from {max(anomalies)[1]}"
    return {
        "text": text,
        "day": report["date"],
        "machines": len(machines),
        "readings": readings,
        "expected": expected,
        "anomalies": total,
    }
