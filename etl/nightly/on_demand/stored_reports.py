"""Reads stored reports back, only what is needed of them: summaries of the newest, what one says of a machine."""

from contextlib import suppress
from typing import Any

import msgspec

from etl.readings.lines import UNREADABLE
from etl.readings.records import Machine
from etl.storage.folder import Folder

MAX_REPORTS_BYTES = 64 << 20
"""Bytes of reports that are read for their summaries, the newest first: about 0.3 s. Beyond it only dates."""
MAX_REPORT_BYTES = 64 << 20
"""A longer report is not searched for a machine: that takes up to five times as much memory."""
MAX_INCIDENTS = 100
"""Incidents in the summaries; the others are counted."""

Incident = dict[str, Any]


class _Item(msgspec.Struct, gc=False):
    """An anomaly, of which only the number counts."""


class _Parameter(msgspec.Struct):
    anomalies: list[_Item] = []
    incidents: list[Incident] = []
    notes: list[str] = []


class _Machine(msgspec.Struct):
    source: str
    id: Any = None
    readings: int | float = 0
    expected: int | float = 0
    incidents: list[Incident] = []
    parameters: dict[str, _Parameter] = {}


class _Report(msgspec.Struct):
    machines: list[_Machine]


class Detected(msgspec.Struct):
    """The incidents and notes of a machine (its silences; no notes) or of a parameter."""

    incidents: list[Incident] = []
    notes: list[str] = []


class MachineDetections(msgspec.Struct):
    """What a report says of a machine beside its figures: its silences, and what was detected by parameter."""

    source: str
    id: Any = None
    incidents: list[Incident] = []
    parameters: dict[str, Detected] = {}


class _Detections(msgspec.Struct):
    machines: list[MachineDetections]
    rules: int | None = None


_decode_report = msgspec.json.Decoder(_Report).decode
_decode_detections = msgspec.json.Decoder(_Detections).decode


def detections(folder: Folder, day: str, machine: Machine) -> MachineDetections | None:
    """What the report of a day detected of a machine.

    None if there is no report, if it was made without detectors, or if it is damaged or too large.
    """
    content = _read(folder, day, MAX_REPORT_BYTES)
    if content is None:
        return None
    try:
        report = _decode_detections(content)
    except UNREADABLE:
        return None
    if report.rules is None:
        return None
    return next((entry for entry in report.machines if (entry.source, entry.id) == machine), None)


def summaries(folder: Folder, since: str) -> dict[str, Any]:
    """The date and the counts of each report, the newest first, and the incidents of the reports from `since` on.

    An incident that several reports have is listed once, as the newest of them has it.
    """
    reports, incidents, rest = list[dict[str, Any]](), dict[tuple[Any, ...], dict[str, Any]](), MAX_REPORTS_BYTES
    for day in reversed(folder.reports()):
        summary: dict[str, Any] = {"date": day}
        reports.append(summary)
        content = _read(folder, day, rest)
        if content is None:
            continue
        rest -= len(content)
        try:
            machines = _decode_report(content).machines
        except UNREADABLE:
            continue
        listed = [incident for machine in machines for incident in _incidents(day, machine)]
        lasting = sum(incident["lasting"] for incident in listed)
        summary |= {
            "incidents": len(listed) - lasting,
            "lasting": lasting,
            "anomalies": sum(len(each.anomalies) for machine in machines for each in machine.parameters.values()),
            "readings": sum(machine.readings for machine in machines),
            "expected": sum(machine.expected for machine in machines),
        }
        if day >= since:
            for incident in listed:
                identity = tuple(incident[key] for key in ("source", "id", "parameter", "start", "detector"))
                incidents.setdefault(identity, incident)
    newest = sorted(incidents.values(), key=lambda incident: (incident["date"], incident["start"]), reverse=True)
    return {
        "reports": reports,
        "incidents": newest[:MAX_INCIDENTS],
        "more": max(0, len(newest) - MAX_INCIDENTS),
    }


def _incidents(day: str, machine: _Machine) -> list[dict[str, Any]]:
    """The incidents of a machine and of its parameters, as the summaries have them."""
    machine_id = msgspec.json.encode(machine.id).decode()
    entries = [(None, machine.incidents), *((name, entry.incidents) for name, entry in machine.parameters.items())]
    return [
        {
            "date": day,
            "source": machine.source,
            "id": machine_id,
            "parameter": parameter,
            **{key: str(incident.get(key, "")) for key in ("start", "end", "detector")},
            "lasting": bool(incident.get("lasting")),
            "why": str(incident.get("why", "")),
        }
        for parameter, listed in entries
        for incident in listed
    ]


def _read(folder: Folder, day: str, limit: int) -> bytes | None:
    """A report of at most `limit` bytes; None if it is longer, or cannot be read: the others can."""
    path = folder.report_path(day)
    with suppress(OSError):
        if path.stat().st_size <= limit:
            return folder.read(path)
    return None
