"""Start to first record, idle CPU and memory of `etl run` with one source and the API in the same process.

python -m tests.benchmarks.idle [--seconds 120]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.process import free_port


def cpu_seconds(pid: int) -> float:
    """CPU so far: the scheduler's nanoseconds of all threads, or the coarser figure that has ended threads in it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    alive = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return max(alive, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


def rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def start(root: Path) -> tuple[subprocess.Popen, float]:
    """Start `etl run` with the shipped defaults; the process, and the seconds until its first record."""
    port = free_port()
    (root / "config.yaml").write_text(
        f"sources:\n  - name: machine-1\n    url: http://127.0.0.1:{port}/data\napi:\n  port: {port}\n"
    )
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "etl", "run"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process.stdout.readline()
    return process, time.monotonic() - began


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=120)
    seconds = options.parse_args().seconds
    firsts = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as aside:
            process, first = start(Path(aside))
            firsts.append(first)
            process.send_signal(signal.SIGTERM)
            process.communicate()
    print(f"start to first record: median {statistics.median(firsts):.2f} s of {[round(f, 2) for f in firsts]}")
    with tempfile.TemporaryDirectory() as aside:
        process, _ = start(Path(aside))
        time.sleep(12)
        before, began = cpu_seconds(process.pid), time.monotonic()
        time.sleep(seconds)
        used = cpu_seconds(process.pid) - before
        print(f"idle with one source: {100 * used / (time.monotonic() - began):.3f} % of a core over {seconds} s")
        print(f"memory: {rss_mib(process.pid):.1f} MiB")
        process.send_signal(signal.SIGTERM)
        process.communicate()


if __name__ == "__main__":
    main()
