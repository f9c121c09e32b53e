"""The night of a day's file, in paired runs: the report alone, by two processes, with its page; DuckDB, Polars.

python -m tests.benchmarks.night FOLDER [VARIANT ...] [--day 2026-01-05] [--rounds 5]

tests.benchmarks.generate writes FOLDER. Each variant is a process of its own: `one` is the report of one process, `two`
of two, `page` has the page too; `detectors` has the default detectors, `shipped` these and the page; `duckdb` and
`polars` compute the same figures and anomalies and need the extra `bench`. CPU is that of the process and its children,
memory that of the largest of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ETL = """
from pathlib import Path
from etl.nightly.executors import run_parallel
from etl.nightly.report import make, write
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog
settings = Settings(5, {{"temperature": "temperature", "speed": "fan_speed"}}, "UTC", 10.0, 0.2, {detectors})
folder = Folder(Path({folder!r}))
def report(mapper):
    write(folder, make(SettingsLog(folder, settings), {day!r}, mapper, charted={page}))
if __name__ == "__main__":
    run_parallel(report, {workers}, None, print)
"""
DUCKDB = """
import duckdb
duckdb.sql('''
create table day as select _source, id, name, timestamp, temperature, fan_speed from read_json({file!r},
  format = 'newline_delimited', columns = {{_source: 'varchar', id: 'bigint', name: 'varchar', timestamp: 'varchar',
  temperature: 'double', fan_speed: 'double'}});
create table figures as select _source, id, last(name) as name, count(*) as readings,
  avg(temperature) as mt, max(temperature) as ht, min(temperature) as lt,
  avg(fan_speed) as mf, max(fan_speed) as hf, min(fan_speed) as lf from day group by _source, id;
copy (select figures.*, a.anomalies from figures left join (
  select day._source, day.id,
    list({{timestamp: day.timestamp, t: temperature, f: fan_speed}}) as anomalies
  from day join figures using (_source, id)
  where abs(temperature - mt) > 0.2 * abs(mt) or abs(fan_speed - mf) > 0.2 * abs(mf) group by day._source, day.id
) a using (_source, id)) to {out!r} (format json);
''')
"""
POLARS = """
import polars as pl
day = pl.scan_ndjson({file!r}, schema={{"_source": pl.String, "id": pl.Int64, "name": pl.String, "timestamp": pl.String,
  "temperature": pl.Float64, "fan_speed": pl.Float64}})
parts = ("temperature", "fan_speed")
figures = day.group_by("_source", "id").agg(pl.len().alias("readings"), pl.last("name"),
  *(f(pl.col(p)).alias(n + p) for p in parts for n, f in (("a", pl.Expr.mean), ("h", pl.Expr.max), ("l", pl.Expr.min))))
far = pl.any_horizontal(*((pl.col(p) - pl.col("a" + p)).abs() > 0.2 * pl.col("a" + p).abs() for p in parts))
joined = day.join(figures, on=["_source", "id"]).filter(far).group_by("_source", "id").agg(
  pl.struct("timestamp", *parts).alias("anomalies"))
figures.join(joined, on=["_source", "id"], how="left").collect().write_json({out!r})
"""
DETECTORS = ("telemetry", "status_band")


class Run(NamedTuple):
    """What one run took: seconds of CPU and of the clock, MiB of memory at most."""

    cpu: float
    wall: float
    mib: float


def measure(script: str) -> Run:
    """Run a script in a process of its own."""
    began = time.monotonic()
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(script)
        file.flush()
        # OPENBLAS_NUM_THREADS as the command line of etl sets it.
        environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, file.name], env=environment)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"a run failed with status {status}")
    return Run(used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss / 1024)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder")
    options.add_argument("variants", nargs="*", default=["one", "two", "duckdb"], metavar="VARIANT")
    options.add_argument("--day", default="2026-01-05")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        names = {
            "folder": arguments.folder, "day": arguments.day, "out": f"{aside}/out.json",
            "file": str(Path(arguments.folder, "raw", f"{arguments.day}.jsonl")),
        }  # fmt: skip
        scripts = {
            "one": ETL.format(**names, workers=1, page=False, detectors=()),
            "two": ETL.format(**names, workers=2, page=False, detectors=()),
            "page": ETL.format(**names, workers=1, page=True, detectors=()),
            "detectors": ETL.format(**names, workers=1, page=False, detectors=DETECTORS),
            "shipped": ETL.format(**names, workers=1, page=True, detectors=DETECTORS),
            "duckdb": DUCKDB.format(**names),
            "polars": POLARS.format(**names),
        }
        runs: dict[str, list[Run]] = {variant: [] for variant in arguments.variants}
        for _ in range(arguments.rounds):
            for variant, measured in runs.items():
                measured.append(measure(scripts[variant]))
    medians = {variant: Run(*map(statistics.median, zip(*measured, strict=True))) for variant, measured in runs.items()}
    for variant, run in medians.items():
        print(f"{variant:10}{run.cpu:6.2f} s CPU {run.wall:6.2f} s {run.mib:6.0f} MiB", end="")
        for peer in [peer for peer in ("one", "detectors", "duckdb") if peer in medians and peer != variant]:
            cpu, wall, mib = (mine / theirs for mine, theirs in zip(run, medians[peer], strict=True))
            print(f"   to {peer}: {cpu:.2f} CPU {wall:.2f} wall {mib:.2f} memory", end="")
        print()


if __name__ == "__main__":
    main()
