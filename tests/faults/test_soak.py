"""Simulated days with faults: nothing lost, nothing doubled, and no growth in files, threads or memory."""

from __future__ import annotations

import errno
import gc
import logging
import os
import random
import shutil
import threading
from collections import Counter
from functools import partial
from hashlib import blake2b
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import pytest

from etl.live.children.night import in_child
from etl.nightly.report import encode
from etl.readings.days import due
from etl.readings.records import Failure
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.plant import RAM, Plant
from tests.support.reports import make_report
from tests.support.transport import Script

START = 1_795_370_400.0
"""2026-11-22T18:00:00Z."""
HOUR = 360
"""Ticks of an hour."""
SOURCES = ("a", "b", "c")
GROWTH = 5 << 20
"""Bytes the process may grow by, at most, at any hour after its second day (after half of a shorter run)."""


class Disk:
    """The module os; while the disk is full, a write takes half of its data, then fails."""

    def __init__(self) -> None:
        self.full = False

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, fd, data):
        if not self.full:
            return os.write(fd, data)
        os.write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Sum:
    """A checksum of raw lines in their order; takes them as stdout does."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = blake2b()

    def put(self, lines):
        for line in lines:
            if b'"_source"' in line:
                self.count += 1
                self._sum.update(line)

    def result(self) -> tuple[int, str]:
        return self.count, self._sum.hexdigest()


class Used(NamedTuple):
    """Resources of this process."""

    memory: int
    files: int
    threads: int


def used() -> Used:
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Used(resident, len(os.listdir("/proc/self/fd")), threading.active_count())


class Machines(Script):
    """Three machines that answer with numbered readings, but for those that are ill."""

    def __init__(self, clock) -> None:
        super().__init__(clock)
        self.ill = {}
        self.sent = 0

    def deliver(self, name, deliver):
        values = (35 if self.sent % 999 == 0 else 20 + self.sent % 3, 900 + self.sent % 60, self.sent)
        sound = b'{"id":1,"temperature":%d.25,"fan_speed":%d,"n":%d}' % values
        self.answers[name] = self.ill.get(name, sound)
        self.sent += name not in self.ill
        super().deliver(name, deliver)

    def heal(self) -> None:
        self.ill.clear()
        self.hanging.clear()
        while self.pending:
            self.deliver(*self.pending.pop())


class Soak:
    """Machines polled for days, and the faults."""

    def __init__(self, root: Path) -> None:
        self.chance = random.Random(29)
        self.disk = Disk()
        self.printed = Sum()
        self.moved: list[Path] = []
        self.step = 0.0
        self.faults: Counter[str] = Counter()
        self.samples: list[Used] = []
        sources = [{"name": name, "file": f"{name}.json"} for name in SOURCES]
        output = {"fsync": "never", "compress": "gzip"}
        self.here = Plant(
            root, START, system=self.disk, stdout=self.printed, make_report=partial(in_child, stopping=lambda: False),
            sources=sources, output=output,
        )  # fmt: skip
        self.machines = Machines(self.here.clock)
        self.here.pipeline.poller.use(dict.fromkeys(SOURCES, self.machines))

    def run(self, hours: float) -> None:
        """Tick, with a fault every hundred ticks or so, over after 25 ticks; look at the process every hour."""
        next_fault = 100
        for n in range(1, round(hours * HOUR) + 1):
            self.tick()
            if n == next_fault:
                fault = self.chance.choice(FAULTS)
                self.faults[fault.__name__] += 1
                fault(self)
            elif n == next_fault + 25:
                self.heal()
                next_fault += self.chance.randint(50, 150)
            if n % 6 == 0:
                self.here.night()
            if n % HOUR == 0:
                self.samples.append(used())
        self.heal()
        self.tick()
        self.here.pipeline.writer.finish()
        self.here.night()

    def tick(self) -> None:
        self.here.pipeline.poller.poll(SOURCES)
        self.here.pipeline.writer.tick()
        self.here.clock.now += 10

    def heal(self) -> None:
        self.machines.heal()
        self.disk.full = False
        self.here.clock.now -= self.step
        self.step = 0.0

    def source_down(self) -> None:
        self.machines.ill["a"] = Failure("refused", "connection refused")

    def source_sends_garbage(self) -> None:
        self.machines.ill["b"] = b"<html>busy</html>"

    def source_hangs(self) -> None:
        self.machines.hanging.add("c")

    def disk_full(self) -> None:
        self.disk.full = True

    def clock_steps(self) -> None:
        self.step = self.chance.choice([-3600.0, -5.0, 3600.0])
        self.here.clock.now += self.step

    def restart(self) -> None:
        self.here.pipeline.writer.finish()
        self.killed()

    def killed(self) -> None:
        self.here.pipeline.logs.close()
        self.here.close()
        self.here.open()
        self.here.pipeline.poller.use(dict.fromkeys(SOURCES, self.machines))

    def file_renamed(self) -> None:
        kind = self.chance.choice(["raw", "averages", "events"])
        path = self.here.folder.path(kind, self.here.folder.days(kind)[-1])
        if path.exists():
            moved = path.with_name(f"{path.name}.{len(self.moved):04}")
            path.rename(moved)
            self.moved.append(moved)
            self._next_tick()

    def averages_cut(self) -> None:
        path = self.here.folder.path("averages", self.here.folder.days("averages")[-1])
        os.truncate(path, path.stat().st_size // 2)
        self._next_tick()

    def _next_tick(self) -> None:
        """Tick before the day can change: a file that no line goes to any more is not looked at."""
        self.here.clock.now -= 10
        self.tick()

    def raw(self):
        """Every raw line in the order they were written, those in renamed files among them."""
        folder = self.here.folder
        for day in folder.days("raw"):
            for path in self.moved:
                if path.parent.name == "raw" and path.name.startswith(day):
                    yield path.read_bytes().splitlines(keepends=True)
            yield [line for _, line in folder.lines("raw", day)]


FAULTS = [
    Soak.source_down, Soak.source_sends_garbage, Soak.source_hangs, Soak.disk_full, Soak.clock_steps, Soak.restart,
    Soak.killed, Soak.file_renamed, Soak.averages_cut,
]  # fmt: skip


@pytest.fixture
def soak():
    root = Path(mkdtemp(dir=RAM))
    soak = Soak(root)
    yield soak
    soak.here.close()
    shutil.rmtree(root)


def check_folder(here, printed: Sum, raw) -> None:
    """Every acknowledged line once, in order; averages follow; each closed day has its report, with the same bytes."""
    there = Sum()
    for lines in raw:
        there.put(lines)
    assert there.result() == printed.result()
    derivation = Derivation(SettingsLog(here.folder, here.loaded.settings))
    days = here.folder.days("raw")
    for day in days:
        derived = blake2b(b"".join(derivation.day(day)))
        with here.folder.open("averages", day) as file:
            assert blake2b(file.read()).digest() == derived.digest(), day
    at, zone = here.loaded.config.report.at, here.loaded.zone
    assert here.folder.reports() == [day for day in days if due(day, at, zone) <= here.clock()]
    for day in here.folder.reports():
        assert here.folder.report_path(day).read_bytes() == encode(
            make_report(SettingsLog(here.folder, here.loaded.settings), day)
        )


def test_days_of_faults_leave_everything_whole(soak, pytestconfig, caplog):
    """Days with a fault every hundred ticks: nothing is lost or doubled, each report is made, nothing grows."""
    caplog.set_level(logging.CRITICAL)
    days = pytestconfig.getoption("--soak")
    soak.run(days * 24)
    check_folder(soak.here, soak.printed, soak.raw())
    assert soak.printed.count == soak.machines.sent
    assert soak.here.events("truncated", "repaired", "source_down", "dropped")
    span = min(48, len(soak.samples) // 2)
    begun, later = soak.samples[:span], soak.samples[span:]
    growth = max(sample.memory for sample in later) - later[0].memory
    print(f"\n{days:g} days, {soak.printed.count:,} readings, {dict(soak.faults)}: grown by {growth / 2**20:.1f} MB")
    assert growth < GROWTH
    for what in ("files", "threads"):
        assert max(getattr(sample, what) for sample in soak.samples) == max(getattr(sample, what) for sample in begun)
