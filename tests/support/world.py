"""A whole process in simulated time: its scheduler, its pipeline, and the main thread that watches the clocks."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from threading import Event

import apscheduler.schedulers.base as scheduling
from apscheduler.executors.debug import DebugExecutor

from etl.cli import run
from etl.live.notifications.notifier import Notifier
from etl.live.schedule import GridTrigger, Schedule
from etl.live.systemd import Service
from etl.nightly.report import encode
from etl.readings.clock import Times
from etl.storage.settings_log import SettingsLog
from tests.support.reports import make_report
from tests.support.transport import Script

NOON = 1_795_348_800.0
"""2026-11-22T12:00:00Z."""
HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0
MIDNIGHT = NOON + DAY / 2


class Process:
    """The scheduler of a process in simulated time: it waits on the running time and reads the wall clock."""

    def __init__(self, clock, poll, nightly, monkeypatch, interval=10.0) -> None:
        class Now(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromtimestamp(clock(), tz)

        monkeypatch.setattr(scheduling, "datetime", Now)
        self.clock = clock
        self.monotonic, self.boot = 1000.0, 5000.0
        self.plan = []
        self.schedule = Schedule(interval, poll, nightly, clock)
        self.schedule.set_sources(["a"])
        self._scheduler = self.schedule._scheduler
        for alias in ("poll", "nightly"):
            self._scheduler.remove_executor(alias)
            self._scheduler.add_executor(DebugExecutor(), alias)
        self._scheduler._event = Event()
        scheduling.BaseScheduler.start(self._scheduler)
        self._wakes = self.monotonic

    def times(self) -> Times:
        return Times(self.clock.now, self.monotonic, self.boot)

    def at(self, seconds: float, what, *arguments) -> None:
        """Let something happen after so many seconds of running time."""
        self.plan.append((self.monotonic + seconds, what, arguments))

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock forward, or back."""
        self.clock.now += seconds

    def suspend(self, seconds: float) -> None:
        """The machine sleeps: the monotonic clock stops."""
        self.clock.now += seconds
        self.boot += seconds

    def stall(self, seconds: float) -> None:
        """The process alone is stopped, as by SIGSTOP."""
        self.suspend(seconds)
        self.monotonic += seconds

    def wait(self, seconds: float) -> None:
        """Let running time pass; the scheduler's thread does its work, a millisecond late."""
        over = self.monotonic + seconds
        while True:
            if self._scheduler._event.is_set() or self.monotonic >= self._wakes:
                self._scheduler._event.clear()
                self._wakes = self.monotonic + self._scheduler._process_jobs() + 0.001
            if self.monotonic >= over:
                return
            due, what, arguments = min(self.plan, default=(over, None, None), key=lambda entry: entry[0])
            step = max(0.0, min(over, self._wakes, due) - self.monotonic)
            self.stall(step)
            if what and self.monotonic >= due:
                self.plan.remove((due, what, arguments))
                what(*arguments)


class World(Process):
    """A whole process in simulated time: a pipeline, its schedule, and the main thread that watches the clocks."""

    def __init__(self, here, monkeypatch) -> None:
        self.here = here
        self.polls: list[float] = []
        self.asked = 0
        fire = GridTrigger.get_next_fire_time

        def counted(slot, previous, now):
            self.asked += 1
            return fire(slot, previous, now)

        monkeypatch.setattr(GridTrigger, "get_next_fire_time", counted)
        super().__init__(here.clock, self._poll, self._nightly, monkeypatch, here.loaded.config.interval)

    def _poll(self, names: list[str], due: float) -> None:
        self.polls.append(self.monotonic)
        self.here.pipeline.poller.poll(names, due)
        self.here.pipeline.writer.tick()

    def _nightly(self) -> None:
        self.here.night()

    def run(self, seconds: float) -> None:
        """Run the main thread, and with it everything, for so much running time."""
        over = self.monotonic + seconds
        self.stopping = lambda: self.monotonic >= over
        notifier = Notifier(self.here.pipeline.events.record)
        run.watch(run.Parts(self.here.pipeline, self.schedule, self, Service({}), notifier), self.times)
        self.here.pipeline.writer.tick()

    @staticmethod
    def take_reload() -> bool:
        return False

    def longest_silence(self) -> float:
        return max(b - a for a, b in pairwise([*self.polls, self.monotonic]))


def answer(here) -> None:
    here.pipeline.poller.use({"a": Script(here.clock)})


def check_reports(here, days: list[str]) -> None:
    """These days are reported, each once, and each report is what the raw log implies now."""
    assert here.folder.reports() == days
    assert [event["day"] for event in here.events("report")] == days
    for day in days:
        made = encode(make_report(SettingsLog(here.folder, here.loaded.settings), day))
        assert here.folder.report_path(day).read_bytes() == made


def restart(process: World, monkeypatch) -> World:
    """End the process, and start another one at the same moment."""
    here = process.here
    here.pipeline.writer.finish()
    reopen(here)
    return World(here, monkeypatch)


def reopen(here) -> None:
    """Open the pipeline again; without `finish` before, the process was killed."""
    here.close()
    here.open()
    answer(here)
