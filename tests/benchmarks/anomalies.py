"""Scores of the night's incidents: on series with labelled windows, and on simulated machines.

python -m tests.benchmarks.anomalies --data DIR ... [--detectors NAME,...] [--against NAME,...] [--python PATH]

Each DIR holds CSV files (timestamp,value; .csv or .csv.gz) and windows.json: {file: {"windows": [[first, last], ...]}},
optionally with "ignore" (periods that count neither way), "scored_from" (else the first 15 % of a file are not scored)
and "machine" (series of one machine are not independent). Each series is one machine; `etl replay` imports them, and
`etl report` reports every day. An incident is true if it starts inside a window; a window counts once; every other
incident is false. Precision is windows found / (windows found + false incidents), recall is windows found / windows.

The intervals are 95 % of bootstrap samples over machines. With --against (other detectors) or --python (the Python of
another checkout's environment), both settings are scored in one run, and the difference is paired: a change of the
rules counts if the interval of the macro mean excludes zero. Chance is the mean F1 of the same incidents against
windows rotated at random. The cost is the CPU time of `etl report` for each day of a machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import yaml

from etl.readings.times import rfc3339
from etl.storage.folder import Folder
from tests.benchmarks.labelled import DAY_S, Series, by_unit, counts, interval, labelled, resampled_f1, score, seconds
from tests.benchmarks.simulated import fleet, steady

ROTATIONS = 200
SEED = 1


class Setting(NamedTuple):
    """Which rules are scored: the Python whose `etl` is run, and the detectors."""

    python: str
    detectors: list[str]


def etl(python: str, root: Path, config: dict[str, Any], *command: str) -> None:
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    subprocess.run(
        [python, "-m", "etl", *command, "--config", str(root / "config.yaml")], cwd=root, check=True,
        capture_output=True)  # fmt: skip


def replayed(root: Path, series: list[Series]) -> list[Path]:
    """Replay the series into folders: one for each interval there is."""
    intervals: dict[str, dict[str, list[Series]]] = {}
    for each in series:
        median = f"{np.median(np.diff(each.times)):.0f}s"
        intervals.setdefault(median, {}).setdefault(each.machine, []).append(each)
    for median, machines in intervals.items():
        folder = root / median
        folder.mkdir()
        files = [str(record(folder, machine, parameters)) for machine, parameters in machines.items()]
        config = {
            "interval": median,
            "timezone": "UTC",
            "sources": [{"name": machine, "file": f"{machine}.jsonl"} for machine in machines],
            "parameters": {each.parameter: each.parameter for group in machines.values() for each in group},
        }
        etl(sys.executable, folder, config, "replay", *files)
    return [root / median for median in intervals]


def record(folder: Path, machine: str, parameters: list[Series]) -> Path:
    """Write the readings of a machine as JSON lines."""
    columns = [each.values.tolist() for each in parameters]
    names = [each.parameter for each in parameters]
    path = folder / f"{machine}.jsonl"
    with path.open("w") as file:
        for at, status, *values in zip(parameters[0].times, parameters[0].statuses, *columns, strict=True):
            row = {"timestamp": rfc3339(at), "status": status, **dict(zip(names, values, strict=True))}
            file.write(json.dumps(row) + "\n")
    return path


def nights(folders: list[Path], setting: Setting) -> tuple[dict[tuple[str, str], np.ndarray], float]:
    """Report every day of these folders: the starts of the incidents by series, and seconds of CPU a machine-day."""
    starts: dict[tuple[str, str], set[float]] = {}
    days, before = 0, resource.getrusage(resource.RUSAGE_CHILDREN)
    for root in folders:
        with TemporaryDirectory(dir=root) as name:
            output = Path(name) / "output"
            output.mkdir()
            # Without settings.jsonl the config's detectors govern all of the raw log.
            (output / "raw").symlink_to(root / "output" / "raw")
            config = yaml.safe_load((root / "config.yaml").read_text())
            etl(setting.python, Path(name), config | {"report": {"detectors": setting.detectors}}, "report")
            for day in Folder(output).reports():
                for machine in json.loads(Folder(output).report_path(day).read_bytes())["machines"]:
                    days += 1
                    for parameter, entry in machine["parameters"].items():
                        # An incident that goes on over midnight, or a lasting change, has one start.
                        starts.setdefault((machine["source"], parameter), set()).update(
                            seconds(incident["start"]) for incident in entry["incidents"]
                        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / days
    return {key: np.array(sorted(each)) for key, each in starts.items()}, cost


def scored(title: str, series: list[Series], folders: list[Path], setting: Setting) -> np.ndarray:
    """Print the line of a source under a setting; its counts by unit."""
    starts, cost = nights(folders, setting)
    found = [starts[each.machine, each.parameter] for each in series]
    rows = by_unit(series, [counts(each, incidents) for each, incidents in zip(series, found, strict=True)])
    turns = np.random.default_rng(SEED).random((ROTATIONS, len(series)))
    rotated = [[counts(*each) for each in zip(series, found, turn, strict=True)] for turn in turns]
    chance = np.mean([score(np.sum(turn, axis=0)).f1 for turn in rotated])
    figures = score(rows.sum(axis=0))
    between = interval(resampled_f1(rows, SEED))
    names = ",".join(setting.detectors)
    print(
        f"{title:12}{names:23}{figures.f1:6.3f}  {between:13}{figures.precision:6.2f}{figures.recall:8.2f}"
        f"{figures.false_a_day:11.4f}{chance:8.2f}{cost:11.3f}",
        flush=True,
    )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, nargs="+", required=True)
    options.add_argument("--detectors", default="telemetry,status_band")
    options.add_argument("--against")
    options.add_argument("--python", default=sys.executable)
    options.add_argument("--simulated", action=argparse.BooleanOptionalAction, default=True)
    arguments = options.parse_args()
    settings = [Setting(sys.executable, arguments.detectors.split(","))]
    other = Setting(arguments.python, (arguments.against or arguments.detectors).split(","))
    settings += [other] if other != settings[0] else []
    sources = {folder.name: labelled(folder) for folder in arguments.data}
    simulated = {"switching": fleet(20, 8, SEED), "steady": steady(10, 4, SEED)} if arguments.simulated else {}
    print(f"{'source':12}{'detectors':23}{'F1':>6}  {'95 %':13}{'prec':>6}{'recall':>8}{'false/day':>11}{'chance':>8}"
          f"{'CPU s/day':>11}")  # fmt: skip
    means: list[list[float]] = [[] for _ in settings]
    samples: list[list[np.ndarray]] = [[] for _ in settings]
    for title, series in (sources | simulated).items():
        with TemporaryDirectory() as root:
            folders = replayed(Path(root), series)
            for number, setting in enumerate(settings):
                rows = scored(title, series, folders, setting)
                if title in sources:
                    means[number].append(score(rows.sum(axis=0)).f1)
                    samples[number].append(resampled_f1(rows, SEED))
        days, events = sum(np.ptp(each.times) / DAY_S for each in series), sum(len(each.windows) for each in series)
        print(f"{'':12}{len(series)} series, {days:.0f} channel-days, {events} events")
    macro = [np.mean(each, axis=0) for each in samples]
    for number, mean in enumerate(macro):
        print(f"macro mean of setting {number + 1}: {np.mean(means[number]):.3f} ({interval(mean)})")
    if len(macro) > 1:
        print(f"paired difference, setting 1 less setting 2: {interval(macro[0] - macro[1])}")


if __name__ == "__main__":
    main()
