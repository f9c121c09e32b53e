"""Machine telemetry: polls machines, keeps every reading and its moving averages, reports the day's anomalies.

The rooms, along the life of a reading; imports go one way, from the top down:

    cli        what a person runs
    live       the running pipeline
    audit      the folder proved: verify, rebuild, replay
    nightly    a closed day becomes a report
    sources    a source becomes answers
    storage    the output folder
    analysis   what a day's values say
    pages      charts and HTML from plain dicts
    config     config.yaml
    readings   bytes to readings to moving averages

The raw log with settings.jsonl is the only state: everything else is derived from it, and can be derived again.
"""

from etl.analysis import analyze_values

__all__ = ["analyze_values"]
