"""Pages on demand: what they cost on big days, and the lateness of polls and the memory of `etl run` beside them.

python -m tests.benchmarks.pages [--lines 864000 8640000] [--machines 1000] [--interval 10] [--seconds 120] [--rounds 2]

First each page is made alone by its child process, of a day with so many lines (files in the page cache). Then
`etl run` polls the machines, in turn without and with five clients that open the pages of random machines. A reading is
late from when its poll was due until its line can be read in the raw log.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import datetime
from pathlib import Path
from zlib import crc32
from zoneinfo import ZoneInfo

import msgspec
import orjson

from etl.live.schedule import MAX_SLICES
from etl.nightly.on_demand.orders import AnyPageOrder, DayOrder, MachineDayOrder, PageHead
from etl.readings.days import begins
from etl.readings.records import Settings
from etl.readings.times import rfc3339
from etl.storage.folder import Folder
from tests.benchmarks.idle import rss_mib
from tests.benchmarks.polls import targets
from tests.support.process import free_port, until

CLIENTS = 5
VARIANTS = 40
"""Different blocks of a tick's lines: writing each line singly would take minutes."""
ZONE = ZoneInfo(f"Etc/GMT{(time.gmtime().tm_hour + 15) % 24 - 14:+d}")
"""A zone in which it is eleven at night: the day so far is nearly a whole one."""
PARAMETERS = {"temperature": "temperature", "speed": "fan_speed"}
SETTINGS = Settings(5, PARAMETERS, ZONE.key, 10.0, 0.2, ("telemetry", "status_band"))


def write_day(folder: Folder, day: str, lines: int, machines: int, end: float) -> None:
    """Write raw log and averages of a day until `end`, its ticks equally far apart."""
    stamp, dice = "2000-01-01T00:00:00.000Z", random.Random(1)
    blocks: dict[str, list[bytes]] = {"raw": [], "averages": []}
    for _ in range(VARIANTS):
        raw, averages = [], []
        for n in range(1, machines + 1):
            heat, speed = round(dice.gauss(45, 1), 2), round(dice.gauss(650, 9), 2)
            reading = {"fan_speed": speed, "id": 1, "name": "DELL G450", "status": "STARTED", "temperature": heat}
            raw.append({**reading, "timestamp": stamp, "_source": f"m-{n}", "_polled_at": stamp})
            means = {"average_temperature": heat, "average_speed": speed, "status": "STARTED", "readings": 5}
            averages.append({"timestamp": stamp, "source": f"m-{n}", "id": 1, **means, "polled_at": stamp})
        for kind, records in (("raw", raw), ("averages", averages)):
            blocks[kind].append(b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in records))
    start, ticks = begins(day, ZONE), lines // machines
    for kind, variants in blocks.items():
        folder.path(kind, day).parent.mkdir(parents=True, exist_ok=True)
        with folder.path(kind, day).open("wb") as file:
            for tick in range(ticks):
                at = rfc3339(start + (end - start) * tick / ticks).encode()
                file.write(variants[tick % VARIANTS].replace(stamp.encode(), at))
            file.flush()
            os.fsync(file.fileno())


def make_page(order: AnyPageOrder) -> None:
    """Make a page by its child process, and print what it took."""
    read, write = os.pipe()
    begin = time.monotonic()
    command = [sys.executable, "-P", "-m", "etl", "report", "--html"]
    with subprocess.Popen(command, stdin=read, stdout=subprocess.PIPE) as child, os.fdopen(write, "wb") as stdin:
        stdin.write(msgspec.json.encode(order) + b"\n")
        stdin.flush()
        answer = child.stdout.read()
        _, _, usage = os.wait4(child.pid, 0)
        child.returncode = 0
    head = msgspec.json.decode(answer.partition(b"\n")[0], type=PageHead)
    seconds, cpu = time.monotonic() - begin, usage.ru_utime + usage.ru_stime
    what = f"{sum(head.sizes) / 1e6:.2f} MB" if head.sizes else head.error
    name = type(order).__name__.removesuffix("Order")
    print(f"  {name}: {seconds:.2f} s, {cpu:.2f} s of CPU, {usage.ru_maxrss / 1024:.0f} MiB, {what}", flush=True)


def alone(root: Path, lines: int, machines: int) -> None:
    """Print the cost of each page of a day with so many lines."""
    folder, now = Folder(root), time.time()
    day = f"{datetime.fromtimestamp(now, ZONE):%Y-%m-%d}"
    write_day(folder, day, lines, machines, now)
    print(f"{lines:,} lines of {machines} machines, raw log of {folder.stored_bytes('raw', [day]) / 1e6:.0f} MB")
    for _ in range(2):
        make_page(MachineDayOrder(str(root), SETTINGS, {}, now, day, f"m-{machines // 2}", "1"))
    make_page(DayOrder(str(root), SETTINGS, {}, now, day))


class Polling:
    """`etl run` with a day of many lines; the lateness of its polls, and its memory, without and with clients."""

    def __init__(self, root: Path, machines: int, interval: float, port: int, transport: str) -> None:
        self.root, self.machines, self.interval, self.api = root, machines, interval, free_port()
        self.answers: Counter[int] = Counter()
        self.p99: dict[int, list[float]] = {0: [], CLIENTS: []}
        config = {
            "timezone": ZONE.key,
            "interval": f"{interval:g}s",
            "transport": transport,
            "sources": [{"name": "m-{n}", "url": f"http://127.0.0.1:{port}/m/{{n}}/data", "count": machines}],
            "output": {"stdout": []},
            "report": {"detectors": []},
            "api": {"port": self.api},
        }
        (root / "config.yaml").write_text(json.dumps(config))

    def measure(self, seconds: float, rounds: int) -> None:
        """Print lateness and memory, in turn without and with clients."""
        with subprocess.Popen(
            [sys.executable, "-m", "etl", "run"], cwd=self.root, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            try:
                until(lambda: self.ask("/healthz") == 200 and (self.root / "output" / "raw.jsonl").exists())
                time.sleep(3 * self.interval)
                for _ in range(rounds):
                    for clients in (0, CLIENTS):
                        self._round(process.pid, clients, seconds)
                for clients, p99 in self.p99.items():
                    print(f"{clients} clients: median of {rounds} rounds: late p99 {statistics.median(p99):.0f} ms")
            finally:
                process.terminate()

    def _round(self, pid: int, clients: int, seconds: float) -> None:
        stop = threading.Event()
        self.answers.clear()
        threads = [threading.Thread(target=self._open_pages, args=(stop, n)) for n in range(clients)]
        before = rss_mib(pid)
        for thread in threads:
            thread.start()
        late, most = self._watch(pid, seconds)
        stop.set()
        for thread in threads:
            thread.join()
        late.sort()
        p50, p99 = (1000 * late[int(len(late) * quantile)] for quantile in (0.5, 0.99))
        self.p99[clients].append(p99)
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(self.answers.items()))
        print(
            f"{clients} clients: {len(late)} readings, late p50 {p50:.0f} ms, p99 {p99:.0f} ms, most "
            f"{1000 * late[-1]:.0f} ms; memory {before:.1f} MiB, at most {most:.1f} MiB; {answers}",
            flush=True,
        )

    def _watch(self, pid: int, seconds: float) -> tuple[list[float], float]:
        """How late each reading is that comes in meanwhile (seconds), and the largest memory (MiB)."""
        late, most, end = list[float](), 0.0, time.time() + seconds
        with (self.root / "output" / "raw.jsonl").open("rb") as lines:
            lines.seek(0, os.SEEK_END)
            rest = b""
            while time.time() < end:
                *complete, rest = (rest + lines.read()).split(b"\n")
                now = time.time()
                offsets = (crc32(orjson.loads(line)["_source"].encode()) % MAX_SLICES for line in complete)
                late += [(now - offset * self.interval / MAX_SLICES) % self.interval for offset in offsets]
                most = max(most, rss_mib(pid))
                time.sleep(0.005)
        return late, most

    def _open_pages(self, stop: threading.Event, seed: int) -> None:
        dice = random.Random(seed)
        while not stop.is_set():
            path = f"/machines/day?source=m-{dice.randint(1, self.machines)}&id=1"
            self.answers[self.ask(path)] += 1
            stop.wait(0.2)

    def ask(self, path: str) -> int:
        """The status of an answer; 0 without one."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.api}{path}", timeout=60) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lines", type=int, nargs="*", default=[864_000, 8_640_000])
    options.add_argument("--machines", type=int, default=1000)
    options.add_argument("--interval", type=float, default=10.0)
    options.add_argument("--seconds", type=float, default=120.0)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--transport", default="curl")
    arguments = options.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for lines in arguments.lines:
        with tempfile.TemporaryDirectory() as root:
            alone(Path(root), lines, arguments.machines)
    with tempfile.TemporaryDirectory() as folder, targets(1) as (port,):
        root = Path(folder)
        now = time.time()
        day = f"{datetime.fromtimestamp(now, ZONE):%Y-%m-%d}"
        write_day(Folder(root / "output"), day, 864_000, arguments.machines, now)
        polling = Polling(root, arguments.machines, arguments.interval, port, arguments.transport)
        polling.measure(arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()
