"""Recorded readings read back: JSON arrays and JSON lines, plain or .gz, as raw lines and the day of each."""

import gzip
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from zoneinfo import ZoneInfo

import orjson

from etl.readings.answers import as_reading, parse
from etl.readings.blocks import block_decoder, is_text
from etl.readings.days import day_finder
from etl.readings.lines import raw_decoder, raw_line
from etl.readings.records import Machine, RejectedError
from etl.storage.atomic import open_regular
from etl.storage.folder import DAMAGED_GZIP, READ_BYTES, Progress, day_of_file

_FIRST_DAY = "0001-01-01"
"""The first day of the calendar; day files are named for later ones."""

MAX_LINE_BYTES = 6 << 20
"""Bytes of a line, at most: a raw line holds an answer of at most 5 MiB. A small .gz file can unpack to gigabytes."""
MAX_ARRAY_BYTES = 256 << 20
"""Bytes of a JSON array, at most: it is decoded at once, which takes some ten times its size in memory."""


class Lines(NamedTuple):
    """Complete raw lines of one day, in order, as one block of bytes; `readings` is their number."""

    day: str
    data: bytes
    readings: int


class Rejection(NamedTuple):
    """A line (in an array: an item), counted from 1, that is not a reading, and why."""

    file: Path
    line: int
    why: str


class _Input(NamedTuple):
    """A file to read: its source, the day it is named for (None: its name is not that of a day file).

    `is_followed` if a source follows it: its raw lines then carry the position where following goes on.
    """

    path: Path
    source: str
    day: str | None
    is_followed: bool


class Recording:
    """Reads files of readings in the order of the calls of `read`.

    `sources` has the name of the source that reads a file by its resolved path; the stem of any other file is its
    source. Timestamps without an offset are in `zone`. A line is rejected if its day lies after `today`, or before the
    day of an earlier line of the same machine. `progress` is called with the stored bytes read since its last call.
    """

    def __init__(self, sources: dict[Path, str], zone: ZoneInfo, today: str, progress: Progress) -> None:
        self._sources = sources
        self._zone = zone
        self._today = today
        self._progress = progress
        self._day_of = day_finder(zone)
        self._newest_day = ""
        self._days: dict[Machine, str] = {}
        self._decode_block = block_decoder((), times=True)
        self._decode_line = raw_decoder(())

    def read(self, path: Path) -> Iterator[Lines | Rejection]:
        """The readings of a file, and the lines that are not readings; OSError if it cannot be read."""
        source = self._sources.get(path.resolve())
        stem = Path(path.name.removesuffix(".gz")).stem
        is_followed = source is not None and path.suffix == ".jsonl"
        file = _Input(path, stem if source is None else source, day_of_file(path.name), is_followed)
        # Links are followed; a FIFO would wait for its other end.
        with open(path.resolve(), "rb", opener=open_regular) as stored:
            unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored)
            try:
                yield from self._read(file, unpacked, stored)
            except DAMAGED_GZIP as error:
                yield Rejection(path, 1, f"the compressed file is damaged: {error}")

    def _read(self, file: _Input, unpacked: IO[bytes], stored: IO[bytes]) -> Iterator[Lines | Rejection]:
        block = unpacked.read(READ_BYTES)
        if block.lstrip()[:1] == b"[":
            yield from self._array(file, block + unpacked.read(MAX_ARRAY_BYTES))
            self._progress(stored.tell())
            return
        line, offset, reported = 1, 0, 0
        while block:
            if not block.endswith(b"\n"):
                block += unpacked.readline(MAX_LINE_BYTES)
            end = block.rfind(b"\n") + 1
            if len(block) - end >= MAX_LINE_BYTES:
                yield from self._block(file, block[:end], line, offset)
                why = f"it is longer than {MAX_LINE_BYTES >> 20} MiB"
                yield Rejection(file.path, line + block.count(b"\n"), why)
                offset, block = offset + len(block) + _skip_line(unpacked), block[:end] + b"\n"
            else:
                yield from self._block(file, block, line, offset)
                offset += len(block)
            line += block.count(b"\n")
            self._progress(stored.tell() - reported)
            reported = stored.tell()
            block = unpacked.read(READ_BYTES)

    def _array(self, file: _Input, body: bytes) -> Iterator[Lines | Rejection]:
        if len(body) > MAX_ARRAY_BYTES:
            why = f"the array is larger than {MAX_ARRAY_BYTES >> 20} MiB; make lines of it: jq -c '.[]' FILE"
            yield Rejection(file.path, 1, why)
            return
        try:
            for number, item in enumerate(orjson.loads(body), 1):
                yield self._item(file, number, item)
        except orjson.JSONDecodeError as error:
            yield Rejection(file.path, 1, f"the array is not JSON: {error}")

    def _block(self, file: _Input, block: bytes, line: int, offset: int) -> Iterator[Lines | Rejection]:
        """The lines of a block: all at once if they are raw lines of one day, else one by one."""
        lines = self._whole_block(file, block)
        if lines:
            yield lines
            return
        for number, text in zip(count(line), block.split(b"\n"), strict=False):
            offset += len(text) + 1
            if text.strip():
                yield self._item(file, number, text.rstrip(b"\r"), offset if file.is_followed else None)

    def _whole_block(self, file: _Input, block: bytes) -> Lines | None:
        if not block.endswith(b"\n") or b"\r" in block or not is_text(block):
            return None
        rows = self._decode_block(block)
        if None in rows.sources or not rows.times:
            return None
        try:
            first, last = self._day_of(min(rows.times)), self._day_of(max(rows.times))
        except OverflowError:  # the last day of the calendar has no end
            return None
        day = file.day or first
        if day < self._newest_day or not _FIRST_DAY < day <= self._today or (first != last and not file.day):
            return None
        self._newest_day = day
        machines = cast(list[Machine], list(zip(rows.sources, rows.ids, strict=True)))
        self._days.update(dict.fromkeys(machines, day))
        return Lines(day, block, len(machines))

    def _item(self, file: _Input, number: int, item: Any, position: int | None = None) -> Lines | Rejection:
        """One reading, a line (bytes) or an item of an array: a raw line stays as it is, others become raw lines."""
        try:
            reading = parse(item) if isinstance(item, bytes) else as_reading(item)
            is_raw = "_source" in reading and "_polled_at" in reading
            if is_raw:
                line = (item if isinstance(item, bytes) else orjson.dumps(reading)) + b"\n"
            else:
                line = raw_line(reading, file.source, _time_of(reading.get("timestamp"), self._zone), position)
            decoded = self._decode_line(line)
            day = (file.day if is_raw else None) or self._day_of(decoded.polled_at)
        except RejectedError as error:
            return Rejection(file.path, number, str(error))
        except (OverflowError, ValueError, orjson.JSONEncodeError) as error:
            return Rejection(file.path, number, f"it cannot be written as a raw line: {error}")
        if not _FIRST_DAY < day <= self._today:
            return Rejection(file.path, number, f"its day {day} is not between the year 1 and today")
        previous = self._days.get(decoded.machine, "")
        if day < previous:
            return Rejection(file.path, number, f"its day {day} lies before {previous}, the day of an earlier line")
        self._days[decoded.machine] = day
        self._newest_day = max(self._newest_day, day)
        return Lines(day, line, 1)


def _skip_line(file: IO[bytes]) -> int:
    """Read to the end of a line; how many bytes that was."""
    skipped = 0
    while part := file.readline(READ_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _time_of(timestamp: Any, zone: ZoneInfo) -> float:
    """The time of a reading by its own timestamp (seconds since the epoch, to the millisecond)."""
    if not isinstance(timestamp, str):
        raise RejectedError("no_time", "it has no `timestamp` of type string, so its day is unknown")
    try:
        moment = datetime.fromisoformat(timestamp)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp(), 3)
    except (ValueError, OverflowError):
        raise RejectedError("no_time", f"its timestamp {timestamp[:40]!r} is not an ISO 8601 time") from None
