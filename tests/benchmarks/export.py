"""`etl export` of a day beside DuckDB's COPY, in paired runs; or lateness of polls beside clients of GET /export.

python -m tests.benchmarks.export FOLDER [--kind averages] [--day 2026-01-05] [--rounds 3]
python -m tests.benchmarks.export FOLDER --clients 5 [--machines 1000] [--seconds 60]

tests.benchmarks.generate writes FOLDER; averages are derived if it has none. CPU is that of the whole process, memory
its peak. After the last round pandas and DuckDB read both files back: their values must be those of the lines.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from zlib import crc32

import orjson

from etl.live.schedule import MAX_SLICES
from tests.benchmarks.idle import cpu_seconds, rss_mib
from tests.benchmarks.night import Run, measure
from tests.benchmarks.polls import targets
from tests.support.process import free_port

ETL = """
import sys
sys.argv = ["etl", "export", {day!r}, "--kind", {kind!r}, "--to", {to!r}, "--force", "--config", {config!r}]
from etl.cli.main import main
main()
"""
DUCKDB = """
import duckdb
duckdb.sql("copy (select * from read_json({file!r}, format = 'newline_delimited')) to {to!r}")
"""
PHASES = 4
"""Times without and with clients, in turn."""
WARM_UP_S = 25
"""Seconds until every machine was polled and its first interval is over."""


def compare(folder: Path, kind: str, day: str, rounds: int) -> None:
    """Print what each export takes, and its ratio to DuckDB's."""
    log = folder / kind / f"{day}.jsonl"
    with tempfile.TemporaryDirectory() as aside:
        config = Path(aside, "config.yaml")
        config.write_text(f"timezone: UTC\nsources: [{{name: m, file: m.json}}]\noutput: {{folder: {folder}}}\n")
        if not log.exists():
            subprocess.run([sys.executable, "-m", "etl", "rebuild", "--config", str(config)], check=True)
        names = {"day": day, "kind": kind, "config": str(config), "file": str(log)}
        for suffix in ("csv", "parquet"):
            runs: dict[str, list[Run]] = {"etl": [], "duckdb": []}
            for _ in range(rounds):
                for name, script in (("etl", ETL), ("duckdb", DUCKDB)):
                    runs[name].append(measure(script.format(**names, to=f"{aside}/{name}.{suffix}")))
            ours, peer = (Run(*map(statistics.median, zip(*runs[name], strict=True))) for name in runs)
            for name, run in (("etl", ours), ("duckdb", peer)):
                size = Path(aside, f"{name}.{suffix}").stat().st_size / 1e6
                print(f"{suffix:8} {name:8} {run.cpu:6.2f} s CPU {run.wall:6.2f} s {run.mib:6.0f} MiB, {size:.0f} MB")
            print(f"{suffix:8} ratio to duckdb: {ours.cpu / peer.cpu:.2f} CPU, {ours.mib / peer.mib:.2f} memory")
        read_back(log, Path(aside))


def read_back(log: Path, aside: Path) -> None:
    """Compare the numbers of the lines with those in our files, as pandas and DuckDB read them."""
    import duckdb  # noqa: PLC0415  a child begins with the memory of this process
    import pandas  # noqa: PLC0415

    lines = [orjson.loads(line) for line in log.open("rb")]
    keys = [key for key, value in lines[0].items() if type(value) is float]
    for key in keys:
        values = [line[key] for line in lines]
        assert pandas.read_csv(aside / "etl.csv", usecols=[key], engine="python")[key].tolist() == values
        assert pandas.read_parquet(aside / "etl.parquet", columns=[key])[key].tolist() == values
        for name in ("etl.csv", "etl.parquet"):
            assert [row[0] for row in duckdb.sql(f"select \"{key}\" from '{aside / name}'").fetchall()] == values
    print(f"pandas and DuckDB read back the {', '.join(keys)} of {len(lines):,} lines")


def beside_polls(folder: Path, day: str, clients: int, machines: int, seconds: float) -> None:
    """Print the lateness of polls without and with clients that export machine after machine of a day."""
    api = free_port()
    with targets(1) as (port,), tempfile.TemporaryDirectory(dir=folder) as aside:
        config = {
            "timezone": "UTC",
            "transport": "curl",
            "sources": [{"name": "m-{n}", "url": f"http://127.0.0.1:{port}/m/{{n}}/data", "count": machines}],
            "output": {"stdout": []},
            "api": {"port": api},
        }
        Path(aside, "config.yaml").write_text(json.dumps(config))
        for kind in ("raw", "averages"):
            Path(aside, "output", kind).mkdir(parents=True)
            os.link(folder / kind / f"{day}.jsonl", Path(aside, "output", kind, f"{day}.jsonl"))
        Path(aside, "output", "reports").mkdir()
        Path(aside, "output", "reports", f"{day}.json").write_text("{}")
        with (
            subprocess.Popen(
                [sys.executable, "-m", "etl", "run"], cwd=aside, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            ) as process,
            contextlib.ExitStack() as ending,
        ):
            ending.callback(process.terminate)
            time.sleep(WARM_UP_S)
            late: dict[int, list[float]] = {0: [], clients: []}
            cpu, counts = {0: 0.0, clients: 0.0}, {200: 0, 503: 0}
            for number in [0, clients] * PHASES:
                stopping = threading.Event()
                threads = [threading.Thread(target=ask, args=(api, day, stopping, counts)) for _ in range(number)]
                for thread in threads:
                    thread.start()
                cpu[number] -= cpu_seconds(process.pid)
                late[number] += lateness(Path(aside, "output", "raw.jsonl"), seconds / PHASES)
                cpu[number] += cpu_seconds(process.pid)
                stopping.set()
                for thread in threads:
                    thread.join()
            mib = rss_mib(process.pid)
    for number in (0, clients):
        values = sorted(late[number])
        p50, p99 = (1000 * values[int(len(values) * quantile)] for quantile in (0.5, 0.99))
        print(
            f"{number} clients: {len(values)} readings, late p50 {p50:.0f} ms, p99 {p99:.0f} ms, "
            f"most {1000 * values[-1]:.0f} ms; {cpu[number] / seconds:.1%} CPU"
        )
    print(f"{counts[200]} files, {counts[503]} times busy; the process has {mib:.0f} MiB at the end")


def ask(port: int, day: str, stopping: threading.Event, counts: dict[int, int]) -> None:
    """Export one machine after the other until it is time to stop; after a refusal wait a tenth of a second."""
    number = 0
    while not stopping.is_set():
        number = number % 100 + 1
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/export/{day}.csv?source=machine-{number}&id={number}")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        counts[answer.status] += 1
        time.sleep(0.1 if answer.status == 503 else 0)


def lateness(log: Path, seconds: float) -> list[float]:
    """How late (seconds) each reading is that comes in meanwhile."""
    late: list[float] = []
    unfinished = b""
    end = time.monotonic() + seconds
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        while time.monotonic() < end:
            *lines, unfinished = (unfinished + file.read()).split(b"\n")
            now = time.time()
            sources = [orjson.loads(line)["_source"] for line in lines if line.startswith(b"{")]
            late += [(now - crc32(source.encode()) % MAX_SLICES) % 10 for source in sources]
            time.sleep(0.005)
    return late


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--kind", default="averages", choices=["averages", "raw"])
    options.add_argument("--day", default="2026-01-05")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--clients", type=int, default=0)
    options.add_argument("--machines", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=60)
    arguments = options.parse_args()
    folder = arguments.folder.resolve()
    if arguments.clients:
        beside_polls(folder, arguments.day, arguments.clients, arguments.machines, arguments.seconds)
    else:
        compare(folder, arguments.kind, arguments.day, arguments.rounds)


if __name__ == "__main__":
    main()
