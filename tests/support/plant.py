"""A plant: a folder with a config, a fixture of readings and a clock to set; ticks and nights by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson
import yaml

from etl.config import load as config
from etl.live.pipeline import Pipeline

FIXTURE = Path(__file__).parents[1] / "fixtures" / "readings.json"


RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""A folder in memory for many small files, if there is one; for `tempfile`."""


class Clock:
    """A wall clock that moves only when it is set (seconds since the epoch)."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Plant:
    """A folder with a config, a fixture of readings and a clock: ticks and nights by hand."""

    def __init__(self, root: Path, start: float, *, system=os, stdout=None, make_report=None, **settings) -> None:
        self.root = root
        self.make_report = make_report
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
        self.pipeline = Pipeline(self.loaded, self.clock, self.stdout, self.system, self.make_report)
        self.folder = self.pipeline.folder

    def close(self) -> None:
        """Close the files and transports, as the end of a process does."""
        if self.pipeline:
            self.pipeline.close()
            tick = self.pipeline.tick
            for appender in (tick._raw, tick._averages, self.pipeline.events._appender):
                appender.close()

    def tick(self, times: int = 1, interval: float = 10.0) -> None:
        """Run ticks, one interval apart."""
        for _ in range(times):
            self.pipeline.tick_once()
            self.clock.now += interval

    def night(self) -> list[Path]:
        """Run the nightly job now."""
        return self.pipeline.close_due_days()

    def records(self, kind: str) -> list[dict]:
        """Everything written so far of one kind, parsed, in order."""
        return [orjson.loads(line) for day in self.folder.days(kind) for _, line in self.folder.lines(kind, day)]

    def events(self, *names: str) -> list[dict]:
        """The events of these names so far."""
        return [event for event in self.records("events") if event["event"] in names]

    def bytes_of(self, kind: str) -> dict[str, bytes]:
        """The files of one kind, by day."""
        return {day: self.folder.path(kind, day).read_bytes() for day in self.folder.days(kind)}
