"""Machine telemetry: polls machines, keeps every reading and its moving averages, reports the day's anomalies.

The rooms (packages); a room imports only from rooms below it:

    cli        the commands
    live       the parts of `etl run`
    audit      verify, rebuild, replay, export
    nightly    makes the report of a closed day
    sources    polls sources
    storage    reads and writes the output folder
    analysis   figures, incidents and notes of a machine's day
    pages      charts and HTML from plain dicts
    config     config.yaml
    readings   answers to raw lines, raw lines to averages lines

The raw log and settings.jsonl are the only state; everything else can be derived from them again.
"""

from etl.analysis import analyze_values

__all__ = ["analyze_values"]
