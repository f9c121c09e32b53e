"""What pages show of a machine's entry in a report: its name, its incidents, its changes of alarms."""

from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from etl.pages.charts import Axis
from etl.pages.text import MAX_REASON_CHARACTERS, clock, local_time, plain
from etl.readings.digits import average_decimals, number, quantity, with_unit

MAX_TELLING = 1000
"""With more anomalies the parameter has no normal value, and the largest deviations say nothing: none is listed."""

Entry = dict[str, Any]


class Day(NamedTuple):
    """The day of a report, its zone and time axis, and what holds for all machines: the units and the threshold."""

    date: date
    zone: ZoneInfo
    axis: Axis
    units: Mapping[str, str]
    threshold: float

    def clock(self, timestamp: Any) -> str:
        """The local time of a timestamp, with its date if that is another day."""
        return clock(timestamp, self.date, self.zone)


def details(machine: Entry) -> str:
    """What follows the source of a machine: its id and name, if it has them."""
    parts = [f"id {plain(machine['id'])}"] if machine["id"] is not None else []
    return ", ".join([*parts, plain(machine["name"])] if machine["name"] is not None else parts)


def anomalies_of(anomalies: int, readings: int) -> str:
    """The number of anomalies of a parameter; a large one beside that of the readings."""
    return f"{anomalies:,}" if anomalies <= MAX_TELLING else f"{anomalies:,} of {readings:,}"


def anomalies_counted(anomalies: int, readings: int) -> str:
    """The same with its noun."""
    noun = "readings are anomalies" if anomalies > MAX_TELLING else "anomaly" if anomalies == 1 else "anomalies"
    return f"{anomalies_of(anomalies, readings)} {noun}"


def incidents(machine: Entry, day: Day) -> list[dict[str, str]]:
    """The incidents of a machine and of its parameters, the strongest first."""
    entries = [("", machine), *machine["parameters"].items()]
    incidents = [(parameter, incident) for parameter, entry in entries for incident in entry.get("incidents", ())]
    incidents.sort(key=lambda incident: -(incident[1].get("deviation") or 0))
    return [incident_shown(parameter, incident, day) for parameter, incident in incidents]


def incident_shown(parameter: str, incident: Entry, day: Day) -> dict[str, str]:
    """What the page shows of an incident; if it began on another day, both its times have their date."""
    start = local_time(incident["start"], day.zone)
    shown = day._replace(date=date.min) if start and start.date() != day.date else day
    return {
        "parameter": plain(parameter),
        "unit": day.units.get(parameter, ""),
        "reason": plain(incident.get("why", ""), MAX_REASON_CHARACTERS),
        "start": shown.clock(incident["start"]),
        "end": shown.clock(incident["end"]),
        "at": fragment(incident["start"], day),
    }


def alarm_shown(change: Entry, places: Mapping[str, int], day: Day) -> dict[str, Any]:
    """What the page shows of a change of an alarm."""
    parameter, unit = change["parameter"], day.units.get(change["parameter"] or "", "")
    holds = f"status {plain(change['value'])}"
    if parameter is not None:
        value = number(change["value"], average_decimals(places.get(parameter, 0)))
        holds = f"{plain(parameter)} {with_unit(value, unit)}"
    limit = change["limit"]
    return {
        "at": change["at"],
        "time": day.clock(change["at"]),
        "name": plain(change["alarm"]),
        "state": "still raised" if change.get("continued") else plain(change["state"]),
        "holds": holds if limit is None else f"{holds}, limit {with_unit(quantity(limit), unit)}",
        "fragment": fragment(change["at"], day),
    }


def fragment(timestamp: Any, day: Day) -> str:
    """The fragment that makes a day page show the values at a time; empty for a time of another day."""
    time = local_time(timestamp, day.zone)
    return f"#at={time.timestamp():.0f}" if time and time.date() == day.date else ""


def periods(entry: Entry, zone: ZoneInfo) -> list[tuple[float, float]]:
    """Start and end (seconds since the epoch) of the incidents of a machine or of a parameter."""
    times = ((local_time(i["start"], zone), local_time(i["end"], zone)) for i in entry.get("incidents", ()))
    return [(start.timestamp(), end.timestamp()) for start, end in times if start and end]
