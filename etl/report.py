"""One night: read the day, analyze, write the report whole or not at all."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from etl.analysis import Columns, Figures, collect, figures, join
from etl.days import due, length
from etl.executors import HERE, Executing
from etl.folder import Folder, governing
from etl.log import write_whole
from etl.records import Machine, Rows, Settings
from etl.wire import block_decoder, raw_decoder, timestamp

log = logging.getLogger("etl")

PART = 256 << 20
"""Bytes of a day's file that are read as one part, at most."""


def due_days(folder: Folder, now: float, at: str, zone: ZoneInfo) -> list[str]:
    """The days with a raw log and without a report whose `at` ("HH:MM") has passed, oldest first."""
    reported = set(folder.reports())
    return [day for day in folder.days("raw") if day not in reported and due(day, at, zone) <= now]


Series = tuple[Sequence[float], Mapping[str, Sequence[float]]]
"""A machine's day for its chart: times (seconds since the epoch), and a column of values for each parameter."""
Page = Callable[[dict[str, Any], list[Series]], bytes]
"""Makes the page of a report, with the series of its machines in the same order."""


def write_report(
    folder: Folder, day: str, otherwise: Settings, executing: Executing = HERE, page: Page | None = None
) -> Path:
    """Make a day's report and write it; made again from the same raw log it has the same bytes.

    Its page is written first: where the report stands, so does its page, if it could be drawn.

    Raises:
        FileNotFoundError: there is no raw log of that day.
        OSError: the report cannot be written.

    """
    path = folder.report_path(day)
    report, series = _analyze(folder, day, otherwise, executing, drawn=page is not None)
    if page and (drawn := _draw(page, report, series)):
        write_whole(folder.page_path(day), drawn)
    write_whole(path, encode(report))
    return path


def _draw(page: Page, report: dict[str, Any], series: list[Series]) -> bytes | None:
    try:
        return page(report, series)
    except Exception:
        log.exception("The page of %s cannot be drawn; the report is written without it", report["date"])
        return None


def encode(report: dict[str, Any]) -> bytes:
    """The report as the bytes of its file."""
    return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def make_report(folder: Folder, day: str, otherwise: Settings, executing: Executing = HERE) -> dict[str, Any]:
    """Analyze a day's raw log under the settings of its last line; `otherwise` govern what settings.jsonl does not.

    The result is the same, to the last bit, however many parts the day is split into and wherever they are read.
    """
    return _analyze(folder, day, otherwise, executing, drawn=False)[0]


def _analyze(
    folder: Folder, day: str, otherwise: Settings, executing: Executing, *, drawn: bool
) -> tuple[dict[str, Any], list[Series]]:
    """The report, and the series of its machines if they are to be drawn."""
    settings = day_settings(folder, day, otherwise)
    blocks: list[_Block] = []
    machines = join(_parts(folder, day, settings, executing, blocks))
    expected = _whole(length(day, ZoneInfo(settings.timezone)) / settings.interval)
    analyzed = [
        (machine, columns.name, len(columns.lines), [
            figures(values, columns.lines, settings.threshold) for values in columns.values
        ])
        for machine, columns in machines.items()
    ]  # fmt: skip
    series: list[Series] = [
        (columns.times, dict(zip(settings.parameters, columns.values, strict=True)))
        for columns in machines.values() if drawn
    ]  # fmt: skip
    machines.clear()
    wanted = {line for *_, found in analyzed for column in found for line, _, _ in column.anomalies}
    stamps = _timestamps(folder, day, blocks, sorted(wanted))
    report = {
        "date": day,
        "timezone": settings.timezone,
        "interval": _whole(settings.interval),
        "threshold": settings.threshold,
        "machines": [
            {
                "source": source,
                "id": key,
                "name": name,
                "readings": readings,
                "expected": expected,
                "parameters": {
                    parameter: _figures(column, stamps)
                    for parameter, column in zip(settings.parameters, found, strict=True)
                },
            }
            for (source, key), name, readings, found in analyzed
        ],
    }
    return report, series


def _figures(column: Figures, stamps: dict[int, Any]) -> dict[str, Any]:
    anomalies = [
        {"timestamp": stamps[line], "value": value, "deviation": deviation}
        for line, value, deviation in column.anomalies
    ]
    return {"average": column.average, "max": column.highest, "min": column.lowest, "anomalies": anomalies}


class _Block(NamedTuple):
    line: int
    """The number of its first line in the day, or the part of it, counted from 0."""
    offset: int
    size: int


class Part(NamedTuple):
    """A part of a day, read: its columns, how many lines it has, and where its blocks stand."""

    machines: dict[Machine, Columns]
    lines: int
    blocks: list[_Block]


def _parts(
    folder: Folder, day: str, settings: Settings, executing: Executing, blocks: list[_Block]
) -> Iterator[tuple[int, dict[Machine, Columns]]]:
    """The columns of each part of a day with the number of its lines; where the blocks stand is noted in `blocks`."""
    size = folder.stored("raw", [day])
    cuts = folder.cuts("raw", day, max(executing.parts, size // PART + 1))
    starts, ends = zip(*cuts, strict=True)
    read = partial(read_part, folder.root, day, tuple(settings.parameters.values()))
    before = 0
    for (start, end), part in zip(cuts, executing.map(read, starts, ends), strict=True):
        folder.watch((size if end is None else end) - start)
        blocks += [block._replace(line=block.line + before) for block in part.blocks]
        before += part.lines
        yield part.lines, part.machines


def read_part(root: Path, day: str, fields: tuple[str, ...], start: int, end: int | None) -> Part:
    """Read the lines between two offsets of a day's raw log, in whatever process this runs.

    Raises:
        OSError, EOFError: the file is not there, or shorter than the part.

    """
    decode = block_decoder(fields)
    blocks: list[_Block] = []
    lines = 0

    def rows() -> Iterator[Rows]:
        nonlocal lines
        for offset, block in Folder(root).blocks("raw", day, start, end):
            found = decode(block)
            blocks.append(_Block(lines, offset, len(block)))
            lines += len(found.machines)
            yield found

    return Part(collect(rows(), len(fields)), lines, blocks)


def _timestamps(folder: Folder, day: str, blocks: list[_Block], wanted: list[int]) -> dict[int, Any]:
    """Read back the timestamps of these lines, in one pass over the blocks that have some of them."""
    decode = raw_decoder(())
    stamps: dict[int, Any] = {}
    with folder.open_anywhere("raw", day) as file:
        for number, block in groupby(wanted, lambda line: bisect_right(blocks, line, key=lambda b: b.line) - 1):
            first, offset, size = blocks[number]
            file.seek(offset)
            lines = file.read(size).split(b"\n")
            stamps.update((line, timestamp(decode(lines[line - first]))) for line in block)
    return stamps


def day_settings(folder: Folder, day: str, otherwise: Settings) -> Settings:
    """The settings of a day's last line, which its report is made with."""
    entries = folder.settings()
    last = max(1, folder.count("raw", day)) if any(entry.day == day for entry in entries) else 1
    return governing(entries, day, last, otherwise)


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
