"""What the ends of the logs say: the last reading, how the last process ended, where following resumes, who is down."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import orjson

from etl.readings.lines import UNREADABLE, raw_decoder
from etl.readings.records import RejectedError
from etl.storage.folder import Folder
from etl.storage.places import blocks_before, last_lines, nth_place

TAIL_BYTES = 64 << 10
"""Bytes read of the end of a log where only its last lines matter."""
MAX_RAW_BYTES, MAX_EVENT_BYTES = 16 << 20, 8 << 20
"""Bytes read of the ends of the raw log and of the events log, at most: `etl status` stays fast on any folder."""


class LastReading(NamedTuple):
    """The last reading of a source (`at` in seconds); `machines` counts those in the same poll."""

    at: float
    status: Any
    values: Sequence[Any]
    machines: int


class _FollowedLine(msgspec.Struct, rename="_{}".format):
    source: str
    position: int


def last_reading_at(folder: Folder) -> float | None:
    """When the last reading in the raw log was polled (seconds since the epoch); None in an empty folder."""
    decode = raw_decoder(())
    for line in last_lines(folder, "raw", TAIL_BYTES):
        with suppress(RejectedError):
            return decode(line).polled_at
    return None


def ended_cleanly(folder: Folder) -> bool:
    """Whether the last process recorded its stop; true where there are no events."""
    for line in last_lines(folder, "events", TAIL_BYTES):
        if b'"event":"start"' in line:
            return False
        if b'"event":"stop"' in line:
            return True
    return True


def last_positions(folder: Folder, names: set[str]) -> dict[str, int]:
    """Where following each of these sources' files resumes: `_position` of its last raw line."""
    decode = msgspec.json.Decoder(_FollowedLine).decode
    positions: dict[str, int] = {}
    for day in reversed(folder.days("raw")):
        end = folder.count("raw", day) + 1
        for _, block in blocks_before(folder, nth_place(folder, day, end), (day, 1)):
            if len(positions) == len(names):
                return positions
            for line in reversed([line for line in block if b',"_position":' in line]):
                with suppress(*UNREADABLE):
                    followed = decode(line)
                    if followed.source in names:
                        positions.setdefault(followed.source, followed.position)
    return positions


def last_readings(folder: Folder, names: set[str], fields: Sequence[str]) -> dict[str, LastReading]:
    """The last reading of each of these sources with its values of `fields`, as far as MAX_RAW_BYTES reach back."""
    decode = raw_decoder(fields)
    last: dict[str, LastReading] = {}
    ids: set[Any] = set()
    missing = set(names)
    for line in last_lines(folder, "raw", MAX_RAW_BYTES):
        try:
            reading = decode(line)
        except RejectedError:
            continue
        source, machine_id = reading.machine
        if source in missing:
            missing.remove(source)
            ids = {machine_id}
            last[source] = LastReading(reading.polled_at, reading.status, reading.values, 1)
        elif source in last and reading.polled_at == last[source].at:  # the lines of a poll are adjacent
            ids.add(machine_id)
            last[source] = last[source]._replace(machines=len(ids))
        elif not missing:
            break
    return last


def down_events(folder: Folder) -> dict[str, dict[str, Any]]:
    """The source_down event of each source that is down, since the last start, within MAX_EVENT_BYTES."""
    latest: dict[str, dict[str, Any]] = {}
    for line in last_lines(folder, "events", MAX_EVENT_BYTES):
        try:
            event = orjson.loads(line)
            kind, source = event["event"], event["source"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            continue
        if kind == "start":
            break
        if kind in ("source_down", "source_up") and isinstance(source, str) and isinstance(event.get("at"), str):
            latest.setdefault(source, event)
    return {source: event for source, event in latest.items() if event["event"] == "source_down"}
