"""Notes for the reader of a report where numbers are missing, or where the 20 % rule of analyze_values says little.

They change no anomaly.
"""

from functools import partial
from math import floor, log10

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from etl.analysis.columns import Bools, Floats
from etl.readings.averages.no_number import NO_NUMBER_READINGS
from etl.readings.digits import number
from etl.readings.text import plural

FEW_READINGS = 30
"""With fewer readings the average is unreliable: its standard error exceeds 18 % of the standard deviation."""
MIN_EXPLAINED_VARIANCE = 0.9
"""Two groups count as levels if they explain this share of the variance; of a sine they explain 0.81, of Gaussian noise
0.64."""
MIN_LEVEL_SHARE = 0.1
"""A level holds at least this share of the readings; rarer values are what the 20 % rule is meant to flag."""

MIN_SWITCHES = 4
"""A machine that switches on and off does so more often; a level that changed once or twice a day is a change."""


def lacking_note(lacks: Bools, field: str) -> list[str]:
    """A sentence if a day's readings lack a number for a parameter, several in a row; `lacks` has an item for each."""
    if len(lacks) < NO_NUMBER_READINGS or not sliding_window_view(lacks, NO_NUMBER_READINGS).all(axis=1).any():
        return []
    readings = plural(len(lacks), "reading")
    lacking = "none" if lacks.all() else f"{len(lacks) - int(lacks.sum()):,}"
    return [f"{lacking} of {readings} had a number as {field}"]


def notes(values: Floats, threshold: float, has_incidents: bool = False) -> list[str]:
    """Sentences on why the anomalies of a day's finite values may be misleading; usually none.

    With incidents none calls the values normal.
    """
    if not len(values):
        return []
    sentences = []
    if len(values) < FEW_READINGS:
        readings = plural(len(values), "reading")
        sentences.append(f"only {readings}: the average, and with it the anomalies, are unreliable")
    # Scaled to the largest value, so that no square overflows.
    unit = float(np.max(np.abs(values))) or 1.0
    scaled = values / unit
    average, spread = float(scaled.mean()), float(scaled.std())
    flagged = np.mean(np.abs(scaled - average) > threshold * abs(average))
    step = unit * spread / 10
    text = partial(number, places=-floor(round(log10(step), 6)) if step else 2)
    levels = _levels(np.sort(scaled)) if len(values) >= FEW_READINGS else None
    if has_incidents:
        return sentences
    if levels and flagged > MIN_LEVEL_SHARE and _switches(scaled, levels) >= MIN_SWITCHES:
        low, high = (text(unit * level) for level in levels)
        sentences.append(
            f"the values alternate between two levels, about {low} and {high}, like a machine that switches on and "
            f"off: {100 * flagged:.0f} % of the readings are anomalies, most of them normal"
        )
    elif abs(average) < spread:
        sentences.append(
            f"the average, {text(unit * average)}, is smaller than the standard deviation, {text(unit * spread)}: "
            f"normal values deviate from it by more than {100 * threshold:g} %"
        )
    return sentences


def _switches(values: Floats, levels: tuple[float, float]) -> int:
    """How often the values change between the lower and the upper of two levels."""
    return int(np.count_nonzero(np.diff(values > sum(levels) / 2)))


def _levels(ascending: Floats) -> tuple[float, float] | None:
    """The means of the two groups of values that explain most of the variance, or None if they explain too little."""
    size = len(ascending)
    low = np.arange(max(1, int(MIN_LEVEL_SHARE * size)), size - int(MIN_LEVEL_SHARE * size))
    variance = ascending.var()
    if not len(low) or not variance:
        return None
    sums = np.cumsum(ascending)
    below, above = sums[low - 1] / low, (sums[-1] - sums[low - 1]) / (size - low)
    explained = low * (size - low) / size**2 * (above - below) ** 2 / variance
    best = np.argmax(explained)
    return (float(below[best]), float(above[best])) if explained[best] > MIN_EXPLAINED_VARIANCE else None
