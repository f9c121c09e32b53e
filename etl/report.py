"""One night: read the day, analyze, write the report whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from etl.analysis import analyze_column, collect
from etl.days import due, length
from etl.folder import Folder, governing
from etl.log import write_whole
from etl.records import Reading, Settings
from etl.wire import RejectedError, raw_decoder, timestamp


class StoppedError(Exception):
    """The process is ending: the report is left for the next start."""


def never() -> bool:
    """Nothing asks to stop."""
    return False


def due_days(folder: Folder, now: float, at: str, zone: ZoneInfo) -> list[str]:
    """The days with a raw log and without a report whose `at` ("HH:MM") has passed, oldest first."""
    reported = set(folder.reports())
    return [day for day in folder.days("raw") if day not in reported and due(day, at, zone) <= now]


def write_report(folder: Folder, day: str, otherwise: Settings, stopping: Callable[[], bool] = never) -> Path:
    """Make a day's report and write it; made again from the same raw log it has the same bytes.

    Raises:
        FileNotFoundError: there is no raw log of that day.
        OSError: the report cannot be written.
        StoppedError: `stopping` became true.

    """
    path = folder.report_path(day)
    write_whole(path, encode(make_report(folder, day, otherwise, stopping)))
    return path


def encode(report: dict[str, Any]) -> bytes:
    """The report as the bytes of its file."""
    return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def make_report(folder: Folder, day: str, otherwise: Settings, stopping: Callable[[], bool] = never) -> dict[str, Any]:
    """Analyze a day's raw log under the settings of its last line; `otherwise` govern what settings.jsonl does not."""
    settings = _settings(folder, day, otherwise)
    zone = ZoneInfo(settings.timezone)
    decode = raw_decoder(tuple(settings.parameters.values()))
    machines = collect(_readings(folder, day, decode, stopping), len(settings.parameters))
    with folder.open_anywhere("raw", day) as file:

        def timestamp_at(offset: int) -> Any:
            file.seek(offset)
            return timestamp(decode(file.readline()))

        entries = [
            {
                "source": source,
                "id": key,
                "name": columns.name,
                "readings": columns.readings,
                "expected": _whole(length(day, zone) / settings.interval),
                "parameters": {
                    parameter: analyze_column(values, offsets, timestamp_at, settings.threshold)
                    for parameter, values, offsets in zip(
                        settings.parameters, columns.values, columns.offsets, strict=True
                    )
                },
            }
            for (source, key), columns in machines.items()
        ]
    return {
        "date": day,
        "timezone": settings.timezone,
        "interval": _whole(settings.interval),
        "threshold": settings.threshold,
        "machines": entries,
    }


def _settings(folder: Folder, day: str, otherwise: Settings) -> Settings:
    entries = folder.settings()
    last = folder.count("raw", day) if any(entry.day == day for entry in entries) else 1
    return governing(entries, day, last, otherwise)


def _readings(
    folder: Folder, day: str, decode: Callable[[bytes], Reading], stopping: Callable[[], bool]
) -> Iterator[tuple[int, Reading]]:
    for number, (offset, line) in enumerate(folder.lines("raw", day)):
        if number % 1000 == 0 and stopping():
            raise StoppedError
        try:
            reading = decode(line)
        except RejectedError:
            continue
        yield offset, reading


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
