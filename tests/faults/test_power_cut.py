"""The power fails at any moment: whatever the disk kept, every printed line is there once, and the folder is sound."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from etl.audit.rebuild import rebuild
from etl.audit.verify import Proof
from etl.cli.command import locked
from etl.nightly.due import due_days
from etl.readings.answers import parse
from etl.readings.lines import raw_line
from etl.readings.times import rfc3339
from etl.storage.folder import KINDS, Folder
from etl.storage.retention import without_averages
from etl.storage.settings_log import SettingsLog
from tests.support.disk import Disk, Image
from tests.support.plant import Plant
from tests.support.recordings import import_files, logs
from tests.support.transport import Script

START = 1_795_392_000.0 - 45
"""2026-11-22T23:59:15Z: the ticks of a test run across midnight."""
DAY_S = 86_400
READINGS = 40
"""Readings of a poll: 7 KB of raw lines, so that each write spans pages."""


@pytest.fixture
def images(request):
    """The number of images of a test; a run has twice as many."""
    return request.config.getoption("--images") // 9


class Acknowledged:
    """Takes lines as stdout does, and notes the numbers of the readings in the journal of the disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def put(self, lines):
        self.disk.note("printed", [orjson.loads(line)["n"] for line in lines if b'"_source"' in line])


class Rig:
    """A plant with one source whose readings are numbered."""

    def __init__(self, root: Path, first: int, now: float = START, stdout=None, **config) -> None:
        self.next = first
        self.plant = Plant(root, now, stdout=stdout, **{"sources": [{"name": "a", "file": "a.jsonl"}], **config})
        self.reopen()

    def reopen(self, **config) -> None:
        """Open the pipeline again, as after a kill, with a changed config."""
        self.plant.config |= config
        self.plant.open()
        self.script = Script(self.plant.clock)
        self.plant.pipeline.poller.use({"a": self.script})

    def tick(self, times: int = 1, readings: int = READINGS) -> None:
        """Poll numbered readings, and write them."""
        for _ in range(times):
            numbers = range(self.next, self.next + readings)
            self.script.answers["a"] = [
                b'{"n":%d,"id":%d,"temperature":%d.5,"fan_speed":%d,"status":"%s"}'
                % (n, n % 7, n % 90, n % 50, b"IDLE" * (n % 5))
                for n in numbers
            ]
            self.next += readings
            self.plant.pipeline.poller.poll(["a"])
            self.plant.pipeline.writer.tick()
            self.plant.clock.now += 10

    def night(self) -> list[Path]:
        """Run the nightly job, and finish; the paths of the reports."""
        paths = self.plant.night()
        self.plant.pipeline.writer.finish()
        return paths


def live(disk: Disk, rig: Rig, fsync: str) -> None:
    """A run across midnight, a kill, a change of settings, a report, compression and retention."""

    def begin(phase: str) -> None:
        disk.note("phase", phase, rig.plant.clock.now, dict(rig.plant.config))

    begin("run")
    rig.tick(7)
    begin("restart")
    rig.reopen()
    rig.tick(2)
    for window in (3, 4):
        begin("settings")
        rig.reopen(window=window)
        rig.tick(2)
    rig.plant.clock.now += 3600
    begin("report")
    for path in rig.night():
        disk.note("report", path.stem, path.read_bytes())
    rig.tick()
    begin("compression")
    rig.reopen(output={"fsync": fsync, "compress": "gzip"})
    rig.tick()
    rig.night()
    rig.plant.clock.now += DAY_S
    begin("retention")
    rig.reopen(output={"fsync": fsync, "compress": "gzip", "keep_days": 1})
    rig.tick()
    rig.night()
    rig.tick()


def sound_lines(rig: Rig) -> list[int]:
    """Check that every line is JSON, and that everything follows from the raw log; the numbers of the readings."""
    here = rig.plant
    for kind in KINDS:
        for day in here.folder.days(kind):
            assert all(parse(line) for _, line in here.folder.lines(kind, day))
    due = due_days(here.folder, here.clock.now, "00:05", here.loaded.zone)
    deleted = without_averages(here.folder, rfc3339(here.clock.now)[:10], here.loaded.config.output.keep_days)
    proof = Proof(SettingsLog(here.folder, here.loaded.settings), due, lambda _: False, deleted)
    assert [finding.text for finding in proof.findings() if finding.wrong] == []
    assert not [path for kind in (".", *KINDS) for path in (here.folder.root / kind).glob(".*.tmp")]
    return [line["n"] for line in here.records("raw")]


def cuts(disk: Disk, count: int, scratch: Path) -> Iterator[tuple[Path, str, Image]]:
    """Images of the disk at random moments, each phase of a scenario alike: its folder, the phase, and the image."""
    starts = [i for i, entry in enumerate(disk.journal) if entry[:2] == ("note", "phase")]
    for seed in range(count):
        chance = random.Random(seed)
        number = seed % len(starts)
        end = [*starts, len(disk.journal)][number + 1]
        image = Image(disk, chance.randint(starts[number] + 1, end))
        root = scratch / str(seed)
        root.mkdir()
        image.build(root / "output", chance)
        yield root, disk.journal[starts[number]][2], image
        shutil.rmtree(root)


def noted(image: Image, kind: str) -> list[Any]:
    """What the test noted before the power was cut."""
    return [rest[0] if len(rest) == 1 else rest for noted_kind, *rest in image.notes if noted_kind == kind]


def start_again(root: Path, image: Image, first: int) -> Rig:
    """Start a process on an image, with the config of that moment: it recovers, polls once, and reports."""
    _, now, config = noted(image, "phase")[-1]
    with locked(root / "output"):
        rig = Rig(root, first, now + 300, **config)
        rig.tick(readings=3)
        rig.night()
        rig.plant.close()
    return rig


@pytest.mark.parametrize("fsync", ["always", "10s", "never"])
def test_power_is_cut_during_a_run(tmp_path, fsync, images):
    """No line is there twice and the folder is sound; with `fsync: always` every printed line is there."""
    disk, rig = recorded_run(tmp_path, fsync)
    damaged = Counter()
    for root, phase, image in cuts(disk, images * 2, Path(tempfile.mkdtemp(dir=tmp_path))):
        again = start_again(root, image, rig.next)
        numbers = sound_lines(again)
        assert len(numbers) == len({*numbers}), phase
        if fsync == "always":
            printed = {n for batch in noted(image, "printed") for n in batch}
            kept = {*numbers} | ({*range(rig.next)} if phase == "retention" else set())
            assert printed <= kept, phase
        for day, report in noted(image, "report"):
            assert again.plant.folder.report_path(day).read_bytes() == report, phase
        damaged.update({phase: 1} | Counter(event["reason"] for event in again.plant.events("repaired")))
    print(f"{fsync}: {dict(damaged)}")


def recorded_run(tmp_path: Path, fsync: str) -> tuple[Disk, Rig]:
    (tmp_path / "output").mkdir()
    disk = Disk(tmp_path / "output")
    with disk.recording(), locked(tmp_path / "output"):
        rig = Rig(tmp_path, 0, stdout=Acknowledged(disk), output={"fsync": fsync})
        live(disk, rig, fsync)
        rig.plant.close()
    return disk, rig


def test_power_is_cut_during_a_repair(tmp_path, images):
    """A repair that the power interrupts is completed by the next start, with the settings entries in their places."""
    rig = Rig(tmp_path, 0, START - DAY_S / 2)
    rig.tick(3)
    rig.reopen(window=3)
    rig.tick(2)
    rig.plant.close()
    path = rig.plant.folder.path("raw", "2026-11-22")
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    hole = len(b"".join(lines[:50])) + 10
    path.write_bytes(data[:hole] + bytes(len(lines[50])) + data[hole + len(lines[50]) :])
    disk = Disk(tmp_path / "output")
    with disk.recording(), locked(tmp_path / "output"):
        disk.note("phase", "repair", rig.plant.clock.now, dict(rig.plant.config))
        rig.reopen()
        rig.tick(readings=3)
        rig.plant.close()
    for root, _, image in cuts(disk, images, Path(tempfile.mkdtemp(dir=tmp_path))):
        again = start_again(root, image, rig.next)
        numbers = sound_lines(again)
        assert [n for n in numbers if n < 200] == [n for n in range(200) if n not in (50, 51)]
        entries = SettingsLog(again.plant.folder, again.plant.loaded.settings).entries
        assert [(entry.line, entry.settings.window) for entry in entries] == [(1, 5), (119, 3)]


def test_power_is_cut_during_a_rebuild(tmp_path, images):
    """A rebuild that the power interrupts can be run again, and restores every byte."""
    rig = Rig(tmp_path, 0)
    rig.tick(6)
    rig.plant.clock.now += 3600
    rig.night()
    rig.plant.close()
    here = rig.plant
    whole = here.bytes_of("averages"), here.folder.report_path("2026-11-22").read_bytes()
    for day, data in whole[0].items():
        here.folder.path("averages", day).write_bytes(data[:5000] + b"9" + data[5001:-3000])
    here.folder.report_path("2026-11-22").write_bytes(b"{}")

    def run_rebuild(root: Path) -> None:
        with locked(root):
            settings_log = SettingsLog(Folder(root), here.loaded.settings)
            deque(rebuild(settings_log, [], (), lambda *_, **__: None), maxlen=0)

    disk = Disk(tmp_path / "output")
    with disk.recording():
        disk.note("phase", "rebuild", here.clock.now, dict(here.config))
        run_rebuild(tmp_path / "output")
    for root, _, _ in cuts(disk, images, Path(tempfile.mkdtemp(dir=tmp_path))):
        run_rebuild(root / "output")
        folder = Folder(root / "output")
        averages = {day: folder.path("averages", day).read_bytes() for day in folder.days("averages")}
        assert (averages, folder.report_path("2026-11-22").read_bytes()) == whole


def test_power_is_cut_during_a_replay(tmp_path, images):
    """A replay that ended is kept; one that the power interrupts is completed by running it again."""
    file = tmp_path / "a.jsonl"
    file.write_bytes(
        b"".join(raw_line({"id": n % 3, "temperature": n % 50}, "a", START + n * 1800.0) for n in range(200))
    )
    output = tmp_path / "output"
    output.mkdir()
    disk = Disk(output)
    with disk.recording(), locked(output):
        disk.note("phase", "replay", START, {})
        import_files(output, file)
        disk.note("replayed")
    whole = logs(output)
    for root, _, image in cuts(disk, images, Path(tempfile.mkdtemp(dir=tmp_path))):
        with locked(root / "output"):
            added = import_files(root / "output", file)[0].added
        assert logs(root / "output") == whole
        assert not (noted(image, "replayed") and added)
