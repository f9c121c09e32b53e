"""Notes where the 20 % rule says little."""

from __future__ import annotations

import numpy as np
import pytest

from etl.analysis.notes import lacking_note, notes

NOISE = np.random.default_rng(1).normal(size=8640)
WAVE = 10 * np.sin(np.arange(8640) / 8640 * 2 * np.pi)


@pytest.mark.parametrize(
    "values",
    [[], 50 + NOISE, 50 + WAVE + NOISE, 30 + WAVE, np.zeros(100), [50.0] * 99 + [500.0], [40.0, 45.0] * 50],
    ids=["nothing", "noise", "wave", "steep", "zeros", "spike", "two near levels"],
)
def test_an_ordinary_day_has_no_note(values):
    """Noise, waves, spikes and levels within 20 % of the average have no note."""
    assert notes(np.array(values, float), 0.2) == []


def test_few_readings_have_a_note():
    """The average of fewer than 30 readings is unreliable."""
    assert notes(50 + NOISE[:30], 0.2) == []
    assert notes(50 + NOISE[:29], 0.2) == ["only 29 readings: the average, and with it the anomalies, are unreliable"]


@pytest.mark.parametrize(
    ("values", "start"),
    [
        (
            NOISE,
            "the average, -0.01, is smaller than the standard deviation, 0.99: normal values deviate from it",
        ),
        (
            [50.0] * 99 + [-1e300],
            "the average, -1e+298, is smaller than the standard deviation, 9.95e+298: normal values deviate from it",
        ),
    ],
    ids=["around zero", "one huge value"],
)
def test_an_average_near_zero_has_a_note(values, start):
    """20 % of an average that is smaller than the standard deviation is no useful limit."""
    (note,) = notes(np.array(values, float), 0.2)
    assert note.startswith(start)


def test_a_level_that_changed_has_no_note():
    """Fewer than four switches a day are changes, and an incident is not called normal."""
    once = np.where(np.arange(8640) < 4000, 800 + 5 * NOISE, 0.0)
    duty = np.where(np.arange(8640) % 180 < 120, 800 + 5 * NOISE, 0.0)
    assert not any("two levels" in note for note in notes(once, 0.2))
    assert notes(duty, 0.2, has_incidents=True) == []


def test_a_duty_cycle_has_a_note():
    """The anomalies of a fan that is off for a third of the time are mostly normal; the note says so."""
    values = np.where(np.arange(8640) % 180 < 120, 800 + 5 * NOISE, 0.0)
    assert notes(values, 0.2) == [
        "the values alternate between two levels, about 0 and 800, like a machine that switches on and off: "
        "100 % of the readings are anomalies, most of them normal"
    ]


@pytest.mark.parametrize(
    ("lacks", "note"),
    [
        ([True] * 8640, ["none of 8,640 readings had a number as fan_sped"]),
        ([False] * 1000 + [True] * 500, ["1,000 of 1,500 readings had a number as fan_sped"]),
        ([True] * 3 + [False], ["1 of 4 readings had a number as fan_sped"]),
        ([True, True, False] * 100, []),
        ([True] * 2, []),
        ([], []),
    ],
    ids=["never", "half a day", "three", "now and then", "two", "nothing"],
)
def test_readings_without_a_number_have_a_note(lacks, note):
    """Three readings in a row without a number are a note, with how many of the day's readings had one."""
    assert lacking_note(np.array(lacks, bool), "fan_sped") == note
