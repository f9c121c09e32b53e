"""A job is run: the report of a closed day is made, by as many workers as the job has, and written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from etl.nightly.executors import Mapper, run_parallel
from etl.nightly.job import Job, Result
from etl.nightly.report import make, write
from etl.pages.headline import anomaly_count, headline, incident_count
from etl.storage.folder import Folder, Progress, no_progress
from etl.storage.settings_log import SettingsLog


def run(job: Job, warn: Callable[[str], None], progress: Progress = no_progress) -> Result:
    """Write the report of a closed day and its page; `warn` receives a sentence if workers or the cluster failed.

    Raises:
        REPORT_ERRORS: it cannot be made from this raw log.
        OSError: it cannot be written.

    """
    settings_log = SettingsLog(Folder(Path(job.folder), progress), job.settings)

    def work(mapper: Mapper) -> Result:
        day_report = make(settings_log, job.day, mapper, charted=True)
        return Result(str(write(settings_log.folder, day_report, job.units)), summary(day_report.report))

    return run_parallel(work, job.workers, job.cluster, warn)


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """A report in a few sentences and its counts, for a notification."""
    machines = report["machines"]
    return {
        "text": f"{report['date']}: {headline(report)}",
        "day": report["date"],
        "machines": len(machines),
        "readings": sum(machine["readings"] for machine in machines),
        "expected": sum(machine["expected"] for machine in machines),
        "incidents": incident_count(report),
        "anomalies": sum(map(anomaly_count, machines)),
    }
