"""What a day's values say: state in, state out, without I/O or clock.

    values      analyze_values: average, maximum, minimum, anomalies
    columns     the same for many machines at once
    detectors   how far each reading is from what its machine did before
    bands       the band a value is expected in
    incidents   flagged readings put together, and silences
    notes       notes on where the rule of analyze_values says little
    machine_day one machine's day

Only `values` works without numpy. Imported by every room but `readings`.
"""

from etl.analysis.values import analyze_values

__all__ = ["analyze_values"]
