"""What the ends of the logs say: the last reading, how the last process ended, where following resumes, who is down."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
import orjson

from etl.readings.answers import parse
from etl.readings.averages.no_number import NO_NUMBER_READINGS
from etl.readings.averages.window import number
from etl.readings.lines import UNREADABLE, raw_decoder
from etl.readings.records import Machine, Position, Reading, RejectedError
from etl.storage.folder import Folder
from etl.storage.places import blocks_before, last_lines, nth_place

TAIL_BYTES = 64 << 10
"""Bytes read of the end of a log where only its last lines matter."""
MAX_RAW_BYTES, MAX_EVENT_BYTES = 16 << 20, 8 << 20
"""Bytes read of the ends of the raw log and of the events log, at most: `etl status` stays fast on any folder."""
MAX_START_BYTES = 4 << 20
"""Bytes read of the end of a log to show it after a start, at most: about 0.1 s of CPU on any folder."""
MAX_PACKED_BYTES = 16 << 20
"""Larger compressed files are not unpacked for that."""


class Lacking(NamedTuple):
    """The fields for which a machine sends no number, and its last raw line."""

    fields: list[str]
    line: bytes


class LastReading(NamedTuple):
    """The last reading of a machine; `at` in seconds since the epoch."""

    at: float
    status: Any
    values: Sequence[Any]
    lacking: Lacking | None = None


class _FollowedLine(msgspec.Struct, rename="_{}".format):
    source: str
    position: Annotated[int, msgspec.Meta(ge=0)]
    before: Any = None


Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _AveragesLine(msgspec.Struct):
    source: str
    polled_at: Moment
    id: Any = None


class _EventLine(msgspec.Struct):
    at: Moment
    event: str
    source: str | None = None


def last_reading_at(folder: Folder) -> float | None:
    """When the last reading in the raw log was polled (seconds since the epoch); None in an empty folder."""
    decode = raw_decoder(())
    for line in last_lines(folder, "raw", TAIL_BYTES):
        with suppress(RejectedError):
            return decode(line).polled_at
    return None


def newest_event(folder: Folder) -> tuple[float, str] | None:
    """When the newest event was recorded (seconds since the epoch), and its name; None if there is none."""
    decode = msgspec.json.Decoder(_EventLine).decode
    for line in last_lines(folder, "events", TAIL_BYTES):
        with suppress(*UNREADABLE):
            event = decode(line)
            return event.at.timestamp(), event.event
    return None


def ended_cleanly(folder: Folder) -> bool:
    """Whether the last process recorded its stop; true where there are no events."""
    for line in last_lines(folder, "events", TAIL_BYTES):
        if b'"event":"start"' in line:
            return False
        if b'"event":"stop"' in line:
            return True
    return True


def last_positions(folder: Folder, names: set[str]) -> dict[str, Position]:
    """Where following each of these sources' files resumes: the position in its last raw line."""
    decode = msgspec.json.Decoder(_FollowedLine).decode
    positions: dict[str, Position] = {}
    for day in reversed(folder.days("raw")):
        end = folder.count("raw", day) + 1
        for _, block in blocks_before(folder, nth_place(folder, day, end), (day, 1)):
            if len(positions) == len(names):
                return positions
            for line in reversed([line for line in block if b',"_position":' in line]):
                with suppress(*UNREADABLE):
                    followed = decode(line)
                    before = followed.before if type(followed.before) is str else None
                    if followed.source in names:
                        positions.setdefault(followed.source, Position(followed.position, before))
    return positions


def _readings(lines: Iterable[bytes], names: Collection[str], fields: Sequence[str]) -> Iterator[tuple[Reading, bytes]]:
    """The readings of these sources in raw lines, each with its line; damaged lines are skipped."""
    decode = raw_decoder(fields)
    for line in lines:
        try:
            reading = decode(line)
        except RejectedError:
            continue
        if reading.machine[0] in names:
            yield reading, line


def last_readings(
    folder: Folder, names: Collection[str], fields: Sequence[str], silence: float
) -> dict[Machine, LastReading]:
    """The last reading of each machine of these sources with its values of `fields`, the newest first.

    Of each source it has the machines of the last poll, and those that sent a reading at most `silence` seconds before
    the newest line, as far as MAX_START_BYTES reach back; of a source that sent nothing there, MAX_RAW_BYTES.
    """
    last: dict[Machine, LastReading] = {}
    newest: dict[str, float] = {}
    missing = set(names)
    numbers = _Numbers(fields)
    horizon = bytes_read = 0.0
    for reading, line in _readings(last_lines(folder, "raw", MAX_RAW_BYTES), names, fields):
        source, at = reading.machine[0], reading.polled_at
        horizon = horizon or at - silence
        is_past = at < horizon or bytes_read > MAX_START_BYTES
        if is_past and not missing and not numbers.undecided:
            break
        missing.discard(source)
        in_last_poll = at == newest.setdefault(source, at)  # the lines of a poll are adjacent
        if reading.machine not in last and (in_last_poll or not is_past):
            last[reading.machine] = LastReading(at, reading.status, reading.values)
        numbers.add(reading, line, in_last_poll)
        bytes_read += len(line)
    return {machine: entry._replace(lacking=numbers.lacking(machine)) for machine, entry in last.items()}


class _Candidate(NamedTuple):
    """A machine: its newest line, and for each field that lacks a number there how many readings in a row lack it."""

    line: bytes
    counts: dict[str, int]
    is_awaited: bool


class _Numbers:
    """Which machines send no number for which fields; their readings are added newest first.

    `undecided` is how many fields of awaited machines need older readings.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self.undecided = 0
        self._fields = fields
        self._candidates: dict[Machine, _Candidate] = {}

    def add(self, reading: Reading, line: bytes, is_awaited: bool) -> None:
        """Add the next older reading; only the newest one of a machine decides whether it is awaited."""
        lacking = {field for field, value in zip(self._fields, reading.values, strict=True) if number(value) is None}
        candidate = self._candidates.get(reading.machine)
        if candidate is None:
            candidate = _Candidate(line if lacking else b"", dict.fromkeys(lacking, 0), is_awaited)
            self._candidates[reading.machine] = candidate
            self.undecided += len(lacking) * is_awaited
        for field, count in list(candidate.counts.items()):
            if count == NO_NUMBER_READINGS:
                continue
            if field in lacking:
                candidate.counts[field] = count + 1
            else:
                del candidate.counts[field]
            if candidate.counts.get(field) in (None, NO_NUMBER_READINGS):
                self.undecided -= candidate.is_awaited

    def lacking(self, machine: Machine) -> Lacking | None:
        """What was found out about a machine; None if it sends numbers."""
        candidate = self._candidates[machine]
        fields = [field for field in self._fields if candidate.counts.get(field) == NO_NUMBER_READINGS]
        return Lacking(list(dict.fromkeys(fields)), candidate.line) if fields else None


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


def last_averages(folder: Folder, names: Collection[str], silence: float, now: float) -> dict[Machine, bytes]:
    """The latest averages line of each machine of these sources, the oldest first, within MAX_START_BYTES.

    A machine that was silent for more than `silence` seconds before the newest line, or before `now`, is left out.
    """
    decode = msgspec.json.Decoder(_AveragesLine).decode
    latest: dict[Machine, bytes] = {}
    first: float | None = None
    for line in _start_lines(folder, "averages"):
        with suppress(RejectedError, *UNREADABLE):
            averages = decode(line)
            if averages.source not in names:
                continue
            at = averages.polled_at.timestamp()
            first = min(at, now) if first is None else first
            if at < first - silence:
                break
            machine = averages.source, averages.id if type(averages.id) in (int, str, float) else None
            if machine not in latest:
                parse(line)  # the line is shown unchanged, so all of it must be JSON
                latest[machine] = line
    return dict(reversed(latest.items()))


def recent_readings(
    folder: Folder, names: Collection[str], fields: Sequence[str], span: float, now: float
) -> list[Reading]:
    """The readings of these sources in the `span` seconds before the newest one, or before `now`, the oldest first.

    MAX_START_BYTES are read at most.
    """
    readings: list[Reading] = []
    for reading, _ in _readings(_start_lines(folder, "raw"), names, fields):
        newest = readings[0].polled_at if readings else reading.polled_at
        if reading.polled_at < min(newest, now) - span:
            break
        readings.append(reading)
    return readings[::-1]


def last_events(folder: Folder, count: int) -> list[bytes]:
    """The last `count` lines of the events log that are events, the oldest first, within MAX_START_BYTES."""
    decode = msgspec.json.Decoder(_EventLine).decode
    events: list[bytes] = []
    for line in _start_lines(folder, "events"):
        with suppress(RejectedError, *UNREADABLE):
            decode(line)
            parse(line)  # the line is shown unchanged, so all of it must be JSON
            events.append(line)
        if len(events) == count:
            break
    return events[::-1]


def _start_lines(folder: Folder, kind: str) -> Iterator[bytes]:
    """The lines in the last MAX_START_BYTES of a log, newest first; none if they are in a large compressed file."""
    for day in folder.days(kind)[-1:]:
        if folder.path(kind, day).exists() or folder.stored_bytes(kind, [day]) <= MAX_PACKED_BYTES:
            yield from last_lines(folder, kind, MAX_START_BYTES)


def alarm_changes(folder: Folder, day: str) -> Iterator[dict[str, Any]]:
    """The changes of alarms on a day, as its lines have them; none without a file."""
    with suppress(FileNotFoundError):
        for _, line in folder.lines("alarms", day):
            with suppress(*UNREADABLE):
                record = msgspec.json.decode(line, type=dict[str, Any])
                if {"source", "id", "alarm", "state"} <= record.keys():
                    yield record


def raised_alarms(folder: Folder) -> list[dict[str, Any]]:
    """The alarms that are raised, as the newest line of each says; its day repeats what was raised before."""
    raised: dict[tuple[Any, ...], dict[str, Any]] = {}
    for day in folder.days("alarms")[-1:]:
        for record in alarm_changes(folder, day):
            key = record["source"], record["id"], record["alarm"]
            raised.pop(key, None)
            if record["state"] == "raised":
                raised[key] = record
    return list(raised.values())
