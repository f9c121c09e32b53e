"""When the 20 % rule says little, and that it is told."""

from __future__ import annotations

import numpy as np
import pytest

from etl.analysis.notes import notes

NOISE = np.random.default_rng(1).normal(size=8640)
WAVE = 10 * np.sin(np.arange(8640) / 8640 * 2 * np.pi)


@pytest.mark.parametrize(
    "values",
    [[], 50 + NOISE, 50 + WAVE + NOISE, 30 + WAVE, np.zeros(100), [50.0] * 99 + [500.0], [40.0, 45.0] * 50],
    ids=["nothing", "noise", "wave", "steep", "zeros", "spike", "two near levels"],
)
def test_of_a_plain_day_there_is_nothing_to_say(values):
    """Noise, waves, spikes and levels that the rule does not mind get no note."""
    assert notes(np.array(values, float), 0.2) == []


def test_few_readings_are_told():
    """Of fewer than 30 readings the average is mostly chance."""
    assert notes(50 + NOISE[:30], 0.2) == []
    assert notes(50 + NOISE[:29], 0.2) == ["only 29 readings: their average is mostly chance, and so are the anomalies"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            NOISE,
            "the average, -0.01, is less than the usual spread of 0.99: normal values differ from it by more than 20 %",
        ),
        (
            [50.0] * 99 + [-1e300],
            "the average, -1e+298, is less than the usual spread of 9.95e+298: normal values differ from it",
        ),
    ],
    ids=["around zero", "one monstrous value"],
)
def test_an_average_near_zero_is_told(values, said):
    """Where the values differ by more than their average, 20 % of it is no measure."""
    (note,) = notes(np.array(values, float), 0.2)
    assert note.startswith(said)


def test_a_duty_cycle_is_told():
    """A fan that is off for a third of the time is flagged all day; the note says so."""
    values = np.where(np.arange(8640) % 180 < 120, 800 + 5 * NOISE, 0.0)
    assert notes(values, 0.2) == [
        "the values keep to two levels, about 0 and 800, as a machine's that switches on and off: "
        "100 % of the readings are anomalies, most of them normal"
    ]
