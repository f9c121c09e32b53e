"""The alarms log of a running process: what it holds follows from the raw log, whatever happened in between."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path

import orjson
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from etl.audit.backtest import backtest
from etl.audit.rebuild import rebuild
from etl.audit.verify import Proof
from etl.readings.alarms.fold import AlarmFold, alarm_line
from etl.readings.records import Answer, Poll
from etl.storage.folder import Folder
from etl.storage.recovery import start as recovery
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.plant import RAM, Plant

NOON = 1_795_348_800.0
"""2026-11-22T12:00:00Z."""
RULES = [
    {"name": "hot", "parameter": "temperature", "above": 80, "deadband": 2},
    {"name": "held", "parameter": "temperature", "above": 80, "below": 60, "for": "25s"},
    {"name": "fault", "status": "ERROR", "for": "10s", "sources": "[ab]"},
]
CONFIGS = [RULES, RULES[1:], [], [{**RULES[0], "above": 82}, *RULES[1:]], RULES]
SOURCES = [{"name": name, "file": "readings.json"} for name in "abc"]

reading = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from([None, 50, 70, 79, 81, 81.5, 90]),
    st.sampled_from([None, "IDLE", "ERROR", "ERROR"]),
)
"""A source, its temperature and its status."""
pause = st.sampled_from([0.0, 1.0, 10.0, 10.0, 10.0, 30.0, 3000.0, 4000.0, 50_000.0])
"""Seconds before a batch of readings: also silences after which windows start over, and nights."""
interruption = st.sampled_from(
    ["none"] * 6 + ["restart", "cut averages", "kill", "lose alarms", "cut alarms", "config"]
)


def all_alarms(folder: Folder, default) -> dict[str, bytes]:
    """The alarms files that follow from the raw log, folded from its first line without interruption."""
    settings_log = SettingsLog(folder, default)
    derivation, files = Derivation(settings_log), {}
    days = folder.days("raw")
    derivation.alarms = AlarmFold(settings_log.at(min(days, default=""), 0))
    for day in days:
        deque(derivation.day(day), 0)
        if derivation.has_alarms or derivation.changes:
            files[day] = b"".join(map(alarm_line, derivation.changes))
    return files


def write(here: Plant, readings) -> None:
    """Let these readings arrive, in one tick of the writer."""
    for source, temperature, status in readings:
        body = orjson.dumps({"temperature": temperature, "status": status})
        here.pipeline.poller.deliver([Poll(source, here.clock.now, (Answer(body),))])
    here.pipeline.writer.tick()


def cut_last(path: Path, lines: int) -> None:
    """Cut the last lines of a file off."""
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(kept[: max(0, len(kept) - lines)]))


def interrupt(here: Plant, how: str, lines: int, number: int) -> None:
    """End the process, change the folder as a kill or a person would, and start it again."""
    folder = here.folder
    day = max(folder.days("raw"), default="")
    if how == "config":
        here.config["alarms"] = CONFIGS[number % len(CONFIGS)]
        if number % 2:
            here.reload()
            return
    here.close()
    if how == "cut averages" and folder.path("averages", day).exists():
        cut_last(folder.path("averages", day), lines)
    if how == "kill" and folder.path("averages", day).exists():
        # The alarms of the readings whose averages are lost may be there, lost, or partly there.
        cut_last(folder.path("averages", day), lines)
        kept = folder.count("averages", day)
        settings_log = SettingsLog(folder, here.loaded.settings)
        derivation = Derivation(settings_log)
        derivation.alarms = AlarmFold(settings_log.at(min(folder.days("raw")), 0))
        for each in folder.days("raw"):
            needed = len(derivation.changes)
            for line, _ in enumerate(derivation.day(each), start=1):
                needed = len(derivation.changes) if each == day and line <= kept else needed
                needed = 0 if line == 1 and not kept else needed
        path = folder.path("alarms", day)
        if path.exists():
            surplus = folder.count("alarms", day) - needed
            cut_last(path, max(0, min(number, surplus)))
    if how == "lose alarms":
        folder.path("alarms", day).unlink(missing_ok=True)
    if how == "cut alarms" and folder.path("alarms", day).exists():
        path = folder.path("alarms", day)
        path.write_bytes(path.read_bytes()[: -min(lines, 3)])
    here.open()


@pytest.mark.parametrize("tail", [1, 500, 1 << 20])
def test_alarms_follow_from_the_raw_log_whatever_happens(tail, monkeypatch):
    """Any split into ticks, any restart, kill, lost or torn file, changed config gives the bytes of one fold."""
    monkeypatch.setattr(recovery, "TAIL_BYTES", tail)

    @settings(max_examples=80, deadline=None)
    @given(
        st.lists(
            st.tuples(pause, st.lists(reading, max_size=6), interruption, st.integers(1, 5), st.integers(0, 9)),
            max_size=25,
        )
    )
    def run(steps):
        note(steps)
        with tempfile.TemporaryDirectory(dir=RAM) as root:
            told = []
            here = Plant(Path(root), NOON, sources=SOURCES, alarms=RULES)

            def watch():
                sinks = [*here.pipeline.writer.sinks, lambda batch: told.extend(batch.changes)]
                here.pipeline.writer.sinks = sinks

            has_lost = False
            watch()
            for seconds, readings, how, lines, number in steps:
                here.clock.now += seconds
                write(here, readings)
                if how != "none":
                    interrupt(here, how, lines, number)
                    watch()
                has_lost = has_lost or how in ("lose alarms", "cut alarms", "cut averages", "kill")
            write(here, [("c", 20, None)])
            expected = all_alarms(here.folder, here.loaded.settings)
            assert {day: data for day, data in here.bytes_of("alarms").items() if data} == {
                day: data for day, data in expected.items() if data
            }
            assert set(expected) <= set(here.bytes_of("alarms"))
            if not has_lost:
                assert b"".join(map(alarm_line, told)) == b"".join(expected.values())
            settings_log = SettingsLog(here.folder, here.loaded.settings)
            proof = Proof(settings_log, [], lambda _: False)
            assert not [finding for finding in proof.findings() if finding.wrong and "alarms" in finding.text]
            if all(entry.settings.alarms == here.loaded.settings.alarms for entry in settings_log.entries):
                days = here.folder.days("averages")
                tried = backtest(settings_log, here.loaded.settings.alarms, days, lambda _: None)
                assert list(map(alarm_line, tried)) == b"".join(expected.values()).splitlines(keepends=True)
            before = here.bytes_of("alarms")
            deque(rebuild(settings_log, [], set(), lambda *_, **__: None), 0)
            assert here.bytes_of("alarms") == before
            here.close()

    run()
