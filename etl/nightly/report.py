"""The report of a day: made from its analysis, and written whole or not at all."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import floor, inf, log10
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import orjson

from etl.analysis.columns import Figures
from etl.analysis.past import RULES
from etl.nightly.day import AnalyzedMachine, DayTask, analyze, history_before, timestamps
from etl.nightly.executors import SERIAL, Mapper
from etl.nightly.history import History, first_baseline_day, keep
from etl.nightly.thinning import ThinnedSeries
from etl.pages.text import NO_UNITS
from etl.readings.days import length
from etl.readings.records import Machine
from etl.readings.times import rfc3339
from etl.storage.atomic import sync, write_whole
from etl.storage.folder import Folder
from etl.storage.latest import alarm_changes
from etl.storage.settings_log import SettingsLog

log = logging.getLogger("etl")

DETECTOR_KEYS = ("rules", "incidents", "notes", "alarms")
"""The keys that only a report with detectors or alarms has. Their values depend on earlier days too."""
DEVIATION_DIGITS = 2
"""Significant digits of an incident's deviation; a limit is no more exact. Rounding hides the last bits, in which
processors differ."""


class DayReport(NamedTuple):
    """A report, the series if there is to be a page, and the history for the next day if there are detectors.

    `provable` is whether the raw logs of all days that its incidents depend on, and its alarms, still exist.
    """

    report: dict[str, Any]
    series: ThinnedSeries | None
    history: History | None
    provable: bool


def write(folder: Folder, day_report: DayReport, units: Mapping[str, str] = NO_UNITS) -> Path:
    """Write a report, and before it its history and its page, so that a report always has both; its path.

    Only a page that cannot be rendered is left out. `units` are those of the parameters, for the page.
    """
    report, series, history, _ = day_report
    day = report["date"]
    # Durable first: with `fsync: never` a power cut could otherwise leave a report without its readings.
    with suppress(FileNotFoundError):
        sync(folder.path("raw", day))
    if history:
        keep(folder, history)
    if series is not None:
        from etl.pages.report import report_page  # noqa: PLC0415  jinja takes 10 MB, and verify draws no page

        try:
            page = report_page(report, series, units)
        except Exception:
            log.exception("The page of %s cannot be rendered; the report is written without it", day)
        else:
            write_whole(folder.page_path(day), [page])
    path = folder.report_path(day)
    write_whole(path, [encode(report)])
    return path


def encode(report: dict[str, Any]) -> bytes:
    """The report as the bytes of its file."""
    try:
        return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # orjson refuses integers beyond 64 bits and names nested too deep; msgspec encodes whatever it decoded.
        return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def make(
    settings_log: SettingsLog,
    day: str,
    mapper: Mapper = SERIAL,
    previous: History | None = None,
    until: float = inf,
    charted: bool = False,
) -> DayReport:
    """Report a day's raw log under the settings of its last line; the same log gives the same bytes with any mapper.

    `previous` is the history of an earlier day, if the caller has one; it saves reading the stored one. `until`
    (seconds since the epoch) is now, if the day is not over. There are series for a page only if `charted`.

    Raises:
        FileNotFoundError: there is no raw log of that day.
        REPORT_ERRORS: the raw log or settings.jsonl is damaged.

    """
    folder, settings = settings_log.folder, settings_log.of_day(day)
    task = DayTask(folder, day, settings, mapper)
    history = history_before(task, previous) if settings.detectors else None
    analyzed = analyze(task, history, until, charted)
    expected = _integer_if_whole(length(day, ZoneInfo(settings.timezone)) / settings.interval)
    stamps = timestamps(task, analyzed)
    alarms = _alarms(folder, day)
    report = {
        "date": day,
        "timezone": settings.timezone,
        "interval": _integer_if_whole(settings.interval),
        "threshold": settings.threshold,
        **({"rules": RULES} if settings.detectors else {}),
        "machines": [
            {
                "source": source,
                "id": key,
                "name": machine.name,
                "readings": machine.readings,
                "expected": expected,
                **_parameters(machine, settings.parameters, stamps),
                **({} if alarms is None else {"alarms": alarms.get((source, key), [])}),
            }
            for (source, key), machine in analyzed.machines.items()
        ],
    }
    first = first_baseline_day(day, settings)
    deleted = {*folder.reports()} - {*folder.days("raw")}
    provable = not any(first <= earlier < day for earlier in deleted) and not (settings.alarms and alarms is None)
    series = ThinnedSeries(day, settings, analyzed.store) if charted else None
    return DayReport(report, series, analyzed.history, provable)


def _alarms(folder: Folder, day: str) -> dict[Machine, list[dict[str, Any]]] | None:
    """The changes of alarms of each machine on a day; None where it has no alarms file."""
    if day not in folder.days("alarms"):
        return None
    changes: dict[Machine, list[dict[str, Any]]] = {}
    for change in alarm_changes(folder, day):
        machine = change.pop("source"), change.pop("id")
        changes.setdefault(machine, []).append(change)
    return changes


def contract(report: dict[str, Any]) -> dict[str, Any]:
    """The report without DETECTOR_KEYS: the part that follows from the day's raw log alone."""
    machines = []
    for machine in report["machines"]:
        parameters = {name: _without_detector_keys(entry) for name, entry in machine["parameters"].items()}
        machines.append({**_without_detector_keys(machine), "parameters": parameters})
    return {**_without_detector_keys(report), "machines": machines}


def _without_detector_keys(entry: Any) -> Any:
    return {key: entry[key] for key in entry if key not in DETECTOR_KEYS} if isinstance(entry, dict) else entry


def _parameters(machine: AnalyzedMachine, names: Iterable[str], stamps: dict[int, Any]) -> dict[str, Any]:
    """The entries of a machine's parameters, and its silences."""
    parameters = {name: _figures(column, stamps) for name, column in zip(names, machine.figures, strict=True)}
    if not machine.detection:
        return {"parameters": parameters}
    for entry, detected in zip(parameters.values(), machine.detection.parameters, strict=True):
        entry |= {"incidents": list(map(incident_record, detected.incidents)), "notes": detected.notes}
    return {"parameters": parameters, "incidents": list(map(incident_record, machine.detection.silences))}


def incident_record(incident: dict[str, Any]) -> dict[str, Any]:
    """An incident with times as text and its deviation rounded."""
    start, end, deviation = (incident[key] for key in ("start", "end", "deviation"))
    deviation = round(deviation, DEVIATION_DIGITS - 1 - floor(log10(deviation)))
    return {**incident, "start": rfc3339(start), "end": rfc3339(end), "deviation": deviation}


def _figures(column: Figures, stamps: dict[int, Any]) -> dict[str, Any]:
    rows = zip(column.rows.tolist(), column.values.tolist(), column.deviations.tolist(), strict=True)
    anomalies = [{"timestamp": stamps[line], "value": value, "deviation": deviation} for line, value, deviation in rows]
    return {"average": column.average, "max": column.highest, "min": column.lowest, "anomalies": anomalies}


def _integer_if_whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
