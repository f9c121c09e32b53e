"""What a day's values say: average, extremes, anomalies, incidents and notes. State in, state out; no I/O, no clock.

    values       analyze_values: average, maximum, minimum, anomalies
    columns      the same for many machines at once
    polled_at    the times of a block of raw lines
    bands        the range in which a value is expected
    detectors    how far each reading deviates from the earlier readings of its machine
    incidents    flagged readings grouped into incidents; silences
    notes        notes where the 20 % rule says little
    machine_day  the detectors and notes of one machine and day
    past         what passes from one day to the next

Only `values` and `past` do not load numpy. Imported by `nightly`, and by `etl` for `analyze_values`.
"""

from etl.analysis.values import analyze_values

__all__ = ["analyze_values"]
