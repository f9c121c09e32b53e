"""The page of one machine and day, and its last hours: read from the day's files, thinned, and drawn by `pages`."""

from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from etl.analysis.columns import Columns, figures
from etl.analysis.machine_day import analyze_machine
from etl.nightly.day import detection_period
from etl.nightly.history import first_baseline_day, newest_stored
from etl.nightly.on_demand.machine_lines import Series, averages_series, machine_of, raw_columns
from etl.nightly.on_demand.orders import MachineDayOrder, MachineHoursOrder
from etl.nightly.on_demand.stored_reports import Detected, MachineDetections, detections
from etl.nightly.report import incident_record
from etl.nightly.thinning import thin
from etl.pages.machine import machine_page, range_charts
from etl.pages.text import MAX_NAME_CHARACTERS
from etl.readings.alarms.conditions import limits_of
from etl.readings.days import begins, day_after, day_finder
from etl.readings.records import Machine, Settings
from etl.readings.text import clipped
from etl.storage.folder import Folder
from etl.storage.latest import alarm_changes
from etl.storage.settings_log import SettingsLog

MAX_DAYS = 3
"""Day files that are read for a machine's last hours, at most: 24 hours touch two, three after a clock step."""


class PageError(Exception):
    """A page cannot be made; the message says why, `status` is that of HTTP."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def machine_day(settings_log: SettingsLog, order: MachineDayOrder) -> bytes:
    """The page of a machine and day; PageError if it sent no reading on that day."""
    folder, day, machine = settings_log.folder, order.day, machine_of(order.source, order.id)
    settings = settings_log.of_day(day)
    columns = raw_columns(folder, day, machine, tuple(settings.parameters.values()))
    if columns is None:
        source, id_json = (clipped(text, MAX_NAME_CHARACTERS) for text in (order.source, order.id))
        raise PageError(404, f"No reading of {source} with the id {id_json} in the raw log of {day}")
    detected = detections(folder, day, machine) or _detect(folder, day, columns, settings, order)
    zone, days = ZoneInfo(settings.timezone), folder.days("raw")
    start, day_end = begins(day, zone), begins(day_after(day), zone)
    end = max(min(day_end, order.now), start + 1)
    entry = _entry(machine, Series(columns.times, columns.values), settings) | {
        "name": columns.name,
        "expected": round((end - start) / settings.interval),
        "incidents": detected.incidents,
        "alarms": [each for each in alarm_changes(folder, day) if (each["source"], each["id"]) == machine],
    }
    for parameter, of_parameter in entry["parameters"].items():
        detection = detected.parameters.get(parameter, Detected())
        of_parameter |= {"incidents": detection.incidents, "notes": detection.notes}
    averages = averages_series(folder, day, machine, settings.parameters)
    view = _view(entry, (start, end), Series(columns.times, columns.values), averages, settings) | {
        "id": order.id,
        "date": day,
        "so_far": order.now < day_end,
        "units": order.units,
        "previous": max((each for each in days if each < day), default=None),
        "next": min((each for each in days if each > day), default=None),
        "report": day in folder.reports(),
    }
    return machine_page(view)


def machine_hours(folder: Folder, order: MachineHoursOrder) -> dict[str, str]:
    """The charts of a machine's last hours by parameter, under the settings of the running process."""
    settings, machine = order.settings, machine_of(order.source, order.id)
    fields = tuple(settings.parameters.values())
    start = order.now - 3600 * order.hours
    day_of = day_finder(ZoneInfo(settings.timezone))
    days = [day for day in folder.days("raw") if day >= day_of(start)][-MAX_DAYS:]
    columns = [part for day in days if (part := raw_columns(folder, day, machine, fields))]
    readings = Series.joined([Series(day.times, day.values) for day in columns], len(fields)).since(start)
    averages = Series.joined(
        [averages_series(folder, day, machine, settings.parameters) for day in days], len(fields)
    ).since(start)
    entry = _entry(machine, readings, settings)
    view = _view(entry, (start, order.now), readings, averages, settings)
    return range_charts(view | {"units": order.units, "date": day_of(order.now)})


def _entry(machine: Machine, readings: Series, settings: Settings) -> dict[str, Any]:
    """The entry of a machine as in a report, without incidents, and with the number of its anomalies."""
    parameters: dict[str, dict[str, Any]] = {}
    for parameter, values in zip(settings.parameters, readings.values, strict=True):
        column = figures(values, settings.threshold)
        parameters[parameter] = {
            "average": column.average,
            "max": column.highest,
            "min": column.lowest,
            "anomalies": len(column.rows),
            "incidents": [],
            "notes": [],
        }
    source, machine_id = machine
    return {
        "source": source,
        "id": machine_id,
        "readings": len(readings.times),
        "incidents": [],
        "parameters": parameters,
    }


def _view(
    entry: dict[str, Any], period: tuple[float, float], readings: Series, averages: Series, settings: Settings
) -> dict[str, Any]:
    """What `pages` draws of a machine in a period (seconds since the epoch)."""
    traces = {
        name: dict(
            zip(
                settings.parameters,
                [thin(series.times, values, *period, settings.interval) for values in series.values],
                strict=True,
            )
        )
        for name, series in (("series", readings), ("averages", averages))
    }
    return {
        "machine": entry,
        "start": period[0],
        "end": period[1],
        "timezone": settings.timezone,
        "interval": settings.interval,
        "threshold": settings.threshold,
        "limits": limits_of(settings.alarms, settings.parameters, entry["source"]),
        **traces,
    }


def _detect(
    folder: Folder, day: str, columns: Columns, settings: Settings, order: MachineDayOrder
) -> MachineDetections:
    """Run the detectors on a machine's day, with the stored history if it is that of the day before."""
    machine = machine_of(order.source, order.id)
    if not settings.detectors:
        return MachineDetections(*machine)
    first = first_baseline_day(day, settings)
    before = [each for each in folder.days("raw") if first <= each < day]
    history = newest_stored(folder, first, day, settings)
    past = None
    # An older one would make the days since then a silence.
    if history and before and history.day == before[-1]:
        past = history.machines.get(msgspec.json.encode(machine).decode())
    detection = analyze_machine(columns, past, settings, *detection_period(day, settings, order.now))
    parameters = {
        name: Detected(list(map(incident_record, result.incidents)), result.notes)
        for name, result in zip(settings.parameters, detection.parameters, strict=True)
    }
    return MachineDetections(*machine, list(map(incident_record, detection.silences)), parameters)
