"""The sentences with which a report's page and its notification begin."""

from collections.abc import Iterable, Sequence
from typing import Any

from etl.pages.text import count, plain, share
from etl.readings.text import plural

MAX_NAMED = 3
"""Machines and parameters that the headline names for each kind of incident; the page lists all of them."""

Report = dict[str, Any]


def headline(report: Report) -> str:
    """A day in two or three sentences: incidents first, then what the machines sent, last the anomalies."""
    return " ".join((*_incidents(report), _completeness(report), _anomalies(report)))


def anomaly_count(machine: Report) -> int:
    """The anomalies of a machine of a report."""
    return sum(len(result["anomalies"]) for result in machine["parameters"].values())


def incident_count(report: Report) -> int:
    """The incidents, lasting changes and silences of a report."""
    return sum(len(listed) for listed in _incident_names(report).values())


def _incidents(report: Report) -> Iterable[str]:
    if "rules" not in report:
        return
    names = _incident_names(report)
    parts = [f"{plural(len(listed), kind)} ({_listed(listed)})" for kind, listed in names.items() if listed]
    yield f"{', '.join(parts) or 'No incidents'}."


def _incident_names(report: Report) -> dict[str, list[str]]:
    """For each kind of incident the machine, and the parameter, of each."""
    names: dict[str, list[str]] = {"incident": [], "lasting change": [], "silence": []}
    for machine in report["machines"]:
        for parameter, entry in [("", machine), *machine["parameters"].items()]:
            for incident in entry.get("incidents", ()):
                kind = "silence" if incident["detector"] == "silence" else "incident"
                name = plain(f"{machine['source']} {parameter}".rstrip())
                names["lasting change" if incident.get("lasting") else kind].append(name)
    return names


def _listed(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    unnamed = len(distinct) - MAX_NAMED
    return ", ".join(distinct[:MAX_NAMED]) + (f" and {unnamed:,} more" if unnamed > 0 else "")


def _completeness(report: Report) -> str:
    machines = report["machines"]
    readings = sum(machine["readings"] for machine in machines)
    expected = sum(machine["expected"] for machine in machines)
    return (
        f"{plural(len(machines), 'machine')} sent {count(readings)} of {plural(expected, 'expected reading')} "
        f"({share(readings, expected)})."
    )


def _anomalies(report: Report) -> str:
    machines = report["machines"]
    if all(result["average"] is None for machine in machines for result in machine["parameters"].values()):
        return "None of them has a value to analyze."
    counts = [number for number in map(anomaly_count, machines) if number]
    values = f"{plural(sum(counts), 'value')} of {plural(len(counts), 'machine')}" if counts else "No value"
    verb = "deviate" if sum(counts) > 1 else "deviates"
    return f"{values} {verb} by more than {100 * report['threshold']:g} % from the day's average."
