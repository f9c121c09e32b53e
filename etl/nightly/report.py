"""The report of a day: made from its analysis, and written whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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
from etl.pages.charts import Segments
from etl.readings.days import length
from etl.readings.times import rfc3339
from etl.storage.atomic import write_whole
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog

log = logging.getLogger("etl")

DETECTOR_KEYS = ("rules", "incidents", "notes")
"""The keys that only a report with detectors has. Their values depend on earlier days too."""

DEVIATION_DIGITS = 6
"""Significant digits of an incident's deviation. Rounding hides the last bits of numpy's results, which differ between
processors, so that the report has the same bytes on all of them."""

EXPECTED_DIGITS = 4
"""Significant digits of the width of an incident's expected range; its ends are rounded to the same decimal place. With
MIN_RELATIVE_WIDTH these are at most 13 significant digits of an end, where a float has 15."""

Series = Sequence[Mapping[str, Segments]]
"""The readings of each machine by parameter, thinned for its charts, in the order of the report."""


class DayReport(NamedTuple):
    """A report, the history for the next day if the settings have detectors, and the series if there is to be a page.

    `provable` is whether the raw logs of all days that its incidents depend on still exist.
    """

    report: dict[str, Any]
    series: Series | None
    history: History | None
    provable: bool


def write_report(settings_log: SettingsLog, day: str, mapper: Mapper = SERIAL) -> Path:
    """Make and write a day's report and its page; the same raw log gives the same bytes.

    Raises:
        FileNotFoundError: there is no raw log of that day.
        OSError: the report cannot be written.

    """
    return write(settings_log.folder, make(settings_log, day, mapper, charted=True))


def write(folder: Folder, day_report: DayReport) -> Path:
    """Write a report; its path.

    The history and the page are written before it, so that a report always has both, except for a page that failed to
    render.

    Raises:
        OSError: it cannot be written.

    """
    report = day_report.report
    if day_report.history:
        keep(folder, day_report.history)
    day = report["date"]
    if day_report.series is not None and (page := _render(report, day_report.series)):
        write_whole(folder.page_path(day), page)
    path = folder.report_path(day)
    write_whole(path, encode(report))
    return path


def _render(report: dict[str, Any], series: Series) -> bytes | None:
    from etl.pages.report import report_page  # noqa: PLC0415  jinja takes 10 MB, and verify draws no page

    try:
        return report_page(report, series)
    except Exception:
        log.exception("The page of %s cannot be rendered; the report is written without it", report["date"])
        return None


def encode(report: dict[str, Any]) -> bytes:
    """The report as the bytes of its file."""
    try:
        return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # orjson refuses integers beyond 64 bits and names nested too deep; msgspec encodes whatever it decoded.
        return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def make_report(settings_log: SettingsLog, day: str, mapper: Mapper = SERIAL) -> dict[str, Any]:
    """The report of `make`."""
    return make(settings_log, day, mapper).report


def make(
    settings_log: SettingsLog,
    day: str,
    mapper: Mapper = SERIAL,
    previous: History | None = None,
    until: float = inf,
    charted: bool = False,
) -> DayReport:
    """Analyze a day's raw log under the settings of its last line.

    The result is the same to the last bit, however many parts the day is split into and wherever they are read.
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
                **_parameters(machine, list(settings.parameters), stamps),
            }
            for (source, key), machine in analyzed.machines.items()
        ],
    }
    first = first_baseline_day(day, settings)
    deleted = {*folder.reports()} - {*folder.days("raw")}
    provable = not any(first <= earlier < day for earlier in deleted)
    series = ThinnedSeries(day, settings, list(analyzed.machines), analyzed.columns) if charted else None
    return DayReport(report, series, analyzed.history, provable)


def contract(report: dict[str, Any]) -> dict[str, Any]:
    """The report without DETECTOR_KEYS: the part that follows from the day's raw log alone."""
    machines = []
    for machine in report["machines"]:
        parameters = {name: _without_detector_keys(entry) for name, entry in machine["parameters"].items()}
        machines.append({**_without_detector_keys(machine), "parameters": parameters})
    return {**_without_detector_keys(report), "machines": machines}


def _without_detector_keys(entry: Any) -> Any:
    return {key: entry[key] for key in entry if key not in DETECTOR_KEYS} if isinstance(entry, dict) else entry


def _parameters(machine: AnalyzedMachine, names: list[str], stamps: dict[int, Any]) -> dict[str, Any]:
    """The entries of a machine's parameters, and its silences."""
    parameters = [_figures(column, stamps) for column in machine.figures]
    if not machine.detection:
        return {"parameters": dict(zip(names, parameters, strict=True))}
    for entry, detected in zip(parameters, machine.detection.parameters, strict=True):
        entry |= {"incidents": list(map(_incident, detected.incidents)), "notes": detected.notes}
    silences = list(map(_incident, machine.detection.silences))
    return {"parameters": dict(zip(names, parameters, strict=True)), "incidents": silences}


def _incident(incident: dict[str, Any]) -> dict[str, Any]:
    """An incident with times as text and rounded figures; its peak is a reading's value and stays exact."""
    start, end, deviation, expected = (incident[key] for key in ("start", "end", "deviation", "expected"))
    if expected:
        low, high = expected
        width = high - low or max(abs(low), abs(high)) or 1.0
        expected = [_rounded(low, width, EXPECTED_DIGITS), _rounded(high, width, EXPECTED_DIGITS)]
    return {
        **incident,
        "start": rfc3339(start),
        "end": rfc3339(end),
        "expected": expected,
        "deviation": _rounded(deviation, deviation, DEVIATION_DIGITS),
    }


def _rounded(value: float, scale: float, digits: int) -> float:
    """The value rounded to the place of the `digits`-th significant digit of `scale`; never -0.0."""
    return round(value, digits - 1 - floor(log10(scale))) + 0.0


def _figures(column: Figures, stamps: dict[int, Any]) -> dict[str, Any]:
    anomalies = [
        {"timestamp": stamps[line], "value": value, "deviation": deviation}
        for line, value, deviation in zip(
            column.rows.tolist(), column.values.tolist(), column.deviations.tolist(), strict=True
        )
    ]
    return {"average": column.average, "max": column.highest, "min": column.lowest, "anomalies": anomalies}


def _integer_if_whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
