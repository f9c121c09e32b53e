"""Start of `etl run` with a big raw log of today: seconds and CPU until its first line, beside an empty folder.

python -m tests.benchmarks.start [--megabytes 100] [--rounds 5] [--for 0s]

The process reads the end of today's files, derives the last averages again and polls; the log itself it only counts.
With `--for` there are alarms that hold for so long, and files of theirs. Both starts are measured in turn; what counts
is the difference.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from etl.storage.folder import Folder
from tests.benchmarks.idle import cpu_seconds
from tests.support.days import write_big_day

MACHINES = 50
ALARMS = """alarms:
  - {name: low, parameter: temperature, below: 1000, for: %s}
  - {name: high, parameter: temperature, above: 1000}
"""
"""One that is raised for every machine once it has held, and one that is never raised."""
BYTES_A_TICK = 9040
"""Bytes of raw lines that `write_big_day` writes for 50 machines, about."""


def start(root: Path) -> tuple[float, float]:
    """Start `etl run`; the seconds and the CPU seconds until its first line."""
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "etl", "run"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        process.stdout.readline()
        seconds, cpu = time.monotonic() - began, cpu_seconds(process.pid)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    return seconds, cpu


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--megabytes", type=int, default=100)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--for", dest="hold")
    arguments = options.parse_args()
    alarms = ALARMS % arguments.hold if arguments.hold else ""
    starts: dict[str, list[tuple[float, float]]] = {"empty folder": [], "big day": []}
    size = 0
    for _ in range(arguments.rounds):
        for name, measured in starts.items():
            with tempfile.TemporaryDirectory() as aside:
                root = Path(aside)
                (root / "one.json").write_bytes(b'{"id":0,"temperature":21.5}')
                (root / "config.yaml").write_text(
                    "timezone: UTC\nsources: [{name: new, file: one.json}]\napi: {serve: false}\n" + alarms
                )
                if name == "big day":
                    ticks = arguments.megabytes * 1_000_000 // BYTES_A_TICK
                    size = write_big_day(Folder(root / "output"), ticks, MACHINES)
                    if alarms:
                        subprocess.run(
                            [sys.executable, "-m", "etl", "rebuild"], cwd=root, capture_output=True, check=True
                        )
                    os.sync()
                measured.append(start(root))
                shutil.rmtree(root / "output")
    for name, measured in starts.items():
        seconds, cpu = (statistics.median(figures) for figures in zip(*measured, strict=True))
        print(f"{name}: first line after {seconds:.2f} s, {cpu:.2f} s CPU")
    print(f"the big day's raw log has {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
