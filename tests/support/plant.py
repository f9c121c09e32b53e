"""A plant: a folder with a config, a fixture of readings and a clock to set; ticks and nights by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson
import yaml

from etl.config import load as config
from etl.live.children.night import Night
from etl.live.pipeline import Pipeline
from etl.nightly.job import Job, Result
from etl.nightly.run import run

FIXTURE = Path(__file__).parents[1] / "fixtures" / "readings.json"


RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A folder in memory for many small files, if there is one; for `tempfile`."""


class Clock:
    """A wall clock that moves only when it is set (seconds since the epoch)."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def report_here(closed_day: Job) -> Result:
    """Write a report in this process."""
    return run(closed_day, lambda _: None)


class Plant:
    """A folder with a config, a fixture of readings and a clock: ticks and nights by hand."""

    def __init__(
        self, root: Path, start: float, *, system=os, stdout=None, traces=None, make_report=None, **settings
    ) -> None:
        self.root = root
        self.make_report = make_report or report_here
        self.traces = traces
        self.system = system
        self.stdout = stdout
        self.clock = Clock(start)
        shutil.copy(FIXTURE, root)
        self.config = {"timezone": "UTC", "sources": [{"name": "machine-1", "file": "readings.json"}], **settings}
        self.pipeline = None
        self.open()

    def open(self) -> None:
        """Open the pipeline, as a restarted process does."""
        self.close()
        path = self.root / "config.yaml"
        path.write_text(yaml.safe_dump(self.config))
        self.loaded = config.load(path)
        self.pipeline = Pipeline(self.loaded, self.clock, self.stdout, self.traces, self.system)
        self.folder = self.pipeline.folder

    def reload(self) -> None:
        """Continue with the changed config, as a process does at SIGHUP."""
        path = self.root / "config.yaml"
        path.write_text(yaml.safe_dump(self.config))
        self.loaded = config.load(path)
        self.pipeline.reload(self.loaded)

    def close(self) -> None:
        """Close the files and transports, as the end of a process does."""
        if self.pipeline:
            self.pipeline.close()
            self.pipeline.logs.close()

    def tick(self, times: int = 1, interval: float = 10.0) -> None:
        """Run ticks, one interval apart."""
        for _ in range(times):
            self.pipeline.tick_once()
            self.clock.now += interval

    def tick_days(self, days: int) -> None:
        """Run four ticks at this time of each of so many days."""
        for _ in range(days):
            self.tick(4)
            self.clock.now += 86_400 - 40

    def night(self) -> list[Path]:
        """Run the nightly job now; the paths of the reports it wrote."""
        night = Night(self.pipeline, self.make_report)
        paths = [Path(result.path) for result in night.report_due_days()]
        night.apply_retention()
        return paths

    def records(self, kind: str) -> list[dict]:
        """Everything written so far of one kind, parsed, in order."""
        return [orjson.loads(line) for day in self.folder.days(kind) for _, line in self.folder.lines(kind, day)]

    def events(self, *names: str) -> list[dict]:
        """The events of these names so far."""
        return [event for event in self.records("events") if event["event"] in names]

    def bytes_of(self, kind: str) -> dict[str, bytes]:
        """The files of one kind, by day."""
        return {day: self.folder.path(kind, day).read_bytes() for day in self.folder.days(kind)}
