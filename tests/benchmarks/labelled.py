"""Labelled series: read from folders, replayed, and their incidents scored."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

DAY_S = 86_400
RESAMPLES = 2000
"""Bootstrap samples of an interval: its ends are then steady to the second digit."""

Periods = list[tuple[float, float]]


class Series(NamedTuple):
    """One parameter of a machine, with its labelled windows; scored from the time `first` on.

    `unit` is what the bootstrap draws: series of one unit are not independent. An incident that starts in `ignored`
    counts neither way. Times are in seconds since the epoch.
    """

    unit: str
    machine: str
    parameter: str
    times: np.ndarray
    values: np.ndarray
    statuses: list[str | None]
    windows: Periods
    ignored: Periods
    first: float


class Counts(NamedTuple):
    """What was found in a series: windows found, false incidents, windows, days."""

    found: int
    false: int
    windows: int
    days: float


class Score(NamedTuple):
    f1: float
    precision: float
    recall: float
    false_a_day: float


def seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def labelled(folder: Path) -> list[Series]:
    """The series of a folder with windows.json, and CSV files (timestamp,value), gzipped or not."""
    series = []
    for name, labels in json.loads((folder / "windows.json").read_text()).items():
        with (gzip.open if name.endswith(".gz") else open)(folder / name, "rt") as file:
            rows = [(seconds(row["timestamp"]), float(row["value"])) for row in csv.DictReader(file)]
        times, values = np.array(rows).T
        windows, ignored = ([(seconds(start), seconds(end)) for start, end in labels.get(key, ())]
                            for key in ("windows", "ignore"))  # fmt: skip
        # Without `scored_from`, the first 15 % of a file, at most 750 readings, are not scored.
        first = seconds(labels["scored_from"]) if "scored_from" in labels else times[min(len(rows) * 15 // 100, 750)]
        stem = name.split(".csv")[0]
        series.append(Series(labels.get("machine", stem), stem, "value", times, values, [None] * len(rows), windows,
                             ignored, float(first)))  # fmt: skip
    return series


def counts(series: Series, starts: np.ndarray, shift: float = 0.0) -> Counts:
    """Compare the starts of incidents with the windows; with `shift` (0 to 1), windows rotated by that share."""
    first, length = series.first, series.times[-1] - series.first
    starts = starts[starts >= first]

    def inside(periods: Periods) -> np.ndarray:
        # A rotated window may go over the end; the time line is a ring then.
        rotated = [((starts - shift * length - start) % length) <= end - start for start, end in periods]
        return np.array(rotated).reshape(len(periods), len(starts))

    hits, ignored = inside(series.windows), inside(series.ignored).any(axis=0)
    false = ~hits.any(axis=0) & ~ignored
    return Counts(int(hits.any(axis=1).sum()), int(false.sum()), len(series.windows), length / DAY_S)


def score(rows: np.ndarray) -> Score:
    """The score of summed counts."""
    found, false, windows, days = rows
    precision, recall = found / max(found + false, 1), found / max(windows, 1)
    f1 = 2 * precision * recall / (precision + recall) if found else 0.0
    return Score(f1, precision, recall, false / days)


def by_unit(series: list[Series], results: list[Counts]) -> np.ndarray:
    """The counts summed by unit: a row each."""
    units = sorted({each.unit for each in series})
    rows = np.zeros((len(units), len(Counts._fields)))
    for each, result in zip(series, results, strict=True):
        rows[units.index(each.unit)] += result
    return rows


def resampled_f1(rows: np.ndarray, seed: int) -> np.ndarray:
    """The F1 of RESAMPLES bootstrap samples of units; the same samples for the same seed and number of units."""
    draws = np.random.default_rng(seed).integers(0, len(rows), (RESAMPLES, len(rows)))
    return np.array([score(rows[draw].sum(axis=0)).f1 for draw in draws])


def interval(samples: np.ndarray) -> str:
    low, high = np.quantile(samples, (0.025, 0.975))
    return f"{low:.2f} to {high:.2f}"
