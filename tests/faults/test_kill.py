"""Killed at any moment, again and again: every printed line is in the folder, once; the rest follows from it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from etl.config import load as config
from etl.nightly.due import due_days
from etl.nightly.report import encode
from etl.readings.alarms.fold import AlarmFold, alarm_line
from etl.readings.answers import parse
from etl.readings.lines import settings_line
from etl.readings.records import SettingsEntry
from etl.storage.folder import KINDS, Folder
from etl.storage.latest import last_positions
from etl.storage.places import last_lines
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.days import write_big_day
from tests.support.process import Site, end, free_port, not_refused, until
from tests.support.reports import make_report

KILLS = 25
"""Kills one folder lives through."""
CHANGES = {
    "settings change": "settings.jsonl",
    "report": "reports",
    "compression": "raw",
    "write of readings": "raw.jsonl",
    "write of averages": "averages.jsonl",
    "print": "../stdout",
}
"""Moments to kill, and the file or folder in the output folder that changes just then."""


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        kills = metafunc.config.getoption("--kills")
        metafunc.parametrize("seed", range(-(-kills // KILLS)))


@pytest.fixture(scope="module")
def api():
    """The simulated machines in a process of their own; its port."""
    site = Site(Path())
    with subprocess.Popen(
        [sys.executable, "-m", "api", "--port", str(site.port)], stderr=subprocess.DEVNULL
    ) as process:
        until(lambda: not_refused(site))
        yield site.port
        process.terminate()


def stat(path: Path) -> tuple[int, int]:
    """Size and time of a file or a folder: they differ after a change."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def changed(path: Path, before: tuple[int, int]) -> bool:
    """Watch a file or a folder closely until it changes, 2 seconds at most; whether it did."""
    deadline = time.monotonic() + 2
    while stat(path) == before and time.monotonic() < deadline:
        pass
    return stat(path) != before


class Machine:
    """Appends numbered readings to a file, often with the last line unfinished."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.count = 0
        self._path = path
        self._chance = chance
        self._rest = b""
        path.touch()

    def write(self, lines: int) -> None:
        data = self._rest + b"".join(
            b'{"n":%d,"id":%d,"temperature":%d.5,"fan_speed":%d}\n' % (n, n % 3, 20 + n % 7, n % 11)
            for n in range(self.count, self.count + lines)
        )
        self.count += lines
        end = len(data) - self._chance.choice((0, 0, 1, 20))
        with self._path.open("ab") as file:
            file.write(data[:end])
        self._rest = data[end:]

    def finish(self) -> None:
        self._rest, rest = b"", self._rest
        with self._path.open("ab") as file:
            file.write(rest)


class Rig:
    """A folder, its machines, and the process that is killed; the lines it printed are remembered."""

    def __init__(self, root: Path, seed: int, api: int) -> None:
        self.site = Site(root)
        self.folder = Folder(root / "output")
        self.stdout = root / "stdout"
        self.chance = random.Random(seed)
        self.printed = 0
        self.known: dict[str, bytes] = {}
        self.places: dict[bytes, list[tuple[str, int]]] = {}
        self.followed: Counter[str] = Counter()
        self.averages: set[bytes] = set()
        self.reports: dict[str, bytes] = {}
        self.closed: dict[str, bytes] = {}
        self.seen: Counter[str] = Counter()
        (root / "array.json").write_bytes(orjson.dumps([{"n": n, "temperature": n, "fan_speed": 5} for n in range(9)]))
        (root / "object.json").write_bytes(b'{"id":7,"temperature":21.5,"fan_speed":800}')
        self.machines = {name: Machine(root / f"{name}.jsonl", self.chance) for name in ("trickle", "bursts")}
        self.site.save(
            interval="100ms",
            timezone="UTC",
            alarms=[
                {"name": "warm", "parameter": "temperature", "above": 23, "deadband": 0.5},
                {"name": "slow", "parameter": "speed", "below": 5, "for": "200ms", "sources": "[tba]*"},
            ],
            sources=[
                {"name": "array", "file": "array.json"},
                {"name": "object", "file": "object.json"},
                *({"name": name, "file": f"{name}.jsonl"} for name in self.machines),
                {"name": "machine", "url": f"http://127.0.0.1:{api}/data"},
            ],
        )
        self.change()
        self.folder.root.mkdir()
        self.folder.settings_path.write_bytes(settings_line(SettingsEntry("2026-01-01", 1, self.settings)))

    def change(self) -> None:
        """Another config, for the next start."""
        self.site.save(
            window=7 - self.site.config.get("window", 3 + self.chance.randrange(2)),
            report={"threshold": self.chance.choice((0.2, 0.5))},
            output={
                "fsync": self.chance.choice(("always", "10s", "never")),
                "compress": self.chance.choice((None, "gzip", "gzip")),
            },
            api={"serve": self.chance.random() < 0.2, "port": free_port()},
        )
        self.loaded = config.load(self.site.root / "config.yaml")
        self.settings = self.loaded.settings

    def close_a_day(self) -> None:
        """Add a closed day to the folder, without averages and without a report."""
        day = f"2026-01-{len(self.closed) + 1:02d}"
        self.closed[day] = b"".join(
            b'{"n":%d,"temperature":%d,"fan_speed":5,"_source":"m","_polled_at":"%bT10:%02d:%02d.%03dZ"}\n'
            % (n, 20 + 40 * (n % 5 == 2), day.encode(), n // 60_000, n // 1000 % 60, n % 1000)
            for n in range(2000)
        )
        path = self.folder.path("raw", day)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.closed[day])

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen]:
        """The process, killed in the end; the lines it printed are remembered."""
        with (
            self.stdout.open("wb") as out,
            (self.site.root / "stderr").open("wb") as errors,
            subprocess.Popen(
                [sys.executable, "-m", "etl", "run"], cwd=self.site.root, stdout=out, stderr=errors
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()
        lines = [line for line in self.stdout.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        self.fresh = [line for line in lines if b'"_source":' in line]
        self.printed += len(self.fresh)
        self.averages.update(line for line in lines if b'"_source":' not in line)
        assert b"Traceback" not in (self.site.root / "stderr").read_bytes()

    def strike(self) -> None:
        """Start the process and kill it: up to a second later, just when a file changes, or while it polls."""
        moment = self.chance.choice(("any", "any", "working", "working", *CHANGES))
        if moment in ("report", "compression"):
            self.close_a_day()
        if moment == "settings change" or self.chance.random() < 0.4:
            self.change()
        path = self.folder.root / CHANGES.get(moment, "")
        before = stat(path)
        with self.running():
            if moment == "any":
                self.live(self.chance.betavariate(2, 3))
            elif moment == "working":
                self.live(2, self.prints)
                self.live(self.chance.random() / 4)
            else:
                self.live(0.15)
                if moment in ("write of readings", "write of averages", "print"):
                    self.live(2, self.prints)
                    before = stat(path)
                    self.machines["bursts"].write(2500)
                self.seen[f"during a {moment}"] += changed(path, before)
                time.sleep(self.chance.choice((0, 0, 0.001, 0.01)))

    def live(self, seconds: float, ended: Callable[[], bool] = lambda: False) -> None:
        """Let the machines write for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not ended():
            self.machines["trickle"].write(1)
            if self.chance.random() < 0.1:
                self.machines["bursts"].write(self.chance.randrange(100))
            time.sleep(0.01)

    def prints(self) -> bool:
        """Whether the process has printed something since its start."""
        return stat(self.stdout)[0] > 0

    def check(self) -> None:
        """Without a process: raw lines are unchanged, printed ones are there once, followed files in order."""
        self.note()
        for day in self.folder.days("raw"):
            data = b"".join(line for _, line in self.folder.lines("raw", day))
            known = self.known.get(day, b"")
            assert data.startswith(known)
            self.known[day] = data
            for number, line in enumerate(data[len(known) :].splitlines(keepends=True), known.count(b"\n") + 1):
                self.enter(line, (day, number))
        settings_log = SettingsLog(self.folder, self.settings)
        for line, times in Counter(self.fresh).items():
            assert times <= len(self.places[line])
            assert settings_log.at(*self.places[line][-1]) == self.settings
        for kind in ("averages", "events"):
            assert all(parse(line) for line in last_lines(self.folder, kind, 1 << 16))
        for day in self.folder.reports():
            report = self.folder.report_path(day).read_bytes()
            if day not in self.reports:
                self.reports[day] = encode(make_report(SettingsLog(self.folder, self.settings), day))
            assert report == self.reports[day]

    def enter(self, line: bytes, place: tuple[str, int]) -> None:
        """Note a new raw line: numbered ones are there once, and those of followed files in order."""
        raw = orjson.loads(line)
        places = self.places.setdefault(line, [])
        places.append(place)
        assert len(places) == 1 or "n" not in raw
        if raw["_source"] in self.machines:
            assert raw["n"] == self.followed[raw["_source"]] < self.machines[raw["_source"]].count
            self.followed[raw["_source"]] += 1

    def note(self) -> None:
        """Count the traces a kill left."""
        files = [path for kind in (*KINDS, "reports") for path in (self.folder.root / kind).glob("*")]
        plain = [path for path in files if path.suffix == ".jsonl"]
        lines = {kind: self.folder.count(kind, max(self.folder.days("raw"), default="")) for kind in KINDS}
        self.seen["a torn line"] += any(path.stat().st_size and path.read_bytes()[-1:] != b"\n" for path in plain)
        self.seen["averages missing"] += lines["averages"] < lines["raw"]
        self.seen["an unfinished file"] += any(path.suffix == ".tmp" for path in files)
        self.seen["nothing printed"] += not self.fresh


def test_nothing_is_lost_and_nothing_doubled_by_kills(tmp_path, seed, api):
    """Killed at any moment, no printed line is lost or doubled; in the end everything follows from the raw log."""
    rig = Rig(tmp_path, seed, api)
    for _ in range(KILLS):
        rig.strike()
        rig.check()
    finish(rig)
    print(f"{KILLS} kills, {rig.printed} readings printed; found: {dict(sorted(rig.seen.items()))}")


def finish(rig: Rig) -> None:
    """Start and end the process a last time, and check the whole folder."""
    for machine in rig.machines.values():
        machine.finish()
    folder = rig.folder
    sizes = {name: (rig.site.root / f"{name}.jsonl").stat().st_size for name in rig.machines}
    rig.change()

    def is_read() -> bool:
        positions = last_positions(folder, rig.machines.keys())
        return {name: position.offset for name, position in positions.items()} == sizes

    with rig.running() as process:
        until(lambda: rig.prints() and is_read() and not due(rig))
        end(process)
    rig.check()
    settings_log = SettingsLog(folder, rig.settings)
    derivation = Derivation(settings_log)
    derivation.alarms = AlarmFold(settings_log.at(folder.days("raw")[0], 0))
    for day in folder.days("raw"):
        assert b"".join(derivation.day(day)) == b"".join(line for _, line in folder.lines("averages", day))
        changes = b"".join(map(alarm_line, derivation.changes))
        assert changes == b"".join(line for _, line in folder.lines("alarms", day))
    assert folder.count("alarms", folder.days("raw")[-1])
    written = {line for day in folder.days("averages") for _, line in folder.lines("averages", day)}
    assert rig.averages <= written
    assert set(folder.reports()) >= rig.closed.keys()
    assert not list(folder.reports_path.glob(".*"))
    for day, data in rig.closed.items():
        assert b"".join(line for _, line in folder.lines("raw", day)) == data
    for kind in KINDS:
        contents = [path.read_bytes() for path in (folder.root / kind).glob("*.jsonl")]
        assert all(data.endswith(b"\n") for data in contents if data)


def due(rig: Rig) -> list[str]:
    return due_days(rig.folder, time.time(), "00:05", rig.loaded.zone)


def test_a_restart_on_a_big_day_reads_it_once(tmp_path):
    """Killed with a raw log of 100 MB of today, the process reads today's files once before its first line."""
    site = Site(tmp_path)
    (tmp_path / "one.json").write_bytes(b'{"id":0,"temperature":21.5}')
    site.save(timezone="UTC", sources=[{"name": "new", "file": "one.json"}], api={"serve": False})
    folder = Folder(tmp_path / "output")
    write_big_day(folder, ticks=10_800, machines=50)
    size = sum(path.stat().st_size for kind in ("raw", "averages") for path in (folder.root / kind).iterdir())
    with site.running() as process:
        process.stdout.readline()
        read = bytes_read(process)
        end(process)
    assert read < 1.2 * size
    assert site.events("repaired") == []
    assert b'"source":"new"' in next(last_lines(folder, "averages", 1 << 16))
    shutil.rmtree(tmp_path / "output")


def bytes_read(process: subprocess.Popen) -> int:
    """Bytes that a process has read so far, those of its imports among them."""
    return int(Path(f"/proc/{process.pid}/io").read_text().split()[1])
