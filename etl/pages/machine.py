"""The page of one machine and day, and the charts of its last hours."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from etl.pages.charts import Band, Marks, chart, decimals_of, time_axis
from etl.pages.entries import Day, alarm_shown, anomalies_counted, details, incidents, periods
from etl.pages.links import machine_query
from etl.pages.rendering import render
from etl.pages.text import MAX_REASON_CHARACTERS, figure, plain
from etl.readings.digits import average_decimals, quantity, with_unit
from etl.readings.text import plural

MAX_ALARMS, MAX_OPEN_ALARMS = 200, 10
"""Changes of alarms that the page lists, and those that are not folded away; the day's alarms file has all of them."""

View = dict[str, Any]


def machine_page(view: View) -> bytes:
    """Render the page of a machine and day.

    The view has `machine`, an entry as in a report, with the number of anomalies instead of a list; `id` as JSON;
    `date`, `timezone`, `interval` and `threshold` as in a report; `start` and `end` of the charts (seconds since the
    epoch), and `so_far`: whether the day is not over; by parameter `series` and `averages`, both thinned, `limits` of
    alarms and `units`; `previous` and `next` day, or None, and whether there is a `report` of the day.
    """
    machine, day = view["machine"], _day(view)
    figures = list(_figures(view, day))
    drawn = {shown["parameter"] for shown in figures}
    places = {name: decimals_of(segments) for name, segments in view["series"].items()}
    context = {
        **view,
        "day": day.date,
        "source": plain(machine["source"]),
        "details": details(machine),
        "query": machine_query(machine["source"], view["id"]),
        "until": f"{datetime.fromtimestamp(view['end'], day.zone):%H:%M:%S}",
        "hours": (view["end"] - view["start"]) / 3600,
        "figures": figures,
        "without_values": [name for name in map(plain, machine["parameters"]) if name not in drawn],
        "incidents": incidents(machine, day),
        "alarms": [alarm_shown(change, places, day) for change in machine["alarms"][:MAX_ALARMS]],
        "more_alarms": max(0, len(machine["alarms"]) - MAX_ALARMS),
        "max_open_alarms": MAX_OPEN_ALARMS,
    }
    return render("machine.html", context, "report.css", "machine.css")


def range_charts(view: View) -> dict[str, str]:
    """The charts of a machine by parameter, of each that has a value in the range of the view."""
    return {shown["name"]: str(shown["chart"]) for shown in _figures(view, _day(view))}


def _day(view: View) -> Day:
    zone = ZoneInfo(view["timezone"])
    axis = time_axis(view["start"], view["end"], zone, view["interval"])
    units = {name: plain(unit) for name, unit in view["units"].items()}
    return Day(date.fromisoformat(view["date"]), zone, axis, units, view["threshold"])


def _figures(view: View, day: Day) -> Iterable[dict[str, Any]]:
    """The chart of each parameter that has a value, and what stands above it."""
    machine = view["machine"]
    silences = periods(machine, day.zone)
    for parameter, entry in machine["parameters"].items():
        segments, unit = view["series"][parameter], day.units.get(parameter, "")
        if not segments:
            continue
        limits, places = view["limits"].get(parameter, ()), decimals_of(segments)
        average = with_unit(figure(entry["average"], average_decimals(places)), unit)
        extremes = " to ".join(with_unit(figure(entry[key], places), unit) for key in ("min", "max"))
        label = [f"{plain(parameter)} of {plain(machine['source'])}: average {average}", extremes]
        label.append(f"{plural(entry['anomalies'], 'reading')} outside the band")
        if limits:
            label.append(f"limits of alarms {', '.join(quantity(limit) for limit in limits)}")
        marks = Marks(periods(entry, day.zone) + silences, limits, view["averages"][parameter])
        band = Band.around(entry["average"], day.threshold)
        yield {
            "name": parameter,
            "parameter": plain(parameter),
            "unit": unit,
            "average": average,
            "extremes": extremes,
            "anomalies": anomalies_counted(entry["anomalies"], machine["readings"]),
            "notes": [plain(note, MAX_REASON_CHARACTERS) for note in entry["notes"]],
            "chart": chart(segments, day.axis, band, ", ".join(label), marks, unit),
        }
