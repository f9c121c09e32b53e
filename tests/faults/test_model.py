"""Any history against a model: every acknowledged reading, the day it belongs to, and all that follows from it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

import orjson
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from etl.config import load as config
from etl.nightly.report import contract, encode
from etl.readings.days import day_after, day_finder, due
from etl.readings.records import Failure
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.plant import RAM, Plant
from tests.support.reports import make_report
from tests.support.transport import Script

START = 1_795_392_000.0 - 3600
"""2026-11-22T23:00:00Z."""
SOURCES = ("a", "b")
CALLS = ("open", "write", "fsync", "replace", "ftruncate", "close", "symlink", "makedirs")
EVENTS = {"start", "stop", "settings", "gap", "source_down", "source_up", "rejected", "no_number",
          "repaired", "clock_step", "truncated", "dropped", "report"}  # fmt: skip


class Crash(BaseException):
    """The process is killed at this call."""


class System:
    """The module os: the calls in `failing` fail, and after `left` more calls one fails, or the process dies in it."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.left: int | None = None
        self.error = 0

    def __getattr__(self, name):
        function = getattr(os, name)
        if name not in CALLS:
            return function

        def call(*arguments, **named):
            if self.left is not None:
                self.left -= 1
            hit = self.left is not None and (self.left == -1 or (self.left < -1 and not self.error))
            if not hit and name not in self.failing:
                return function(*arguments, **named)
            if name == "write":
                function(arguments[0], arguments[1][: len(arguments[1]) // 2])
            elif name == "close":
                function(*arguments)
            if hit and not self.error:
                raise Crash
            error = self.error if hit else self.failing[name]
            raise OSError(error, os.strerror(error))

        return call


class Acknowledged:
    """Takes lines as stdout does, and remembers the numbers of the readings."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def put(self, lines):
        self.numbers += [orjson.loads(line)["n"] for line in lines if b'"_source"' in line]


values = st.sampled_from([20, 21.5, 0.1, 0.2, -0.0, 1e300, -1e300, 1e301, None, True, "21.5", [1]])
readings = st.fixed_dictionaries(
    {"temperature": values},
    optional={"fan_speed": values, "id": st.sampled_from([1, "1", 1.5, None]), "timestamp": st.sampled_from(["t", 0])},
)
broken = st.sampled_from([b"", b"<html>", b"[1, 2]", b'{"temperature": NaN}', b'"text"', b'{"n": 1'])
answers = st.lists(readings | readings | broken, max_size=3)
"""The answers of a source to one poll; an empty list is a failure."""
polls = st.tuples(answers, answers)
sound = st.tuples(*[st.lists(readings, min_size=1, max_size=2)] * 2)
steps = st.sampled_from([10.0, 600.0, 3700.0, 20_000.0, 86_400.0, 200_000.0, -5.0, -5000.0, -86_400.0])
failing = st.sampled_from(
    [
        {"write": errno.ENOSPC},
        {"fsync": errno.EIO},
        {"open": errno.EACCES},
        {"write": errno.EIO, "ftruncate": errno.EIO},
        dict.fromkeys(CALLS, errno.EROFS),
    ]
)
changes = st.fixed_dictionaries(
    {},
    optional={
        "window": st.sampled_from([1, 3, 5]),
        "parameters": st.sampled_from([{"t": "temperature"}, {"t": "temperature", "speed": "fan_speed"}]),
        "report": st.fixed_dictionaries({"threshold": st.sampled_from([0.0, 0.2])}),
        "output": st.sampled_from([{"compress": "gzip"}, {}, {"keep_days": 1}, {"keep_days": 2, "compress": "gzip"}]),
    },
)
reloadable = st.sampled_from([{"report": {"threshold": 0.1, "at": "00:30"}}, {"output": {"compress": "gzip"}}])


class History(RuleBasedStateMachine):
    """A process, its folder and its disk; `kept` has the readings of the raw log, as (day, number), in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(mkdtemp(dir=RAM))
        self.system = System()
        self.printed = Acknowledged()
        sources = [{"name": name, "file": f"{name}.json"} for name in SOURCES]
        self.here = Plant(
            self.root, START, system=self.system, stdout=self.printed, sources=sources, report={"detectors": []}
        )
        self.folder = self.here.folder
        self.day_of = day_finder(self.here.loaded.zone)
        self.count = 0
        self.moved = 0
        self.kept: list[tuple[str, int]] = []
        self.waiting: list[tuple[str, int]] = []
        self.reports: dict[str, bytes | None] = {}
        self._begin()

    # What is done

    @initialize(change=changes)
    def first_config(self, change):
        """The folder begins with this config."""
        self.restart(change)

    @rule(ticks=st.lists(polls, min_size=1, max_size=5))
    def tick(self, ticks):
        """Every source is polled, some times."""
        for outcomes in ticks:
            self._poll(outcomes)
            self._write()
            self.here.clock.now += 10

    @rule(seconds=steps)
    def advance(self, seconds):
        """Time passes without a poll, or the clock is set."""
        self.here.clock.now += seconds

    @rule(before=sound, after=polls, days=st.integers(1, 3), back=st.sampled_from([0, 0, 3600, 200_000]))
    def midnight(self, before, after, days, back):
        """A day ends with a poll before and perhaps after midnight; later the nightly job runs, or the clock is set."""
        ends = date.fromisoformat(day_after(self.day))
        self.here.clock.now = datetime(ends.year, ends.month, ends.day, tzinfo=UTC).timestamp() - 5
        self.tick([before, after])
        self.here.clock.now += days * 86_400
        self.night()
        self.here.clock.now -= back
        self.tick([before])

    @rule()
    def night(self):
        """The nightly job runs: every due day that nothing waits for is reported."""
        self._write()
        at = self.here.loaded.config.report.at
        days = [day for day in self.folder.days("raw") if day not in self.reports]
        wanted = [day for day in days if due(day, at, self.here.loaded.zone) <= self.here.clock()]
        made = [path.stem for path in self.here.night()]
        assert made == wanted or (self._stuck() and set(made) < set(wanted))
        for day in made:
            self.day = max(self.day, day_after(day))
            self.reports[day] = self._report(day)
        self._forget_deleted()
        self._write()

    @rule(change=changes)
    def restart(self, change):
        """The process ends as asked and starts with this config."""
        self.here.pipeline.writer.finish()
        self._take_acknowledged()
        self.here.config |= change
        self._reopen()

    @rule(outcomes=polls, calls=st.integers(0, 25))
    def crash(self, outcomes, calls):
        """The process is killed in a tick, in one of its calls of the system, or after it."""
        self._poll(outcomes)
        self._write_with(calls, 0)
        self._reopen()

    @rule(outcomes=polls, calls=st.integers(0, 25), error=st.sampled_from([errno.EIO, errno.ENOSPC, errno.EINTR]))
    def hiccup(self, outcomes, calls, error):
        """One call of the system fails in a tick."""
        self._poll(outcomes)
        self._write_with(calls, error)
        self._write()
        self.here.clock.now += 10

    @rule(change=reloadable, outcomes=sound, calls=failing, meddled=st.booleans())
    def reload(self, change, outcomes, calls, meddled):
        """The config is reloaded, while the disk fails or before somebody cuts the raw log."""
        if not meddled:
            self.system.failing = calls
            self.tick([outcomes])
        self._reload(change)
        if not meddled:
            self.disk_heals()
        elif not self._stuck() and not self.system.failing:
            self.disturb("raw", "cut", 0.9, outcomes, dies=False)

    @rule(calls=failing)
    def disk_fails(self, calls):
        """From now on these calls of the system fail."""
        self.system.failing = calls

    @precondition(lambda self: self.system.failing)
    @rule()
    def disk_heals(self):
        """The disk works again."""
        self.system.failing = {}
        self._write()

    @precondition(lambda self: not self._stuck() and not self.system.failing)
    @rule(
        kind=st.sampled_from(["raw", "averages", "events"]),
        how=st.sampled_from(["cut", "delete", "rename", "garbage"]),
        part=st.floats(0, 1),
        outcomes=sound,
        dies=st.booleans(),
    )
    def disturb(self, kind, how, part, outcomes, dies):
        """Somebody cuts, deletes, renames or lengthens a newest file; then there is a start, or readings come."""
        day = max(self.folder.days(kind), default="")
        path = self.folder.path(kind, day)
        if not path.exists():
            return
        if how == "cut":
            os.truncate(path, int(path.stat().st_size * part))
        elif how == "delete":
            path.unlink()
        elif how == "rename":
            self.moved += 1
            path.rename(path.with_suffix(f".moved-{self.moved}"))
        else:
            with path.open("ab") as file:
                file.write([b'{"half', b"\0\0\0\n", b"[]\n{"][int(part * 2.99)])
        if kind == "raw":
            self.kept = self._numbers()
            if day in self.reports:
                self.reports[day] = None
        newest = max(self.folder.days("raw"), default="")
        if dies or max(self.day, self.day_of(self.here.clock())) > newest or kind == "events":
            self._reopen()
        else:
            self.tick([outcomes])

    def teardown(self):
        """Whatever happened, with a sound disk a start repairs everything."""
        self.system.failing = {}
        self.system.left = None
        try:
            self._write()
            self._reopen()
            self.check()
        finally:
            self.here.close()
            self._abandon()
            shutil.rmtree(self.root)

    # What must hold

    @invariant()
    def check(self):
        """Each acknowledged reading is there once, in its day; averages, reports and events are as promised."""
        there = self._numbers()
        assert there[: len(self.kept)] == self.kept
        assert set(self.folder.reports()) == set(self.reports)
        for day, report in self.reports.items():
            assert report is None or (report == self._report(day) and _figures(report) == self._made(day))
        for day in self.folder.days("events"):
            for _, line in self.folder.lines("events", day):
                assert orjson.loads(line)["event"] in EVENTS
        if not self._stuck():
            assert there == self.kept
            derivation = Derivation(SettingsLog(self.folder, self.here.loaded.settings))
            days = self.folder.days("raw")
            oldest = min(set(self.folder.days("averages")) & set(days), default="")
            for day in days:
                derived = b"".join(derivation.day(day))
                assert derived == self._bytes("averages", day) or (day < oldest and day in self.reports), day

    # How

    def _poll(self, outcomes) -> None:
        for name, outcome in zip(SOURCES, outcomes, strict=True):
            self.script.answers[name] = [self._body(item) for item in outcome] or Failure("refused", "refused")
        self.here.pipeline.poller.poll(SOURCES)

    def _body(self, item) -> bytes:
        if isinstance(item, bytes):
            return item
        self.count += 1
        self.day = max(self.day, self.day_of(round(self.here.clock(), 3)))
        self.waiting.append((self.day, self.count))
        return orjson.dumps(item | {"n": self.count})

    def _write(self) -> None:
        self.here.pipeline.writer.tick()
        self._take_acknowledged()
        assert self._stuck() or not self.waiting
        assert self._stuck() <= bool(self.system.failing)

    def _write_with(self, calls: int, error: int) -> None:
        self.system.left, self.system.error = calls, error
        with suppress(Crash):
            self.here.pipeline.writer.tick()
        self.system.left = None
        self._take_acknowledged()

    def _forget_deleted(self) -> None:
        """Forget the days that `keep_days` deleted: only reported ones that are old enough."""
        days = set(self.folder.days("raw"))
        gone = {day for day, _ in self.kept} - days
        gone |= {day for day, report in self.reports.items() if report is not None} - days
        keep = self.here.loaded.config.output.keep_days
        assert not gone or keep
        today = date.fromisoformat(self.day_of(self.here.clock()))
        for day in gone:
            assert day in self.reports
            assert date.fromisoformat(day) < today - timedelta(days=keep)
            self.reports[day] = None
        self.kept = [(day, number) for day, number in self.kept if day in days]

    def _take_acknowledged(self) -> None:
        """Printed readings were waiting, in this order, and are kept from now on."""
        count = len(self.printed.numbers)
        assert self.printed.numbers == [number for _, number in self.waiting[:count]]
        self.kept += self.waiting[:count]
        del self.waiting[:count]
        self.printed.numbers.clear()

    def _reopen(self) -> None:
        """Restart; readings that were not acknowledged may be in the raw log, the first of them first."""
        self.here.close()
        self._abandon()
        self.here.open()
        self._begin()

    def _reload(self, change) -> None:
        self.here.config |= change
        path = self.root / "config.yaml"
        path.write_text(yaml.safe_dump(self.here.config))
        self.here.loaded = config.load(path)
        self.here.pipeline.reload(self.here.loaded)
        self._use_script()
        self._write()

    def _abandon(self) -> None:
        """Close the files of a process that is gone."""
        self.here.pipeline.logs.close()

    def _begin(self) -> None:
        self._use_script()
        later = [day for day, _ in self.kept[-1:]] + [day_after(day) for day in self.reports]
        self.day = max([self.day_of(self.here.clock()), *self.folder.days("raw")[-1:], *later])
        self.here.pipeline.writer.tick()
        there = self._numbers()
        more = there[len(self.kept) :]
        assert more == self.waiting[: len(more)]
        self.kept, self.waiting = there, []
        self.day = max([self.day, *(day for day, _ in more)])

    def _use_script(self) -> None:
        self.script = Script(self.here.clock)
        self.here.pipeline.poller.use(dict.fromkeys(SOURCES, self.script))

    def _stuck(self) -> bool:
        return self.here.pipeline.standing.stuck is not None

    def _numbers(self) -> list[tuple[str, int]]:
        """The readings in the raw log, without lines that others wrote there."""
        lines = [(day, line) for day in self.folder.days("raw") for _, line in self.folder.lines("raw", day)]
        return [(day, orjson.loads(line)["n"]) for day, line in lines if b'"_source"' in line]

    def _bytes(self, kind: str, day: str) -> bytes:
        try:
            with self.folder.open(kind, day) as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _report(self, day: str) -> bytes:
        return self.folder.report_path(day).read_bytes()

    def _made(self, day: str) -> bytes:
        return encode(contract(make_report(SettingsLog(self.folder, self.here.loaded.settings), day)))


def _figures(report: bytes) -> bytes:
    """A report without its incidents, which depend on days that were deleted or disturbed."""
    return encode(contract(orjson.loads(report)))


def test_any_history_keeps_the_promises(pytestconfig, caplog):
    """After polls, nights, kills, restarts, disk errors and disturbances in any order, every promise holds."""
    caplog.set_level(logging.CRITICAL)
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=pytestconfig.getoption("--examples"),
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
