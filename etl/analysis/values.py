"""analyze_values: average, maximum, minimum and anomalies of a series."""

from math import fsum, isfinite
from typing import Any


def analyze_values(data: list[tuple[str, float]], anomaly_threshold: float = 0.2) -> dict[str, Any]:
    """Average, maximum, minimum and anomalies of (timestamp, value) pairs.

    An anomaly is a value whose deviation, |value - average|, exceeds `anomaly_threshold` times |average|.

    Returns:
        {"average", "max", "min", "anomalies": [{"timestamp", "value", "deviation"}]}. Without data the three figures
        are None and there are no anomalies.

    Raises:
        ValueError: a value is NaN or infinite; the message names its timestamp.

    """
    for timestamp, value in data:
        if not isfinite(value):
            raise ValueError(f"the value at {timestamp} is {value}: only finite numbers can be analyzed")
    if not data:
        return {"average": None, "max": None, "min": None, "anomalies": []}
    values = [value for _, value in data]
    average = fsum(values) / len(values)
    limit = anomaly_threshold * abs(average)
    anomalies = [
        {"timestamp": timestamp, "value": value, "deviation": abs(value - average)}
        for timestamp, value in data
        if abs(value - average) > limit
    ]
    return {"average": average, "max": max(values), "min": min(values), "anomalies": anomalies}
