"""analyze_values, by its specified example and its laws. `python -m tests.test_average` prints the example."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import analyze_values

START = datetime(2023, 11, 1, 10)  # noqa: DTZ001  the example's timestamps name no zone
EXAMPLE = [
    ((START + timedelta(minutes=10 * i)).isoformat(), value) for i, value in enumerate([100, 120, 90, 130, 115, 80])
]

values = st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50)


def test_the_specified_example():
    """The six readings of the specification give its average, extremes and two anomalies."""
    assert analyze_values(EXAMPLE) == {
        "average": 105.83333333333333,
        "max": 130,
        "min": 80,
        "anomalies": [
            {"timestamp": "2023-11-01T10:30:00", "value": 130, "deviation": 24.16666666666667},
            {"timestamp": "2023-11-01T10:50:00", "value": 80, "deviation": 25.83333333333333},
        ],
    }


def test_no_data_has_no_figures():
    """Of no data the three figures are None and there are no anomalies."""
    assert analyze_values([]) == {"average": None, "max": None, "min": None, "anomalies": []}


def test_a_negative_average_is_taken_by_its_size():
    """Below zero the threshold is a share of |average|."""
    result = analyze_values([("a", -100.0), ("b", -100.0), ("c", -150.0)])
    assert [item["timestamp"] for item in result["anomalies"]] == ["c"]


def test_around_an_average_of_zero_everything_else_deviates():
    """With an average of 0.0 each value that is not zero is an anomaly, and zero is none."""
    result = analyze_values([("a", -1.0), ("b", 0.0), ("c", 1.0)])
    assert result["average"] == 0.0
    assert [item["timestamp"] for item in result["anomalies"]] == ["a", "c"]


def test_exactly_the_threshold_is_no_anomaly():
    """A deviation must be more than the threshold."""
    assert analyze_values([("a", 75.0), ("b", 125.0)], 0.25)["anomalies"] == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value):
    """A NaN or infinite value is refused, and the message names its timestamp."""
    with pytest.raises(ValueError, match="noon"):
        analyze_values([("morning", 1.0), ("noon", value)])


@given(values, st.floats(0, 2))
def test_anomalies_are_what_the_definition_says(data, threshold):
    """An item is an anomaly if and only if |value - average| > threshold * |average|."""
    result = analyze_values([(str(i), value) for i, value in enumerate(data)], threshold)
    average = math.fsum(data) / len(data)
    assert (result["average"], result["max"], result["min"]) == (average, max(data), min(data))
    expected = [i for i, value in enumerate(data) if abs(value - average) > threshold * abs(average)]
    assert [int(item["timestamp"]) for item in result["anomalies"]] == expected


if __name__ == "__main__":
    print(orjson.dumps(analyze_values(EXAMPLE)).decode())
