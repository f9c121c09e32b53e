"""CPU of a reading without the network: parse, check, step, encode both lines, its share of a write; and a profile.

python -m tests.benchmarks.hot_path [--batch 100] [--fsync never] [--alarms 3]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from etl.live.pipeline import SYNC_DELAYS_S
from etl.live.poller import Poller
from etl.live.standing import Standing
from etl.live.writer import Logs, Writer
from etl.readings.answers import parse
from etl.readings.averages.fold import derive, fold_of
from etl.readings.days import day_finder
from etl.readings.lines import raw_line
from etl.readings.records import AlarmRule, Answer, Poll, Settings
from etl.storage.appender import Appender
from etl.storage.events import Events
from etl.storage.folder import Folder
from tests.support.plant import RAM

BODY = (
    b'{"description":"Machine for processing ","fan_speed":694.11,"id":1,"name":"DELL G450","status":"IDLE",'
    b'"temperature":49.44,"timestamp":"2026-11-23T01:12:03.045386+00:00"}'
)
SETTINGS = Settings(5, {"temperature": "temperature", "speed": "fan_speed"}, "UTC", 10.0, 0.2)
ALARMS = (
    AlarmRule("hot", parameter="temperature", above=80.0, deadband=2.0, hold_ms=30_000),
    AlarmRule("slow", parameter="speed", below=100.0),
    AlarmRule("fault", status="ERROR", hold_ms=60_000),
)
"""Alarms of which the readings raise none, as nearly always."""
READINGS = 10_000
START = 1_795_341_600.123


def whole(poller: Poller, writer: Writer, batch: int) -> Callable[[], None]:
    """Ticks as the running process makes them, from the delivered answers to both files."""

    def run() -> None:
        for at in range(READINGS // batch):
            poller.deliver([Poll(f"machine-{n}", START + at * 10, (Answer(BODY),)) for n in range(batch)])
            writer.tick()

    return run


def parse_all() -> None:
    for _ in range(READINGS):
        parse(BODY)


def encode_all() -> None:
    reading = parse(BODY)
    for _ in range(READINGS):
        raw_line(reading, "machine-1", START)


def derive_all() -> None:
    line = raw_line(parse(BODY), "machine-1", START)
    for _ in derive({}, [line] * READINGS, fold_of(SETTINGS)):
        pass


def best(work: Callable[[], None]) -> float:
    """Microseconds of CPU a reading, best of 5."""
    spent = []
    for _ in range(5):
        before = time.process_time()
        work()
        spent.append(time.process_time() - before)
    return 1e6 * min(spent) / READINGS


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--batch", type=int, default=100)
    options.add_argument("--fsync", choices=SYNC_DELAYS_S, default="never")
    options.add_argument("--alarms", type=int, default=0, choices=range(len(ALARMS) + 1))
    arguments = options.parse_args()
    settings = msgspec.structs.replace(SETTINGS, alarms=ALARMS[: arguments.alarms])
    for what, work in (("parse", parse_all), ("encode raw", encode_all), ("derive: step, encode", derive_all)):
        print(f"{what:24} {best(work):6.2f} us")
    with tempfile.TemporaryDirectory(dir=RAM) as aside:
        folder, day_of = Folder(Path(aside)), day_finder(ZoneInfo("UTC"))
        events = Events(Appender(folder, "events"), day_of, time.time)
        logs = Logs(Appender(folder, "raw"), Appender(folder, "averages"), Appender(folder, "alarms"), events, day_of)
        logs.use(SYNC_DELAYS_S[arguments.fsync])
        poller, standing = Poller(time.time, SETTINGS.interval), Standing(folder.root, events.record)
        writer = Writer(logs, poller, standing, settings, lambda: START)
        writer.sinks = [lambda batch: standing.wrote(batch.updates)]
        work = whole(poller, writer, arguments.batch)
        print(f"{'all, with its write':24} {best(work):6.2f} us")
        with cProfile.Profile() as profile:
            work()
        pstats.Stats(profile).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
