"""The page of one machine and day, and the charts of its last hours."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import date, datetime
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from etl.pages.charts import Band, Marks, chart, time_axis
from etl.pages.console import TEMPLATES, shared_styles
from etl.pages.links import machine_query
from etl.pages.report import _ENVIRONMENT, _alarm, _incidents, _periods
from etl.pages.text import MAX_REASON_CHARACTERS, number, plain
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
    day, zone, machine = date.fromisoformat(view["date"]), ZoneInfo(view["timezone"]), view["machine"]
    drawn = [parameter for parameter in machine["parameters"] if view["series"][parameter]]
    charts = range_charts(view)
    style = b"".join((shared_styles(), *((TEMPLATES / f"{name}.css").read_bytes() for name in ("report", "machine"))))
    context = {
        **view,
        "day": day,
        "details": [f"id {plain(machine['id'])}"] * (machine["id"] is not None)
        + [plain(machine["name"])] * (machine["name"] is not None),
        "query": machine_query(machine["source"], view["id"]),
        "until": f"{datetime.fromtimestamp(view['end'], zone):%H:%M:%S}",
        "hours": (view["end"] - view["start"]) / 3600,
        "figures": [{**machine["parameters"][name], "name": name, "chart": charts[name]} for name in drawn],
        "without_values": [plain(name) for name in machine["parameters"] if name not in drawn],
        "incidents": _incidents(machine, day, zone),
        "alarms": [_alarm(change, day, zone) for change in machine["alarms"][:MAX_ALARMS]],
        "more_alarms": max(0, len(machine["alarms"]) - MAX_ALARMS),
        "max_open_alarms": MAX_OPEN_ALARMS,
        "max_note": MAX_REASON_CHARACTERS,
        "style": Markup(style.decode()),  # noqa: S704  a file of this package
        "style_hash": b64encode(sha256(style).digest()).decode(),
    }
    return _ENVIRONMENT.get_template("machine.html").render(context).encode("utf-8", "replace")


def range_charts(view: View) -> dict[str, Markup]:
    """The charts of a machine by parameter, of each that has a value in the range of the view."""
    zone, machine, series = ZoneInfo(view["timezone"]), view["machine"], view["series"]
    axis = time_axis(view["start"], view["end"], zone, view["interval"])
    silences = _periods(machine, zone)
    charts: dict[str, Markup] = {}
    for parameter, entry in machine["parameters"].items():
        if not series[parameter]:
            continue
        limits = view["limits"].get(parameter, ())
        marks = Marks(_periods(entry, zone) + silences, limits, view["averages"][parameter])
        label = _label(plain(machine["source"]), plain(parameter), entry, limits)
        band = Band.around(entry["average"], view["threshold"])
        charts[parameter] = chart(series[parameter], axis, band, label, marks, view["units"].get(parameter, ""))
    return charts


def _label(source: str, parameter: str, entry: Mapping[str, Any], limits: Any) -> str:
    """What a chart shows, for screen readers."""
    parts = [
        f"{parameter} of {source}: average {number(entry['average'])}",
        f"from {number(entry['min'])} to {number(entry['max'])}",
        f"{plural(entry['anomalies'], 'reading')} outside the band",
    ]
    parts += [plural(len(entry["incidents"]), "incident")] if entry["incidents"] else []
    parts += [f"limits of alarms {', '.join(f'{limit:g}' for limit in limits)}"] if limits else []
    return ", ".join(parts)
