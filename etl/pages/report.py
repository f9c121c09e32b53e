"""The report page: a day's JSON report and charts of its machines as one HTML file that refers to no other file."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from heapq import nlargest
from math import inf
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

from etl.pages.charts import Band, Marks, Segments, chart, decimals_of, time_axis
from etl.pages.entries import (
    MAX_TELLING,
    Day,
    alarm_shown,
    anomalies_counted,
    anomalies_of,
    details,
    fragment,
    incidents,
    periods,
)
from etl.pages.headline import anomaly_count, headline
from etl.pages.links import machine_query
from etl.pages.rendering import render
from etl.pages.text import (
    MAX_REASON_CHARACTERS,
    NO_UNITS,
    figure,
    plain,
    unbroken,
)
from etl.readings.days import begins, day_after
from etl.readings.digits import MAX_SAMPLE, average_decimals, decimals, number, with_unit
from etl.readings.text import plural

MAX_CHARTED = 50
"""Machines with charts: those with the most incidents and anomalies. A chart takes about 10 kB of the page."""
MAX_OPEN = 3
"""Machines whose charts are unfolded when the page opens."""
MAX_ROWS = 50
"""Machines of the table that are not folded away."""
MAX_INCIDENTS = 5
"""Incidents of a machine that are not folded away."""
MAX_OPEN_ALARMS, MAX_ALARMS = 20, 500
"""Changes of alarms that are not folded away, and that the page lists; the JSON report has all of them."""
MAX_DEVIATIONS = 5
"""Anomalies of a parameter that the page lists; the JSON report has all of them."""
MAX_SAMPLED = 3
"""Machines whose readings are read for their digits alone, on a day without charts."""

Report = dict[str, Any]


def report_page(
    report: Report, series: Sequence[Mapping[str, Segments]], units: Mapping[str, str] = NO_UNITS, until: float = inf
) -> bytes:
    """Render the page of a JSON report; the charts end at `until` (seconds since the epoch), if the day is not over.

    `series` has the readings of each machine by parameter, in the order of the report, each thinned for its chart. Only
    the machines with charts are read from it. `units` are those of the parameters, by name.
    """
    zone = ZoneInfo(report["timezone"])
    start, end = begins(report["date"], zone), begins(day_after(report["date"]), zone)
    axis = time_axis(start, min(end, until), zone, report["interval"])
    day = Day(
        date.fromisoformat(report["date"]),
        zone,
        axis,
        {name: plain(unit) for name, unit in units.items()},
        report["threshold"],
    )
    machines = [_machine(place, machine, day) for place, machine in enumerate(report["machines"])]
    machines.sort(key=lambda machine: (-len(machine["incidents"]), -machine["anomalies"], machine["readings"]))
    notable = [machine for machine in machines if machine["anomalies"] or machine["incidents"] or machine["has_alarms"]]
    charted = notable[:MAX_CHARTED]
    sampled = charted or machines[:MAX_SAMPLED]
    for machine in sampled:
        segments = series[machine["place"]]
        machine["places"] |= {name: decimals_of(segments[name]) for name in machine["places"]}
        if machine in charted:
            machine["figures"] = list(_figures(report["machines"][machine["place"]], segments, day))
    _complete_decimals(machines, sampled)
    alarms = []
    for machine in machines:
        entry = report["machines"][machine["place"]]
        machine["rows"] = [_row(name, entry, places, day) for name, places in machine["places"].items()]
        alarms += [
            {**alarm_shown(change, machine["places"], day), "machine": machine} for change in entry.get("alarms", ())
        ]
    alarms.sort(key=itemgetter("at"))
    context = {
        "report": report,
        "day": day.date,
        "sentence": unbroken(headline(report)),
        "hours": (end - start) / 3600,
        "so_far": until < end,
        "machines": machines,
        "charted": charted,
        "not_charted": len(notable) - len(charted),
        "alarms": alarms,
        "limits": {
            "open": MAX_OPEN,
            "rows": MAX_ROWS,
            "incidents": MAX_INCIDENTS,
            "open_alarms": MAX_OPEN_ALARMS,
            "alarms": MAX_ALARMS,
        },
    }
    return render("report.html", context, "report.css")


def _machine(place: int, machine: Report, day: Day) -> dict[str, Any]:
    """The machine at a place of the report, with what the page shows of it."""
    return {
        "place": place,
        "source": plain(machine["source"]),
        "details": details(machine),
        "page": _day_page(machine, day),
        "readings": machine["readings"],
        "expected": machine["expected"],
        "anomalies": anomaly_count(machine),
        "incidents": incidents(machine, day),
        "has_alarms": bool(machine.get("alarms")),
        "places": {parameter: _decimals(result) for parameter, result in machine["parameters"].items()},
    }


def _day_page(machine: Report, day: Day) -> str:
    """The address of the machine's day, relative to that of the report."""
    return f"../machines/day?{machine_query(machine['source'], json.dumps(machine['id']))}&date={day.date}"


def _decimals(result: Report) -> int:
    """The decimal places of a parameter's readings, as far as the report has readings."""
    anomalies = [anomaly["value"] for anomaly in result["anomalies"][:MAX_SAMPLE]]
    return decimals([value for value in (result["max"], result["min"], *anomalies) if value is not None])


def _complete_decimals(machines: Iterable[dict[str, Any]], sampled: Iterable[dict[str, Any]]) -> None:
    """Give each parameter at least the decimal places that it has on most machines: extremes may end in 0 by chance.

    Those of the machines `sampled` are known from their readings.
    """
    usual: dict[str, Counter[int]] = {}
    for machine in machines:
        for parameter, places in machine["places"].items():
            usual.setdefault(parameter, Counter())[places] += 1
    least = {parameter: counter.most_common(1)[0][0] for parameter, counter in usual.items()}
    exact = {machine["place"] for machine in sampled}
    for machine in machines:
        if machine["place"] not in exact:
            machine["places"] = {name: max(places, least[name]) for name, places in machine["places"].items()}


def _row(parameter: str, machine: Report, places: int, day: Day) -> dict[str, Any]:
    """What the table shows of a parameter; its notes are beside its chart, if it has one."""
    result, unit = machine["parameters"][parameter], day.units.get(parameter, "")
    return {
        "parameter": plain(parameter),
        "unit": unit,
        "average": figure(result["average"], average_decimals(places)),
        "extremes": [figure(result[key], places) for key in ("max", "min")],
        "anomalies": anomalies_of(len(result["anomalies"]), machine["readings"]),
        "has_anomalies": bool(result["anomalies"]),
        "notes": [] if result["anomalies"] else [plain(n, MAX_REASON_CHARACTERS) for n in result.get("notes", ())],
    }


def _figures(machine: Report, segments: Mapping[str, Segments], day: Day) -> Iterable[dict[str, Any]]:
    """A chart of each parameter with anomalies, incidents or alarms; of each one if the machine itself has incidents.

    A parameter without a value has none.
    """
    silences = periods(machine, day.zone)
    for parameter, result in machine["parameters"].items():
        limits = {change["limit"] for change in machine.get("alarms", ()) if change["parameter"] == parameter}
        marked = periods(result, day.zone) + silences
        if result["average"] is None or not (result["anomalies"] or marked or limits):
            continue
        yield _figure(parameter, machine, segments[parameter], Marks(marked, sorted(limits - {None})), day)


def _figure(parameter: str, machine: Report, segments: Segments, marks: Marks, day: Day) -> dict[str, Any]:
    result, unit, places = machine["parameters"][parameter], day.units.get(parameter, ""), decimals_of(segments)
    anomalies = result["anomalies"]
    average = with_unit(number(result["average"], average_decimals(places)), unit)
    outside = f"{plural(len(anomalies), 'reading')} outside the band"
    label = f"{plain(parameter)} of {plain(machine['source'])} over the day: average {average}, {outside}"
    listed = anomalies if len(anomalies) <= MAX_TELLING else []
    largest = nlargest(MAX_DEVIATIONS, listed, key=itemgetter("deviation"))
    return {
        "parameter": plain(parameter),
        "unit": unit,
        "has_anomalies": bool(anomalies),
        "anomalies": anomalies_counted(len(anomalies), machine["readings"]),
        "average": average,
        "notes": [plain(note, MAX_REASON_CHARACTERS) for note in result.get("notes", ())],
        "chart": chart(segments, day.axis, Band.around(result["average"], day.threshold), label, marks, unit),
        "largest": [
            {
                "time": day.clock(anomaly["timestamp"]),
                "at": fragment(anomaly["timestamp"], day),
                "value": with_unit(number(anomaly["value"], places), unit),
                "deviation": with_unit(number(anomaly["deviation"], average_decimals(places)), unit),
            }
            for anomaly in largest
        ],
    }
