"""Lateness of 1,000 polled machines while the night's report of a big day is made beside them.

python -m tests.benchmarks.night_polls FOLDER [--machines 1000] [--transport curl] [--workers 1]

FOLDER is what tests.benchmarks.generate wrote, for example with --machines 500: 1 GB. Its report is made, removed, and
made again beside the polling. A reading is late from when its poll was due until its line can be read in the raw log.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from zlib import crc32

import orjson

from etl.live.schedule import MAX_SLICES
from tests.benchmarks.polls import targets
from tests.support.process import free_port


def measure(folder: Path, machines: int, transport: str, workers: int, port: int) -> None:
    api = free_port()
    config = {
        "timezone": "UTC",
        "transport": transport,
        "sources": [{"name": "m-{n}", "url": f"http://127.0.0.1:{port}/m/{{n}}/data", "count": machines}],
        "output": {"stdout": []},
        "report": {"workers": workers},
        "api": {"port": api},
    }
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        Path(aside, "config.yaml").write_text(json.dumps(config))
        logs = sorted((folder / "raw").iterdir())
        subprocess.run([sys.executable, "-m", "etl", "replay", *logs], cwd=aside, check=True)
        subprocess.run([sys.executable, "-m", "etl", "report"], cwd=aside, check=True)
        report = Path(aside, "output", "reports", logs[-1].with_suffix(".json").name)
        with subprocess.Popen(
            [sys.executable, "-m", "etl", "run"], cwd=aside, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            time.sleep(25)
            report.unlink()
            late = watch(process.pid, Path(aside, "output", "raw.jsonl"), report)
            process.terminate()
    for when, seconds in late.items():
        seconds.sort()
        p50, p99 = (1000 * seconds[int(len(seconds) * quantile)] for quantile in (0.5, 0.99))
        most = 1000 * seconds[-1]
        print(f"{when}: {len(seconds)} readings, late p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {most:.0f} ms")


def watch(pid: int, log: Path, report: Path) -> dict[str, list[float]]:
    """How late (seconds) each reading is that comes in until the report stands, without and with a child at work."""
    late: dict[str, list[float]] = {"before": [], "beside the report": []}
    with log.open("rb") as lines:
        lines.seek(0, os.SEEK_END)
        while not report.exists() or has_child(pid):
            lines_read = lines.readlines()
            now = time.time()
            late["beside the report" if has_child(pid) else "before"] += [
                (now - crc32(orjson.loads(line)["_source"].encode()) % MAX_SLICES) % 10 for line in lines_read
            ]
            time.sleep(0.005)
    return late


def has_child(pid: int) -> bool:
    return any((task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--machines", type=int, default=1000)
    options.add_argument("--transport", default="curl")
    options.add_argument("--workers", type=int, default=1)
    arguments = options.parse_args()
    with targets(1) as (port,):
        measure(arguments.folder.resolve(), arguments.machines, arguments.transport, arguments.workers, port)


if __name__ == "__main__":
    main()
