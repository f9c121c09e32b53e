"""Scores of the night's incidents: on series with labelled windows, and on a simulated fleet that switches on and off.

python -m tests.benchmarks.anomalies --data DIR [--seed 1]

DIR holds CSV files (timestamp,value) and windows.json ({file: {"windows": [[first, last], ...]}}), such as the Numenta
Anomaly Benchmark's. Each series is one machine; `etl replay` imports all of them, and `etl report` reports them, day by
day, with each choice of detectors. An incident is true if it starts inside a window; a window counts once; every other
incident is false. Precision is windows found / (windows found + false incidents), recall is windows found / windows.
Nothing is scored in the first 15 % of a file, at most 750 readings. Flagged are the readings outside the windows that
lie between start and end of an incident; of the 20 % rule, the anomalies. Chance is the mean F1 of the same incidents
against windows rotated at random. The cost is the CPU time of `etl report` for each day of a machine.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import yaml

from etl.analysis.incidents import MAX_GAP_READINGS
from etl.readings.times import rfc3339
from etl.storage.folder import Folder

DAY = 86_400
ROTATIONS = 200


class Series(NamedTuple):
    """One parameter of one machine; scored from reading `first` on."""

    machine: str
    parameter: str
    times: np.ndarray
    values: np.ndarray
    statuses: list[str | None]
    windows: list[tuple[float, ...]]
    first: int


class Outcome(NamedTuple):
    """The result of the nights: when each incident started, and which readings were flagged."""

    starts: np.ndarray
    flagged: np.ndarray


def seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def labelled(folder: Path) -> list[Series]:
    """The series of a folder."""
    series = []
    for name, labels in json.loads((folder / "windows.json").read_text()).items():
        with (folder / name).open() as file:
            rows = [(seconds(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
        times, values = np.array(rows).T
        windows = [(seconds(start), seconds(end)) for start, end in labels["windows"]]
        first = min(int(0.15 * len(rows)), 750)
        series.append(Series(Path(name).stem, "value", times, values, [None] * len(rows), windows, first))
    return series


def replayed(root: Path, series: list[Series]) -> list[Path]:
    """Replay the series into folders: one for each interval there is."""
    intervals: dict[str, dict[str, list[Series]]] = {}
    for one in series:
        interval = f"{np.median(np.diff(one.times)):.0f}s"
        intervals.setdefault(interval, {}).setdefault(one.machine, []).append(one)
    for interval, machines in intervals.items():
        folder = root / interval
        folder.mkdir()
        files = [str(record(folder, machine, parameters)) for machine, parameters in machines.items()]
        config = {
            "interval": interval,
            "timezone": "UTC",
            "sources": [{"name": machine, "file": f"{machine}.jsonl"} for machine in machines],
            "parameters": {one.parameter: one.parameter for some in machines.values() for one in some},
        }
        etl(folder, config, "replay", *files)
    return [root / interval for interval in intervals]


def record(folder: Path, machine: str, parameters: list[Series]) -> Path:
    """Write the readings of a machine as JSON lines."""
    columns = [one.values.tolist() for one in parameters]
    names = [one.parameter for one in parameters]
    path = folder / f"{machine}.jsonl"
    with path.open("w") as file:
        for at, status, *values in zip(parameters[0].times, parameters[0].statuses, *columns, strict=True):
            row = {"timestamp": rfc3339(at), "status": status, **dict(zip(names, values, strict=True))}
            file.write(json.dumps(row) + "\n")
    return path


def etl(root: Path, config: dict[str, Any], *command: str) -> None:
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    subprocess.run([sys.executable, "-m", "etl", *command, "--config", str(root / "config.yaml")],
                   check=True, capture_output=True)  # fmt: skip


Reports = dict[tuple[str, str], list[dict[str, Any]]]
"""The reports' entries of each machine and parameter, by day."""


def nights(folders: list[Path], detectors: tuple[str, ...]) -> tuple[Reports, float]:
    """Report every day of these folders; the entries, and seconds of CPU for each day of a machine."""
    results: Reports = {}
    days = 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for root in folders:
        with TemporaryDirectory(dir=root) as here:
            output = Path(here) / "output"
            output.mkdir()
            # Without settings.jsonl the config's detectors govern all of the raw log.
            (output / "raw").symlink_to(root / "output" / "raw")
            config = yaml.safe_load((root / "config.yaml").read_text())
            etl(Path(here), config | {"report": {"detectors": list(detectors)}}, "report")
            for day in Folder(output).reports():
                for machine in json.loads(Folder(output).report_path(day).read_bytes())["machines"]:
                    days += 1
                    for name, parameter in machine["parameters"].items():
                        results.setdefault((machine["source"], name), []).append(parameter)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return results, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / days


def incidents_of(one: Series, days: list[dict[str, Any]]) -> Outcome:
    """The incidents of a series; one that goes on over midnight has one start."""
    ends: dict[float, float] = {}
    for incident in (incident for day in days for incident in day["incidents"]):
        ends[seconds(incident["start"])] = seconds(incident["end"])
    flagged = np.zeros(len(one.times), bool)
    for start, end in ends.items():
        flagged |= (one.times >= start) & (one.times <= end)
    return Outcome(np.array(sorted(ends)), flagged)


def ruled(one: Series, days: list[dict[str, Any]]) -> Outcome:
    """The anomalies of the 20 % rule, grouped as incidents are, to compare with."""
    moments = [seconds(anomaly["timestamp"]) for day in days for anomaly in day["anomalies"]]
    flagged = np.isin(one.times, moments)
    places = np.flatnonzero(flagged)
    starts = places[np.diff(places, prepend=-MAX_GAP_READINGS - 1) > MAX_GAP_READINGS]
    return Outcome(one.times[starts], flagged)


class Score(NamedTuple):
    f1: float
    precision: float
    recall: float
    false_a_day: float
    flagged: float
    """The share of readings outside the windows that are flagged."""


def score(series: list[Series], outcomes: list[Outcome], shifts: Iterator[float] | None = None) -> Score:
    """Score the outcomes; with `shifts` (0 to 1), against windows rotated by that share of each series."""
    windows, hit, false, days, normal, flagged = 0, 0, 0, 0.0, 0, 0
    for one, outcome in zip(series, outcomes, strict=True):
        times = one.times[one.first :]
        length = times[-1] - times[0]
        shift = length * next(shifts) if shifts else 0.0
        starts = outcome.starts[outcome.starts >= times[0]]
        # A rotated window may go over the end; the time line is a ring then.
        inside = np.array([((starts - shift - start) % length) <= end - start for start, end, *_ in one.windows])
        inside = inside.reshape(len(one.windows), len(starts))
        labelled = np.any([(times >= start) & (times <= end) for start, end, *_ in one.windows], axis=0)
        windows += len(one.windows)
        hit += int(inside.any(axis=1).sum())
        false += int((~inside.any(axis=0)).sum())
        days += length / DAY
        normal += int(np.sum(~labelled)) if one.windows else len(times)
        flagged += int(np.sum(outcome.flagged[one.first :] & ~labelled))
    precision, recall = hit / max(hit + false, 1), hit / max(windows, 1)
    f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
    return Score(f1, precision, recall, false / days, flagged / normal)


INTERVAL = 10
SETTLING = 900
"""Seconds after a fault in which the way back to normal still belongs to it."""


def fleet(machines: int, days: int, seed: int) -> list[Series]:
    """A temperature and a speed of each machine, with a fault in every other day but the first, which is not scored.

    A machine is STARTED for 5 to 60 minutes and IDLE for 3 to 45, in turn. Its temperature follows within minutes, with
    noise and the daily wave of the hall; its fan follows within seconds, and is exactly 0 while IDLE.
    """
    dice = np.random.default_rng(seed)
    size = days * DAY // INTERVAL
    series = []
    for machine in range(machines):
        on = switching(dice, size)
        times = np.round(np.arange(size) * float(INTERVAL) + dice.uniform(0, 0.2, size), 3)
        cold, hot, fast = dice.uniform(25, 40), dice.uniform(55, 80), dice.uniform(500, 900)
        wave = dice.uniform(0.5, 2) * np.sin(2 * np.pi * (times / DAY + dice.uniform()))
        heat = ramps(np.where(on, hot, cold), dice.uniform(60, 400)) + wave
        heat += dice.normal(0, dice.uniform(0.1, 0.8), size)
        spin = ramps(np.where(on, fast, 0.0), dice.uniform(5, 15))
        spin = np.where(spin > 5, spin + dice.normal(0, dice.uniform(2, 15), size), 0.0)
        for name, values, low, high, digits in (("temperature", heat, cold, hot, 2), ("speed", spin, 0.0, fast, 1)):
            ill = [day for day in range(1, days) if dice.random() < 0.5]
            windows = [fault(dice, times, values, on, day * DAY // INTERVAL, low, high) for day in ill]
            statuses = np.where(on, "STARTED", "IDLE").tolist()
            first = DAY // INTERVAL
            series.append(Series(f"machine-{machine}", name, times, np.round(values, digits), statuses, windows, first))
    return series


def switching(dice: np.random.Generator, size: int) -> np.ndarray:
    """Whether a machine is STARTED, for each reading."""
    stays = np.stack([dice.integers(30, 360, size // 48), dice.integers(18, 270, size // 48)], axis=1).ravel()
    return np.repeat(np.arange(len(stays)) % 2 == 0, stays)[:size]


def ramps(targets: np.ndarray, constant: float) -> np.ndarray:
    """Follow the targets exponentially, with this time constant in seconds."""
    share, at, followed = 1 - np.exp(-INTERVAL / constant), targets[0], []
    for target in targets:
        at += share * (target - at)
        followed.append(at)
    return np.array(followed)


def fault(
    dice: np.random.Generator,
    times: np.ndarray,
    values: np.ndarray,
    on: np.ndarray,
    start: int,
    low: float,
    high: float,
) -> tuple[float, float, str]:
    """Put a fault somewhere into the day that begins at `start`; its window, and its kind."""
    kind = dice.choice(("stuck", "drift", "spike", "wrong level"))
    begin = start + int(dice.integers(0, DAY // INTERVAL - 1000))
    end = begin + int(dice.integers(1, 4) if kind == "spike" else dice.integers(180, 720))
    size, sign = dice.uniform(0.3, 0.8) * (high - low), dice.choice((-1, 1))
    if kind == "stuck":
        values[begin:end] = values[begin]
    elif kind == "drift":
        values[begin:end] += sign * np.linspace(0, size, end - begin)
    elif kind == "spike":
        values[begin:end] += sign * size
    else:
        # The value fits the other status: a fan that does not turn although STARTED, or turns although IDLE.
        values[begin:end] = np.where(on[begin:end], low, high) + 0.01 * (high - low) * dice.normal(size=end - begin)
    return float(times[begin]) - 0.001, float(times[end - 1]) + SETTLING, str(kind)


CHOICES = {
    "default": ("telemetry", "status_band"),
    "telemetry": ("telemetry",),
    "status_band": ("status_band",),
    "history_mad": ("history_mad",),
}
HEAD = ("detectors", "F1", "prec", "recall", "false/day", "flagged", "chance", "CPU s/day")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--seed", type=int, default=1)
    arguments = options.parse_args()
    for title, series in (("labelled", labelled(arguments.data)), ("simulated", fleet(20, 8, arguments.seed))):
        days = sum(np.ptp(one.times) / DAY for one in series)
        print(f"{title}: {len(series)} series, {days:.0f} days, {sum(len(one.windows) for one in series)} windows")
        print("{:12}{:>6}{:>6}{:>7}{:>10}{:>9}{:>7}{:>10}".format(*HEAD))
        with TemporaryDirectory() as root:
            folders = replayed(Path(root), series)
            for name, detectors in CHOICES.items():
                results, cost = nights(folders, detectors)
                outcomes = [incidents_of(one, results[one.machine, one.parameter]) for one in series]
                show(name, series, outcomes, arguments.seed, cost)
            ruled_outcomes = [ruled(one, results[one.machine, one.parameter]) for one in series]
            show("20 % rule", series, ruled_outcomes, arguments.seed)


def show(name: str, series: list[Series], outcomes: list[Outcome], seed: int, cost: float = 0.0) -> None:
    turns = np.random.default_rng(seed).random((ROTATIONS, len(series)))
    chance = np.mean([score(series, outcomes, iter(turn)).f1 for turn in turns])
    figures = score(series, outcomes)
    print("{:12}{:6.3f}{:6.2f}{:7.2f}{:10.3f}{:9.2%}{:7.2f}{:10.3f}".format(name, *figures, chance, cost), flush=True)


if __name__ == "__main__":
    main()
