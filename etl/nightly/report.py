"""One night: the day's analysis as a report, written whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import orjson

from etl.nightly import history
from etl.nightly.executors import HERE, Executing
from etl.nightly.history import History
from etl.readings.days import due, length
from etl.readings.times import rfc3339
from etl.storage.atomic import write_whole
from etl.storage.folder import DAMAGED_GZIP, Folder
from etl.storage.settings_log import SettingsLog

if TYPE_CHECKING:
    from etl.analysis.columns import Figures
    from etl.nightly.analyzing import Analyzed
    from etl.pages.charts import Segments

log = logging.getLogger("etl")

UNMADE = (*DAMAGED_GZIP, KeyError, OverflowError, TypeError, ValueError)
"""What making a report raises where the raw log or settings.jsonl were changed by hand."""
OPINIONS = ("incidents", "notes")
"""The keys of machines and parameters that hold what the detectors say, and depend on the days before as well."""

Page = Callable[[dict[str, Any], "Sequence[Mapping[str, Segments]]"], bytes]
"""Renders the page of a report; the readings of its machines, thinned, are in the same order."""


class Made(NamedTuple):
    """A report, the series of its machines, and what passes to the next day where detectors were asked for.

    `sure` is whether its OPINIONS follow from raw logs that all stand: none was deleted that they may depend on.
    """

    report: dict[str, Any]
    series: Sequence[Mapping[str, Segments]]
    history: History | None
    sure: bool


def due_days(folder: Folder, now: float, at: str, zone: ZoneInfo) -> list[str]:
    """The days with a raw log and without a report whose `at` ("HH:MM") has passed, oldest first."""
    reported = set(folder.reports())
    return [day for day in folder.days("raw") if day not in reported and due(day, at, zone) <= now]


def write_report(settings_log: SettingsLog, day: str, executing: Executing = HERE, page: Page | None = None) -> Path:
    """Make a day's report and write it; made again from the same raw log it has the same bytes.

    Raises:
        FileNotFoundError: there is no raw log of that day.
        OSError: the report cannot be written.

    """
    return write(settings_log.folder, make(settings_log, day, executing, charted=page is not None), page)


def write(folder: Folder, made: Made, page: Page | None) -> Path:
    """Write a report.

    What passes to the next day and the page are written first: where the report stands, so do they, but for a page that
    could not be drawn.

    Raises:
        OSError: it cannot be written.

    """
    if made.history:
        history.keep(folder, made.history)
    day = made.report["date"]
    if page and (drawn := _draw(page, made.report, made.series)):
        write_whole(folder.page_path(day), [drawn])
    path = folder.report_path(day)
    write_whole(path, [encode(made.report)])
    return path


def _draw(page: Page, report: dict[str, Any], series: Sequence[Mapping[str, Segments]]) -> bytes | None:
    try:
        return page(report, series)
    except Exception:
        log.exception("The page of %s cannot be drawn; the report is written without it", report["date"])
        return None


def encode(report: dict[str, Any]) -> bytes:
    """The report as the bytes of its file."""
    try:
        return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        # An integer beyond 64 bits, or a name that is nested too deep for orjson: what was decoded can be encoded.
        return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def make_report(settings_log: SettingsLog, day: str, executing: Executing = HERE) -> dict[str, Any]:
    """The report that `make` gives."""
    return make(settings_log, day, executing).report


def make(
    settings_log: SettingsLog,
    day: str,
    executing: Executing = HERE,
    known: History | None = None,
    until: float = inf,
    charted: bool = False,
) -> Made:
    """Analyze a day's raw log under the settings of its last line.

    The result is the same, to the last bit, however many parts the day is split into and wherever they are read.
    `known` is what an earlier day passed on, if it is at hand, and is used up; `until` (seconds) is now, if the day is
    not over; where a page is drawn, the series must be `charted`: they have times.
    """
    # They bring numpy: a tenth of a second and 10 MB that only the night needs.
    from etl.nightly.analyzing import analyze, known_before, timestamps  # noqa: PLC0415
    from etl.nightly.thinning import ThinnedSeries  # noqa: PLC0415

    folder, settings = settings_log.folder, settings_log.of_day(day)
    before = known_before(folder, day, settings, executing, known) if settings.detectors else None
    found = analyze(folder, day, settings, executing, before, until, charted)
    expected = _whole(length(day, ZoneInfo(settings.timezone)) / settings.interval)
    stamps = timestamps(folder, day, found, executing)
    report = {
        "date": day,
        "timezone": settings.timezone,
        "interval": _whole(settings.interval),
        "threshold": settings.threshold,
        "machines": [
            {
                "source": source,
                "id": key,
                "name": one.name,
                "readings": one.readings,
                "expected": expected,
                **_parameters(one, list(settings.parameters), stamps),
            }
            for (source, key), one in found.machines.items()
        ],
    }
    first = history.reach(day, settings)
    sure = not any(first <= gone < day for gone in {*folder.reports()} - {*folder.days("raw")})
    return Made(report, ThinnedSeries(day, settings, list(found.machines), found.columns), found.history, sure)


def contract(report: dict[str, Any]) -> dict[str, Any]:
    """The report without OPINIONS: what follows from the day's raw log alone."""
    machines = []
    for machine in report["machines"]:
        parameters = {name: _without_opinions(one) for name, one in machine["parameters"].items()}
        machines.append({**_without_opinions(machine), "parameters": parameters})
    return {**report, "machines": machines}


def _without_opinions(entry: Any) -> Any:
    return {key: value for key, value in entry.items() if key not in OPINIONS} if isinstance(entry, dict) else entry


def _parameters(one: Analyzed, names: list[str], stamps: dict[int, Any]) -> dict[str, Any]:
    """What is said of a machine's parameters, and of the machine itself."""
    parameters = [_figures(column, stamps) for column in one.figures]
    if not one.judgement:
        return {"parameters": dict(zip(names, parameters, strict=True))}
    for entry, judged in zip(parameters, one.judgement.parameters, strict=True):
        entry |= {"incidents": list(map(_incident, judged.incidents)), "notes": judged.notes}
    silences = list(map(_incident, one.judgement.silences))
    return {"parameters": dict(zip(names, parameters, strict=True)), "incidents": silences}


def _incident(incident: dict[str, Any]) -> dict[str, Any]:
    return {**incident, "start": rfc3339(incident["start"]), "end": rfc3339(incident["end"])}


def _figures(column: Figures, stamps: dict[int, Any]) -> dict[str, Any]:
    anomalies = [
        {"timestamp": stamps[line], "value": value, "deviation": deviation}
        for line, value, deviation in zip(
            column.rows.tolist(), column.values.tolist(), column.deviations.tolist(), strict=True
        )
    ]
    return {"average": column.average, "max": column.highest, "min": column.lowest, "anomalies": anomalies}


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
