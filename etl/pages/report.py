"""The report as a page, and the console's files: plain dicts in, bytes out. Nothing on a page comes from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from itertools import chain
from math import floor, fsum, isfinite
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from etl.pages.charts import Axis, chart, time_axis

CHARTED = 50
"""Machines whose day is drawn, at most: those with the most incidents and anomalies."""
OPEN = 3
"""Of those, how many are unfolded when the page opens."""
LISTED = 50
"""Rows of machines that are not folded away."""
INCIDENTS = 5
"""Incidents of a machine that are not folded away."""
LARGEST = 5
"""Anomalies of a parameter that are listed, the largest."""
NONE = "\N{EN DASH}"
"""What stands where there is no value."""
NAME, WHY = 100, 400
"""Characters of a name, and of an incident's reason, that are shown."""

Series = tuple[Sequence[float], Mapping[str, Sequence[float]]]
"""A machine's day: times in seconds since the epoch, and the values of each parameter, NaN where there was none."""
Report = dict[str, Any]


def report_page(report: Report, series: Sequence[Series | None]) -> bytes:
    """The page of a report, which needs nothing beside itself.

    Args:
        report: the JSON report.
        series: what to draw of each machine, in the report's order; None where nothing is to be drawn.

    """
    day, zone = date.fromisoformat(report["date"]), ZoneInfo(report["timezone"])
    start, end = (datetime.combine(midnight, time(), tzinfo=zone).timestamp() for midnight in (day, _after(day)))
    axis = time_axis(start, end, zone)
    order = sorted(range(len(report["machines"])), key=lambda i: _rank(report["machines"][i]))
    machines = [_machine(i, report["machines"][i], day, zone) for i in order]
    drawn = [machine for machine in machines if machine["anomalies"] or machine["incidents"]][:CHARTED]
    for machine in drawn:
        machine["drawn"] = True
        machine["figures"] = _figures(machine, report, series[machine["number"]], axis, zone)
    style = _text("base.css") + _text("charts.css") + _text("report.css")
    page = _environment().get_template("report.html").render(
        report=report,
        day=day,
        sentence=_sentence(report, machines),
        hours=(end - start) / 3600,
        machines=machines,
        drawn=drawn,
        left_out=sum(1 for machine in machines if machine["anomalies"] or machine["incidents"]) - len(drawn),
        style=Markup(style),  # noqa: S704  our own file
        style_hash=b64encode(sha256(style.encode()).digest()).decode(),
        OPEN=OPEN, LISTED=LISTED, INCIDENTS=INCIDENTS,
    )  # fmt: skip
    return page.encode("utf-8", "replace")


def live_charts(machine: dict[str, Any]) -> dict[str, str]:
    """The charts of a machine's last readings by parameter, each with a band around their average.

    Args:
        machine: `times` (seconds since the epoch), `values` by parameter, `interval`, `threshold`, `timezone`.

    """
    times, interval = machine["times"], machine["interval"]
    axis = time_axis(min(times), max(times), ZoneInfo(machine["timezone"]))
    charts: dict[str, str] = {}
    for parameter, values in machine["values"].items():
        present = [value for value in values if isfinite(value)]
        average = fsum(present) / len(present) if present else None
        label = f"{plain(parameter)}: the last {len(present)} readings, average {number(average)}"
        charts[parameter] = chart(times, values, axis, interval, average, machine["threshold"], label)
    return charts


def console_styles() -> bytes:
    """The styles that the console shares with the report page: base.css and charts.css."""
    return (_text("base.css") + _text("charts.css")).encode()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(loader=PackageLoader("etl.pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(plain=plain, number=number, count="{:,}".format, share=share)
    return made


def _text(name: str) -> str:
    return (files("etl.pages") / "templates" / name).read_text()


def plain(value: Any, most: int = NAME) -> str:
    """Anything a machine sent, as text of one line that cannot disturb the text around it."""
    text = str(value)
    clipped = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in clipped)


def number(value: float | None) -> str:
    """A value for a column of values."""
    if value is None:
        return NONE
    return f"{value:,.2f}" if value == 0 or 0.01 <= abs(value) < 1e7 else f"{value:.3g}"


def share(part: float, whole: float) -> str:
    """A share in per cent, never rounded up to 100."""
    return f"{floor(1000 * part / whole) / 10:g} %" if whole else NONE


def _after(day: date) -> date:
    return day + timedelta(days=1)


def _incidents(machine: Report) -> list[tuple[str, Report]]:
    """The incidents of a machine and of its parameters, where the report has some, the strongest first."""
    found = [("", incident) for incident in machine.get("incidents", ())]
    for parameter, figures in machine["parameters"].items():
        found += [(parameter, incident) for incident in figures.get("incidents", ())]
    return sorted(found, key=lambda incident: -(incident[1].get("deviation") or 0))


def _anomalies(machine: Report) -> int:
    return sum(len(figures["anomalies"]) for figures in machine["parameters"].values())


def _rank(machine: Report) -> tuple[float, ...]:
    """The worst machines come first; those alike stay in the report's order."""
    return -len(_incidents(machine)), -_anomalies(machine), machine["readings"]


def _machine(at: int, machine: Report, day: date, zone: ZoneInfo) -> dict[str, Any]:
    """What the page says of a machine; `at` is its place in the report."""
    about = [f"id {plain(machine['id'])}"] if machine["id"] is not None else []
    if machine["name"] is not None:
        about.append(plain(machine["name"]))
    return {
        **machine,
        "number": at,
        "about": ", ".join(about),
        "anomalies": _anomalies(machine),
        "incidents": [_incident(parameter, incident, day, zone) for parameter, incident in _incidents(machine)],
        "stretches": {parameter: _stretches(figures, zone) for parameter, figures in machine["parameters"].items()},
        "silences": _stretches(machine, zone),
        "drawn": False,
    }  # fmt: skip


def _incident(parameter: str, incident: Report, day: date, zone: ZoneInfo) -> dict[str, str]:
    """What the page says of an incident; one that began on another day has its dates."""
    start = _moment(incident["start"], zone)
    dated = date.min if start and start.date() != day else day
    return {
        "what": parameter,
        "why": plain(incident.get("why", ""), WHY),
        "start": _clock(incident["start"], dated, zone),
        "end": _clock(incident["end"], dated, zone),
    }


def _figures(
    machine: dict[str, Any], report: Report, series: Series | None, axis: Axis, zone: ZoneInfo
) -> list[dict[str, Any]]:
    """A figure of each parameter that has anomalies or incidents, or of each if the machine has incidents itself."""
    day = date.fromisoformat(report["date"])
    figures = []
    for parameter, found in machine["parameters"].items():
        if not (found["anomalies"] or machine["stretches"][parameter] or machine["silences"]):
            continue
        label = (
            f"{plain(parameter)} of {plain(machine['source'])} over the day: average {number(found['average'])}, "
            f"{len(found['anomalies'])} readings outside the band"
        )
        drawn = series and chart(
            series[0], series[1][parameter], axis, report["interval"], found["average"], report["threshold"], label,
            machine["stretches"][parameter] + machine["silences"],
        )  # fmt: skip
        largest = sorted(found["anomalies"], key=lambda anomaly: -anomaly["deviation"])[:LARGEST]
        figures.append({
            "parameter": parameter,
            "count": len(found["anomalies"]),
            "average": found["average"],
            "notes": [plain(note, WHY) for note in found.get("notes", ())],
            "chart": drawn,
            "largest": [{**anomaly, "at": _clock(anomaly["timestamp"], day, zone)} for anomaly in largest],
        })  # fmt: skip
    return figures


def _moment(stamp: Any, zone: ZoneInfo) -> datetime | None:
    """A timestamp in local time; one without a zone is local already. None if it is no RFC 3339."""
    try:
        told = datetime.fromisoformat(stamp)
        return told.astimezone(zone) if told.tzinfo else told.replace(tzinfo=zone)
    except (TypeError, ValueError, OverflowError):
        return None


def _clock(stamp: Any, day: date, zone: ZoneInfo) -> str:
    """A timestamp as people read it on a page of that day; one that is none stays as it is."""
    moment = _moment(stamp, zone)
    if moment is None:
        return plain(stamp)
    return moment.strftime("%H:%M:%S" if moment.date() == day else "%Y-%m-%d %H:%M:%S")


def _stretches(entry: Report, zone: ZoneInfo) -> list[tuple[float, float]]:
    """The stretches of time of an entry's incidents, in seconds since the epoch."""
    ends = [(_moment(i["start"], zone), _moment(i["end"], zone)) for i in entry.get("incidents", ())]
    return [(start.timestamp(), end.timestamp()) for start, end in ends if start and end]


def _sentence(report: Report, machines: list[dict[str, Any]]) -> str:
    """The day in two or three sentences."""
    readings = sum(machine["readings"] for machine in machines)
    expected = sum(machine["expected"] for machine in machines)
    anomalous = [machine for machine in machines if machine["anomalies"]]
    anomalies = sum(machine["anomalies"] for machine in anomalous)
    values = list(chain.from_iterable(machine["parameters"].values() for machine in machines))
    gave = (
        f"{_several(len(machines), 'machine')} gave {readings:,} of {expected:,} expected readings "
        f"({share(readings, expected)})."
    )
    if not any(figures["average"] is not None for figures in values):
        return f"{gave} None of them had a value to analyze."
    limit = f"more than {100 * report['threshold']:g} % from the day's average"
    outside = f"{_several(anomalies, 'value')} of {_several(len(anomalous), 'machine')}" if anomalous else "No value"
    struck = [machine for machine in machines if machine["incidents"]]
    incidents = _several(sum(len(machine["incidents"]) for machine in struck), "incident")
    told = f" {incidents} of {_several(len(struck), 'machine')}." if struck else ""
    return f"{gave} {outside} deviated {limit}.{told}"


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
