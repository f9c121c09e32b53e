"""The report page: a day's JSON report and charts of its machines as one HTML file that refers to no other file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import date
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from etl.pages.charts import Axis, Band, Marks, Segments, chart, time_axis
from etl.pages.console import TEMPLATES, shared_styles
from etl.pages.headline import anomaly_count, headline
from etl.pages.text import MAX_REASON_CHARACTERS, clock, count, local_time, number, plain, share
from etl.readings.days import begins, day_after
from etl.readings.text import plural

MAX_CHARTED = 50
"""Machines with charts: those with the most incidents and anomalies. A chart takes about 10 kB of the page."""
MAX_OPEN = 3
"""Machines whose charts are unfolded when the page opens."""
MAX_ROWS = 50
"""Machines of the table that are not folded away."""
MAX_INCIDENTS = 5
"""Incidents of a machine that are not folded away."""
MAX_ALARMS = 10
"""Changes of alarms of a machine that the page lists; the JSON report has all of them."""
MAX_DEVIATIONS = 5
"""Anomalies of a parameter that the page lists; the JSON report has all of them."""

Report = dict[str, Any]

_ENVIRONMENT = Environment(loader=PackageLoader("etl.pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(plain=plain, number=number, amount=count, plural=plural, share=share)


def report_page(report: Report, series: Sequence[Mapping[str, Segments]]) -> bytes:
    """Render the page of a JSON report.

    `series` has the readings of each machine by parameter, in the order of the report, each thinned for its chart. Only
    the machines with charts are read from it.
    """
    day, zone = date.fromisoformat(report["date"]), ZoneInfo(report["timezone"])
    axis = time_axis(begins(report["date"], zone), begins(day_after(report["date"]), zone), zone, report["interval"])
    machines = [_machine(place, machine, day, zone) for place, machine in enumerate(report["machines"])]
    machines.sort(key=lambda machine: (-len(machine["incidents"]), -machine["anomalies"], machine["readings"]))
    notable = [machine for machine in machines if machine["anomalies"] or machine["incidents"] or machine["alarms"]]
    charted = notable[:MAX_CHARTED]
    for machine in charted:
        machine["figures"] = _figures(machine, report, series[machine["place"]], axis)
    style = (shared_styles() + (TEMPLATES / "report.css").read_bytes()).decode()
    context = {
        "report": report,
        "day": day,
        "sentence": headline(report),
        "hours": (axis.end - axis.start) / 3600,
        "machines": machines,
        "charted": charted,
        "not_charted": len(notable) - len(charted),
        "style": Markup(style),  # noqa: S704  a file of this package
        "style_hash": b64encode(sha256(style.encode()).digest()).decode(),
        "limits": {
            "open": MAX_OPEN,
            "rows": MAX_ROWS,
            "incidents": MAX_INCIDENTS,
            "alarms": MAX_ALARMS,
            "note": MAX_REASON_CHARACTERS,
        },
    }
    return _ENVIRONMENT.get_template("report.html").render(context).encode("utf-8", "replace")


def _machine(place: int, machine: Report, day: date, zone: ZoneInfo) -> dict[str, Any]:
    """The machine at a place of the report, with what the page shows of it."""
    details = [f"id {plain(machine['id'])}"] if machine["id"] is not None else []
    if machine["name"] is not None:
        details.append(plain(machine["name"]))
    return {
        **machine,
        "place": place,
        "details": ", ".join(details),
        "anomalies": anomaly_count(machine),
        "incidents": _incidents(machine, day, zone),
        "alarms": [_alarm(change, day, zone) for change in machine.get("alarms", ())],
    }


def _incidents(machine: Report, day: date, zone: ZoneInfo) -> list[dict[str, str]]:
    """The incidents of a machine and of its parameters, the strongest first."""
    entries = [("", machine), *machine["parameters"].items()]
    incidents = [(parameter, incident) for parameter, entry in entries for incident in entry.get("incidents", ())]
    incidents.sort(key=lambda incident: -(incident[1].get("deviation") or 0))
    return [_incident(parameter, incident, day, zone) for parameter, incident in incidents]


def _incident(parameter: str, incident: Report, day: date, zone: ZoneInfo) -> dict[str, str]:
    """What the page shows of an incident; if it began on another day, both its times have their date."""
    start = local_time(incident["start"], zone)
    shown_day = date.min if start and start.date() != day else day
    return {
        "parameter": parameter,
        "reason": plain(incident.get("why", ""), MAX_REASON_CHARACTERS),
        "start": clock(incident["start"], shown_day, zone),
        "end": clock(incident["end"], shown_day, zone),
    }


def _alarm(change: Report, day: date, zone: ZoneInfo) -> dict[str, str]:
    """What the page shows of a change of an alarm."""
    value = change["value"] if change["parameter"] is None else number(change["value"])
    limit = "" if change["limit"] is None else f", limit {number(change['limit'])}"
    state = "still raised" if change.get("continued") else change["state"]
    return {
        "time": clock(change["at"], day, zone),
        "name": plain(change["alarm"]),
        "text": f"{state}: {plain(change['parameter'] or 'status')} {plain(value)}{limit}",
    }


def _periods(entry: Report, zone: ZoneInfo) -> list[tuple[float, float]]:
    """Start and end (seconds since the epoch) of the incidents of a machine or of a parameter."""
    times = ((local_time(i["start"], zone), local_time(i["end"], zone)) for i in entry.get("incidents", ()))
    return [(start.timestamp(), end.timestamp()) for start, end in times if start and end]


def _figures(
    machine: dict[str, Any], report: Report, segments: Mapping[str, Segments], axis: Axis
) -> list[dict[str, Any]]:
    """A chart of each parameter with anomalies or incidents; of each parameter if the machine itself has incidents."""
    day, zone = date.fromisoformat(report["date"]), ZoneInfo(report["timezone"])
    silences = _periods(report["machines"][machine["place"]], zone)
    figures = []
    for parameter, result in machine["parameters"].items():
        anomalies, periods = result["anomalies"], _periods(result, zone) + silences
        if not (anomalies or periods):
            continue
        label = (
            f"{plain(parameter)} of {plain(machine['source'])} over the day: average {number(result['average'])}, "
            f"{plural(len(anomalies), 'reading')} outside the band"
        )
        band = Band.around(result["average"], report["threshold"])
        largest = sorted(anomalies, key=lambda anomaly: -anomaly["deviation"])[:MAX_DEVIATIONS]
        figures.append(
            {
                "parameter": parameter,
                "anomalies": len(anomalies),
                "average": result["average"],
                "notes": [plain(note, MAX_REASON_CHARACTERS) for note in result.get("notes", ())],
                "chart": chart(segments[parameter], axis, band, label, Marks(periods)),
                "largest": [{**anomaly, "time": clock(anomaly["timestamp"], day, zone)} for anomaly in largest],
            }
        )
    return figures
