"""Scores of the detectors: on series with labelled windows, and on a simulated fleet that switches on and off.

python -m tests.benchmarks.anomalies --data DIR [--seed 1]

DIR holds CSV files (timestamp,value) and windows.json ({file: {"windows": [[first, last], ...]}}), such as the Numenta
Anomaly Benchmark's. Each series is one machine, run as the nights do: day by day, each day with the last readings
before it. An incident is true if it starts inside a window; a window counts once; every other incident is false.
Precision is windows found / (windows found + false incidents), recall is windows found / windows. Nothing is scored in
the first 15 % of a file, at most 750 readings. Chance is the mean F1 of the same incidents against windows rotated at
random.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from etl.analysis import analyze_values
from etl.detectors import DETECTORS, Judged, Readings
from etl.incidents import incidents
from etl.records import MEMORY

DAY = 86_400
ROTATIONS = 200

Detector = Callable[[Readings, Readings], Judged]


class Series(NamedTuple):
    """One parameter of one machine; scored from reading `first` on."""

    name: str
    readings: Readings
    windows: list[tuple[float, ...]]
    first: int


class Outcome(NamedTuple):
    """What the nights said: when each incident started, and which readings were flagged."""

    starts: np.ndarray
    flagged: np.ndarray


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def labelled(folder: Path) -> list[Series]:
    """The series of a folder."""
    series = []
    for name, labels in json.loads((folder / "windows.json").read_text()).items():
        with (folder / name).open() as file:
            rows = [(seconds(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
        times, values = np.array(rows).T
        windows = [(seconds(start), seconds(end)) for start, end in labels["windows"]]
        readings = Readings(times, values, [None] * len(rows))
        series.append(Series(name, readings, windows, min(int(0.15 * len(rows)), 750)))
    return series


def part(readings: Readings, start: int, end: int) -> Readings:
    return Readings(*(column[start:end] for column in readings))


def nights(readings: Readings, detectors: dict[str, Detector]) -> Outcome:
    """Run all days of a series; an incident that is carried over midnight counts once."""
    days = np.floor_divide(readings.times, DAY)
    borders = [0, *(np.flatnonzero(np.diff(days)) + 1), len(days)]
    starts, flagged, carried = [], np.zeros(len(days), bool), None
    for start, end in pairwise(borders):
        before, day = part(readings, max(start - MEMORY, 0), start), part(readings, start, end)
        judged = {name: detect(before, day) for name, detect in detectors.items()}
        found, carried = incidents(day, judged, carried)
        starts += [incident["start"] for incident in found]
        flagged[start:end] = np.max([one.deviation for one in judged.values()], axis=0) > 1
    return Outcome(np.unique(starts), flagged)


def rule(before: Readings, day: Readings) -> Judged:
    """The 20 % rule as a detector, to compare with."""
    anomalies = analyze_values([(str(i), value) for i, value in enumerate(day.values.tolist())])["anomalies"]
    deviation = np.zeros(len(day.values))
    deviation[[int(anomaly["timestamp"]) for anomaly in anomalies]] = 2.0
    return Judged(deviation, day.values, day.values, lambda _: "")


class Score(NamedTuple):
    f1: float
    precision: float
    recall: float
    false_a_day: float
    flagged: float
    """The share of readings outside the windows that are flagged."""


def score(series: list[Series], outcomes: list[Outcome], shifts: Iterator[float] | None = None) -> Score:
    """Score what was found; with `shifts` (0 to 1), against windows rotated by that share of each series."""
    windows, hit, false, days, normal, flagged = 0, 0, 0, 0.0, 0, 0
    for one, outcome in zip(series, outcomes, strict=True):
        times = one.readings.times[one.first :]
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
    noise and the daily wave of the hall; its fan follows within seconds, and stands exactly still while IDLE.
    """
    dice = np.random.default_rng(seed)
    size = days * DAY // INTERVAL
    series = []
    for machine in range(machines):
        on = switching(dice, size)
        times = np.arange(size) * float(INTERVAL) + dice.uniform(0, 0.2, size)
        cold, hot, fast = dice.uniform(25, 40), dice.uniform(55, 80), dice.uniform(500, 900)
        wave = dice.uniform(0.5, 2) * np.sin(2 * np.pi * (times / DAY + dice.uniform()))
        heat = ramps(np.where(on, hot, cold), dice.uniform(60, 400)) + wave
        heat += dice.normal(0, dice.uniform(0.1, 0.8), size)
        spin = ramps(np.where(on, fast, 0.0), dice.uniform(5, 15))
        spin = np.where(spin > 5, spin + dice.normal(0, dice.uniform(2, 15), size), 0.0)
        for name, values, low, high, digits in (("temperature", heat, cold, hot, 2), ("speed", spin, 0.0, fast, 1)):
            ill = [day for day in range(1, days) if dice.random() < 0.5]
            windows = [fault(dice, times, values, on, day * DAY // INTERVAL, low, high) for day in ill]
            readings = Readings(times, np.round(values, digits), np.where(on, "STARTED", "IDLE").tolist())
            series.append(Series(f"{name} {machine}", readings, windows, DAY // INTERVAL))
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
    """Put a fault somewhere into the day that begins at `start`; its window, and what it is."""
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
        # What it shows is right for the other status: a fan that stands though STARTED, or runs though IDLE.
        values[begin:end] = np.where(on[begin:end], low, high) + 0.01 * (high - low) * dice.normal(size=end - begin)
    return float(times[begin]), float(times[end - 1]) + SETTLING, str(kind)


DEFAULT = ("telemetry", "status_band")
HEAD = ("detectors", "F1", "prec", "recall", "false/day", "flagged", "chance", "CPU s/day")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    settings = {"default": {name: DETECTORS[name] for name in DEFAULT}}
    settings |= {name: {name: detect} for name, detect in DETECTORS.items()} | {"20 % rule": {"rule": rule}}
    for title, series in (("labelled", labelled(given.data)), ("simulated", fleet(20, 8, given.seed))):
        days = sum(np.ptp(one.readings.times) / DAY for one in series)
        print(f"{title}: {len(series)} series, {days:.0f} days, {sum(len(one.windows) for one in series)} windows")
        print("{:12}{:>6}{:>6}{:>7}{:>10}{:>9}{:>7}{:>10}".format(*HEAD))
        for name, detectors in settings.items():
            began = time.process_time()
            outcomes = [nights(one.readings, detectors) for one in series]
            cost = (time.process_time() - began) / days
            found = score(series, outcomes)
            turns = np.random.default_rng(given.seed).random((ROTATIONS, len(series)))
            chance = np.mean([score(series, outcomes, iter(turn)).f1 for turn in turns])
            print("{:12}{:6.3f}{:6.2f}{:7.2f}{:10.3f}{:9.2%}{:7.2f}{:10.3f}".format(name, *found, chance, cost))


if __name__ == "__main__":
    main()
