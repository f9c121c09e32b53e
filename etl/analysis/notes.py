"""Guards on the rule of analyze_values: notes on where it says little. They change nothing of it. Pure, with numpy."""

from __future__ import annotations

import numpy as np

from etl.analysis.bands import digits_of
from etl.analysis.columns import Floats

FEW = 30
"""Readings below which an average is mostly chance: its own error is then a fifth of the spread of the values."""

APART = 0.9
"""Two groups are levels if they explain this share of the variance: of a sine they explain 0.81, of noise 0.64."""

SELDOM = 0.1
"""A level holds at least this share of the readings; what is seldom is no level but what the rule looks for."""


def notes(values: Floats, threshold: float) -> list[str]:
    """What to know before believing the anomalies of a day's finite values; nothing in most cases."""
    if not len(values):
        return []
    said = []
    if len(values) < FEW:
        said.append(f"only {len(values)} readings: their average is mostly chance, and so are the anomalies")
    # In units of the largest value, so that no square can overflow.
    unit = float(np.max(np.abs(values))) or 1.0
    scaled = values / unit
    average, spread = float(scaled.mean()), float(scaled.std())
    flagged = np.mean(np.abs(scaled - average) > threshold * abs(average))
    say = digits_of(unit * spread)
    levels = _levels(np.sort(scaled))
    if levels and flagged > SELDOM:
        low, high = (say(unit * level) for level in levels)
        said.append(
            f"the values keep to two levels, about {low} and {high}, as a machine's that switches on and off: "
            f"{100 * flagged:.0f} % of the readings are anomalies, most of them normal"
        )
    elif abs(average) < spread:
        said.append(
            f"the average, {say(unit * average)}, is less than the usual spread of {say(unit * spread)}: "
            f"normal values differ from it by more than {100 * threshold:g} % of it"
        )
    return said


def _levels(ascending: Floats) -> tuple[float, float] | None:
    """The two levels the values keep to, if they do: the means of the two groups that explain most of the variance."""
    size = len(ascending)
    low = np.arange(max(1, int(SELDOM * size)), size - int(SELDOM * size))
    variance = ascending.var()
    if not len(low) or not variance:
        return None
    sums = np.cumsum(ascending)
    below, above = sums[low - 1] / low, (sums[-1] - sums[low - 1]) / (size - low)
    explained = low * (size - low) / size**2 * (above - below) ** 2 / variance
    best = np.argmax(explained)
    return (float(below[best]), float(above[best])) if explained[best] > APART else None
