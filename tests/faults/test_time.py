"""Clock changes, suspends and missed nights: a process with simulated clocks, its threads run in turn."""

from __future__ import annotations

import os
import random
import signal
import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Event
from zoneinfo import ZoneInfo, available_timezones

import apscheduler.schedulers.base as scheduling
import orjson
import pytest
from apscheduler.executors.debug import DebugExecutor

from etl.cli import run
from etl.live import pipeline
from etl.live.notify import Notifier
from etl.live.schedule import NIGHTLY_INTERVAL_S, GridTrigger, Schedule
from etl.live.systemd import Service
from etl.nightly.due import due_days
from etl.nightly.report import encode
from etl.readings.clock import Times
from etl.readings.days import day_finder, length
from etl.storage.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.plant import FIXTURE, Clock
from tests.support.process import Site, end, until
from tests.support.reports import make_report
from tests.support.transport import Script

NOON = 1_795_348_800.0
"""2026-11-22T12:00:00Z."""
HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0
MIDNIGHT = NOON + DAY / 2
BEGIN, END = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2026, 2028))


def offset(zone: ZoneInfo, moment: float) -> float:
    return datetime.fromtimestamp(moment, zone).utcoffset().total_seconds()


def changes(name: str) -> list[int]:
    """The moments of 2026 and 2027 at which a zone's clocks change."""
    zone = ZoneInfo(name)
    days = range(BEGIN, END + 1, int(DAY))
    offsets = [offset(zone, day) for day in days]

    def within(day: int, before: float) -> int:
        return day + bisect_left(range(int(DAY)), True, key=lambda second: offset(zone, day + second) != before)

    steps = zip(days, pairwise(offsets), strict=False)
    return [within(day, before) for day, (before, after) in steps if before != after]


@pytest.fixture(scope="module")
def rule_sets() -> dict[str, list[int]]:
    """One zone for each set of daylight-saving rules, with the moments its clocks change."""
    found = {}
    for name in sorted(available_timezones()):
        if "/" in name and not name.startswith(("Etc/", "posix/", "right/", "SystemV/")) and (moments := changes(name)):
            zone = ZoneInfo(name)
            found.setdefault(tuple((moment, offset(zone, moment)) for moment in moments), (name, moments))
    assert len(found) > 25
    return dict(found.values())


class Polled:
    """The folder of a process that polls all the time: each day up to now has a raw log."""

    def __init__(self) -> None:
        self.raw: list[str] = []
        self.made: dict[str, float] = {}

    def days(self, _kind):
        return self.raw[-5:]

    def reports(self):
        return list(self.made)


def looks(zone: ZoneInfo, moments: list[int]) -> list[float]:
    """When to run the nightly job: around each midnight, and every quarter of an hour around each change."""
    first = date(2026, 1, 1)
    marks = [
        datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp()
        for day in (first + timedelta(days=n) for n in range((END - BEGIN) // int(DAY) + 2))
        for hour, minute in ((0, 4), (0, 6), (1, 7), (23, 58))
    ]
    return sorted({*marks, *(moment + minutes * 60.0 for moment in moments for minutes in range(-1560, 1560, 15))})


def nights(name: str, moments: list[int], *, restarted: bool) -> dict[str, datetime]:
    """Run the nightly rule at the fires of its trigger for two years; when, in local time, each day was reported."""
    zone = ZoneInfo(name)
    folder = Polled()
    restarts = sorted(moment + minutes * 60.0 for moment in moments for minutes in (-25, 25)) if restarted else []
    slot, day_of, previous = GridTrigger(NIGHTLY_INTERVAL_S), day_finder(zone), None
    for look in looks(zone, moments):
        while restarts and restarts[0] <= look:
            slot, day_of, previous = (
                GridTrigger(NIGHTLY_INTERVAL_S),
                day_finder(zone),
                datetime.fromtimestamp(restarts.pop(0), UTC),
            )
        previous = slot.get_next_fire_time(previous, datetime.fromtimestamp(look, UTC))
        now = previous.timestamp()
        if day_of(now) not in folder.raw:
            folder.raw.append(day_of(now))
        for day in due_days(folder, now, "00:05", zone):
            assert day not in folder.made
            folder.made[day] = now
    return {day: datetime.fromtimestamp(now, zone) for day, now in folder.made.items()}


@pytest.mark.parametrize("restarted", [False, True], ids=["long-lived", "restarted"])
def test_every_night_of_every_rule_set_has_one_report(rule_sets, restarted):
    """With each set of daylight-saving rules every day of two years is reported once, soon after its end."""
    wanted = [(date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(730)]
    for name, moments in rule_sets.items():
        made = nights(name, moments, restarted=restarted)
        assert [day for day in made if "2026" <= day < "2028"] == wanted, name
        for day, at in list(made.items())[1:]:
            assert at.date() == date.fromisoformat(day) + timedelta(days=1), (name, day)
            assert "00:05" <= f"{at:%H:%M}" <= "01:08", (name, day)


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


@pytest.mark.parametrize("restarted", [False, True], ids=["long-lived", "restarted"])
def test_no_poll_is_late_at_any_change_of_the_clocks(rule_sets, restarted, monkeypatch):
    """Through each change of each set of rules, in a process of that zone, polls stay one interval apart."""
    try:
        for name, moments in rule_sets.items():
            monkeypatch.setenv("TZ", name)
            time.tzset()
            for moment in moments:
                polls, clock = [], Clock(moment - 200.0)
                runs = [200.0, 200.0] if restarted else [400.0]
                for seconds in runs:
                    process = Process(
                        clock, lambda *_, polls=polls, clock=clock: polls.append(clock()), int, monkeypatch
                    )
                    process.wait(seconds)
                polls.append(clock())
                assert max(b - a for a, b in pairwise(polls)) < 10.01, (name, moment)
                assert len(polls) - restarted in (41, 42), (name, moment)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("day", "ticks"), [("2026-03-29", 8280), ("2026-10-25", 9000), ("2026-07-01", 8640)])
def test_a_day_of_23_or_25_hours_holds_its_ticks(day, ticks):
    """The slots that fall into a local day are as many as its length has intervals."""
    zone = ZoneInfo("Europe/Berlin")
    day_of, slot = day_finder(zone), GridTrigger(10, 3)
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=6)
    moment, stop = slot.get_next_fire_time(None, start), start + timedelta(hours=36)
    found = Counter()
    while moment < stop:
        found[day_of(moment.timestamp())] += 1
        moment = slot.get_next_fire_time(moment, moment)
    assert found[day] == ticks == length(day, zone) / 10


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


@pytest.fixture
def world(plant, monkeypatch):
    """Build a process with one source that answers always, in simulated time."""

    def build(start: float, **settings) -> World:
        here = plant(start, sources=[{"name": "a", "file": "a.json"}], **settings)
        answer(here)
        return World(here, monkeypatch)

    return build


def answer(here) -> None:
    here.pipeline.poller.use({"a": Script(here.clock)})


def told(here, *names: str) -> list[tuple]:
    return [(event["event"], event["reason"], round(event.get("seconds", 0))) for event in here.events(*names)]


def check_reports(here, days: list[str]) -> None:
    """These days are reported, each once, and each report is what the raw log implies now."""
    assert here.folder.reports() == days
    assert [event["day"] for event in here.events("report")] == days
    for day in days:
        made = encode(make_report(SettingsLog(here.folder, here.loaded.settings), day))
        assert here.folder.report_path(day).read_bytes() == made


STEPS = {"5 s": 5.0, "1 h": HOUR, "1 d": DAY, "1 y": YEAR}


@pytest.mark.parametrize("back", STEPS.values(), ids=STEPS)
def test_a_clock_set_back_stops_no_poll_and_repeats_no_report(world, back):
    """Set back after the night's report, polls go on, one event records it, and no day is reported or entered again."""
    process = world(MIDNIGHT - 600)
    here = process.here
    process.at(1203, process.set_clock, -back)
    process.at(3003, process.set_clock, back)
    process.at(3303, process.set_clock, DAY)
    process.run(3600)
    assert process.longest_silence() <= 20
    assert told(here, "clock_step", "gap") == [
        ("clock_step", "set back", back),
        ("clock_step", "set forward", back),
        ("gap", "set forward", back),
        ("clock_step", "set forward", DAY),
        ("gap", "set forward", DAY),
    ]
    assert here.folder.days("raw") == ["2026-11-22", "2026-11-23", "2026-11-24"]
    assert here.folder.days("events") == here.folder.days("raw")[1:]
    check_reports(here, ["2026-11-22", "2026-11-23"])


@pytest.mark.parametrize(
    ("what", "seconds", "events"),
    [
        ("set_clock", HOUR, [("clock_step", "set forward"), ("gap", "set forward")]),
        ("set_clock", DAY + 3, [("clock_step", "set forward"), ("gap", "set forward")]),
        ("set_clock", 10 * YEAR, [("clock_step", "set forward"), ("gap", "set forward")]),
        ("suspend", 8 * HOUR, [("gap", "suspended")]),
        ("stall", 8 * HOUR, [("gap", "stalled")]),
    ],
    ids=["1 h", "1 d", "10 y", "suspend", "stop"],
)
def test_missing_time_is_one_gap_and_one_poll(world, what, seconds, events):
    """Set forward, suspended or stopped, there is one gap event, no burst of polls, and the reports that came due."""
    process = world(MIDNIGHT - 6 * HOUR)
    here = process.here
    process.at(603, getattr(process, what), seconds)
    process.run(1200 + seconds * (what == "stall"))
    after = [poll for poll in process.polls if poll > 1603]
    assert after[0] - 1603 - seconds * (what == "stall") <= 20
    assert len(process.polls) <= 123
    assert process.asked < 6 * 150
    assert [(name, reason) for name, reason, _ in told(here, "clock_step", "gap")] == events
    missing = here.events("gap")[0]
    assert missing["seconds"] == pytest.approx(seconds, abs=21)
    assert here.folder.days("raw")[0] == "2026-11-22"
    check_reports(here, ["2026-11-22"] if seconds > 6 * HOUR else [])


def test_ten_years_later_and_back_again_the_newest_day_goes_on(world):
    """After a leap into the future and back the folder's day stays the newest, and every reading is kept in order."""
    process = world(NOON)
    here = process.here
    process.at(303, process.set_clock, 10 * YEAR)
    process.at(603, process.set_clock, -10 * YEAR)
    process.run(1200)
    assert process.longest_silence() <= 20
    assert here.folder.days("raw") == ["2026-11-22", "2036-11-19"]
    assert len(here.records("raw")) == len(here.records("averages")) == len(process.polls)
    check_reports(here, ["2026-11-22"])


def test_after_a_restart_with_the_clock_set_back_events_stay_in_the_newest_day(world, monkeypatch):
    """Started with a clock behind the folder's day, a process writes its events to the newest day's file."""
    process = world(MIDNIGHT - 60)
    here = process.here
    here.pipeline.events.record("start")
    process.run(600)
    before = here.bytes_of("events")["2026-11-22"]
    here.clock.now -= DAY
    process = restart(process, monkeypatch)
    here.pipeline.events.record("start")
    process.run(30)
    assert here.folder.days("events") == ["2026-11-22", "2026-11-23"]
    assert here.bytes_of("events")["2026-11-22"] == before
    assert here.records("events")[-1]["event"] == "start"


CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "America/Havana": ("2026-03-08T05:00Z", "2026-11-01T05:00Z"),
    "America/Santiago": ("2026-09-06T04:00Z", "2026-04-05T03:00Z"),
    "Australia/Lord_Howe": ("2026-10-03T15:30Z", "2026-04-04T15:00Z"),
}


@pytest.mark.parametrize("restarted", [False, True], ids=["long-lived", "restarted"])
@pytest.mark.parametrize("zone", CHANGES)
def test_a_process_goes_through_the_change_of_the_clocks(world, monkeypatch, zone, restarted):
    """A whole process through both changes writes each reading to its local day and reports each day once."""
    monkeypatch.setattr("etl.live.schedule.NIGHTLY_INTERVAL_S", 300.0)
    for change in CHANGES[zone]:
        start = datetime.fromisoformat(change).timestamp() - 25.5 * HOUR
        process = world(start, timezone=zone, interval="10m")
        here = process.here
        polls = 0
        for hours in (26, 26) if restarted else (52,):
            process.run(hours * HOUR)
            polls += len(process.polls)
            process = restart(process, monkeypatch)
        day_of = day_finder(here.loaded.zone)
        days = [day_of(start + n * 600) for n in range(52 * 6)]
        assert len(here.records("raw")) == polls
        for day in here.folder.days("raw"):
            lines = [orjson.loads(line)["_polled_at"] for _, line in here.folder.lines("raw", day)]
            assert {day_of(datetime.fromisoformat(at).timestamp()) for at in lines} == {day}
            assert 0 <= len(lines) - days.count(day) <= 1 + restarted
        check_reports(here, here.folder.days("raw")[:-1])


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


@pytest.mark.parametrize("down", [40 * 60.0, 3 * DAY], ids=["over midnight", "3 days"])
def test_a_missed_report_is_made_at_the_next_start(world, monkeypatch, down):
    """A process that was down when the report was due makes it within a minute of its start, with the same bytes."""
    steady = world(MIDNIGHT - 1200)
    steady.run(600)
    steady.here.clock.now = MIDNIGHT + 301
    (on_time,) = steady.here.night()
    missed = world(MIDNIGHT - 1200)
    missed.run(600)
    missed.here.clock.now += down
    missed = restart(missed, monkeypatch)
    missed.run(60)
    assert missed.here.folder.reports() == ["2026-11-22"]
    assert missed.here.folder.report_path("2026-11-22").read_bytes() == on_time.read_bytes()
    assert len(missed.here.folder.days("raw")) == 2


class Crash(BaseException):
    """The process is killed at this call."""


@pytest.mark.parametrize("detectors", [[], ["telemetry"]])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_process_killed_during_the_report_makes_it_at_the_next_start(plant, monkeypatch, call, detectors):
    """Killed at any step of writing there is no report; the next start writes the bytes that were due."""
    here = plant(MIDNIGHT - 100, report={"detectors": detectors})
    here.tick(20)
    here.clock.now = MIDNIGHT + 301
    wanted = encode(make_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22"))

    def die(*_, **__):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(os, call, die)
        with pytest.raises(Crash):
            here.night()
    assert here.folder.reports() == []
    here.close()
    here.open()
    here.tick()
    (path,) = here.night()
    assert path.read_bytes() == wanted
    left = [path.name for path in here.folder.reports_path.rglob("*") if path.is_file()]
    assert sorted(left) == ["2026-11-22.html", "2026-11-22.json", *["2026-11-22.msgpack"] * len(detectors)]


@pytest.mark.parametrize(
    ("start", "days"),
    [
        ("2028-02-28T23:59:45Z", ["2028-02-28", "2028-02-29"]),
        ("2028-02-29T23:59:45Z", ["2028-02-29", "2028-03-01"]),
        ("2027-02-28T23:59:45Z", ["2027-02-28", "2027-03-01"]),
        ("2026-12-31T23:59:45Z", ["2026-12-31", "2027-01-01"]),
        ("2038-01-19T03:14:00Z", ["2038-01-19"]),
        ("2038-01-19T23:59:45Z", ["2038-01-19", "2038-01-20"]),
        ("1970-01-01T00:00:00Z", ["1970-01-01"]),
    ],
)
def test_rare_dates_are_ordinary_days(world, monkeypatch, start, days):
    """Across a leap day, the end of a year and the 32-bit seconds each day has its lines and its report."""
    process = world(datetime.fromisoformat(start).timestamp())
    here = process.here
    process.run(30)
    assert here.folder.days("raw") == days
    process = restart(process, monkeypatch)
    process.run(DAY / 24)
    check_reports(here, days[:-1])
    assert here.records("averages")[-1]["readings"] == 5
    assert here.events("repaired", "truncated", "clock_step") == []
    for day in here.folder.reports():
        assert orjson.loads(here.folder.report_path(day).read_bytes())["machines"][0]["expected"] == 8640


@pytest.mark.parametrize(("year", "days"), [(2026, 365), (2028, 366), (2100, 365)])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe"])
def test_the_days_of_a_year_add_up(zone, year, days):
    """The lengths of a year's local days are together as long as the year."""
    first = date(year, 1, 1)
    lengths = [length((first + timedelta(days=n)).isoformat(), ZoneInfo(zone)) for n in range(days)]
    assert (first + timedelta(days=days)).year == year + 1
    assert sum(lengths) == days * DAY


ODD = [
    "2026-12-31T23:59:60Z", "2026-12-31T23:59:60Z", "2025-01-01T00:00:00Z", "2027-11-22T12:00:00+01:00",
    "2026-11-22T12:00:00", "22.11.2026 12:00", "", 1_795_348_800, 1_795_348_800_123, 1_795_348_800.5, 0,
    "1970-01-01T00:00:00Z", "2038-01-19T03:14:08Z", -1, False, ["2026"], {"at": 1}, "9999-12-31T23:59:59Z",
]  # fmt: skip


def test_a_readings_own_timestamp_is_passed_on_untouched(world):
    """Whatever is in `timestamp`, each poll is a reading of the day it was polled on, in polling order."""
    here = world(NOON).here
    script = here.pipeline.poller._transports["a"]
    for stamp in ODD:
        script.answers["a"] = orjson.dumps({"timestamp": stamp, "temperature": 20, "fan_speed": 9 + (stamp == 0)})
        here.pipeline.poller.poll(["a"])
        here.pipeline.writer.tick()
        here.clock.now += 10
    assert here.folder.days("raw") == ["2026-11-22"]
    for kind in ("raw", "averages"):
        assert [repr(line["timestamp"]) for line in here.records(kind)] == [repr(stamp) for stamp in ODD]
    here.clock.now = MIDNIGHT + 301
    (path,) = here.night()
    anomalies = orjson.loads(path.read_bytes())["machines"][0]["parameters"]["speed"]["anomalies"]
    assert anomalies == []
    assert here.events("rejected", "source_down") == []


def test_a_line_polled_in_a_leap_second_is_damaged_and_affects_no_other(plant):
    """`:60` in `_polled_at`, which this program never writes, makes a hand-made line a damaged one."""
    here = plant()
    here.tick(6)
    path = here.folder.path("raw", "2026-11-22")
    first, *rest = path.read_bytes().splitlines(keepends=True)
    at = orjson.loads(first)["_polled_at"]
    path.write_bytes(first.replace(at.encode(), at[:17].encode() + b"60.000Z") + b"".join(rest))
    here.open()
    here.tick()
    assert [line["readings"] for line in here.records("averages")] == [1, 2, 3, 4, 5, 5]
    report = make_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22")
    assert report["machines"][0]["readings"] == 6


@pytest.mark.parametrize("seed", range(3))
def test_every_reading_of_days_a_second_long_is_in_one_file(world, monkeypatch, seed):
    """With days of one second, restarts and kills among them, each reading is in its day's file, and only there."""
    chance = random.Random(seed)

    def day_of(moment: float) -> str:
        return (date(2026, 11, 22) + timedelta(days=int(moment - NOON))).isoformat()

    monkeypatch.setattr(pipeline, "day_finder", lambda _zone: day_of)
    here = world(NOON).here
    wanted = Counter()
    for n in range(300):
        script = here.pipeline.poller._transports["a"]
        script.answers["a"] = [b'{"temperature": 1, "n": %d}' % number for number in range(3 * n, 3 * n + 3)]
        wanted[day_of(round(here.clock.now, 3))] += 3
        here.pipeline.poller.poll(["a"])
        here.pipeline.writer.tick()
        here.clock.now += chance.choice([0.001, 0.25, 0.333, 0.5, 0.9997])
        if chance.random() < 0.05:
            reopen(here)
    numbers = []
    for day in here.folder.days("raw"):
        lines = [orjson.loads(line) for _, line in here.folder.lines("raw", day)]
        assert {day_of(datetime.fromisoformat(line["_polled_at"]).timestamp()) for line in lines} == {day}
        assert len(lines) == wanted[day]
        numbers += [line["n"] for line in lines]
    assert numbers == list(range(900))
    derivation = Derivation(SettingsLog(here.folder, here.loaded.settings))
    assert here.bytes_of("averages") == {day: b"".join(derivation.day(day)) for day in here.folder.days("raw")}


FAKETIME = [
    found
    for lib in ("/usr/lib", "/usr/local/lib")
    for pattern in ("faketime", "*/faketime")
    for found in Path(lib).glob(f"{pattern}/libfaketimeMT.so.1")
]


@pytest.fixture
def steady(tmp_path):
    """A config that reads a file five times a second."""
    site = Site(tmp_path)
    site.save(sources=[{"name": "file", "file": str(FIXTURE)}], api={"serve": False}, output={"stdout": []})
    return site


def more_lines(site: Site) -> None:
    """Wait until two more readings are written."""
    before = written(site)
    until(lambda: written(site) >= before + 2)


def written(site: Site) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (site.root / "output" / "raw").glob("*.jsonl"))


def jumps(site: Site, least: float = 0.0) -> list[tuple[str, str]]:
    """The events about the clock and about gaps of at least so many seconds, as (event, reason)."""
    paths = sorted((site.root / "output" / "events").glob("*.jsonl"))
    events = [orjson.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    return [
        (event["event"], event["reason"])
        for event in events
        if event["event"] in ("clock_step", "gap") and event["seconds"] >= least
    ]


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed: it sets the clock of one process")
@pytest.mark.parametrize(
    ("by", "events"),
    [
        (-5, [("clock_step", "set back")]),
        (-3600, [("clock_step", "set back")]),
        (-31_536_000, [("clock_step", "set back")]),
        (315_360_000, [("clock_step", "set forward"), ("gap", "set forward")]),
    ],
    ids=["-5 s", "-1 h", "-1 y", "+10 y"],
)
def test_the_clock_of_a_real_process_is_set(steady, monkeypatch, by, events):
    """A real process whose clock is set polls on, records it once, and goes on in the newest day."""
    setting = steady.root / "clock"
    setting.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(FAKETIME[0]))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(setting))
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    with steady.running() as process:
        until(lambda: written(steady) >= 2)
        days = sorted(os.listdir(steady.root / "output" / "raw"))
        (steady.root / "aside").write_text(f"{by:+d}")
        (steady.root / "aside").rename(setting)
        more_lines(steady)
        until(lambda: jumps(steady))
        more_lines(steady)
        end(process)
    for left in Path("/dev/shm").glob(f"*faketime_s*_{process.pid}"):
        left.unlink()
    assert [jump for jump in jumps(steady) if jump != ("gap", "stalled")] == events
    assert min(os.listdir(steady.root / "output" / "raw")) == days[0]


def test_a_real_process_that_was_stopped_records_the_gap(steady):
    """Stopped for some seconds and continued, the process polls on and one event says how long it was stopped."""
    with steady.running() as process:
        until(lambda: written(steady) >= 2)
        process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        until(lambda: time.monotonic() > stopped + 5)
        process.send_signal(signal.SIGCONT)
        more_lines(steady)
        until(lambda: jumps(steady, 5))
        end(process)
    assert jumps(steady, 5) == [("gap", "stalled")]
