"""Recorded readings read back: JSON arrays, JSON lines and CSV, plain or .gz, as raw lines and the day of each."""

import gzip
import os
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from itertools import chain
from math import inf
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast
from zoneinfo import ZoneInfo

import orjson
from jmespath.parser import ParsedResult

from etl.audit.recording.epochs import number_of, since_1970
from etl.audit.recording.tables import rows
from etl.readings import exact
from etl.readings.answers import parse, split
from etl.readings.blocks import block_decoder, is_text
from etl.readings.days import day_finder, moment_of
from etl.readings.lines import BEFORE_BYTES, id_of, lines_with_positions, raw_decoder, raw_line
from etl.readings.records import Answer, Machine, Poll, Position, RejectedError
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


class RecordedSource(NamedTuple):
    """A source by its name, and how readings are selected from its answers: see `split` of readings/answers."""

    name: str
    records: ParsedResult | None = None
    by_key: bool = False


class _Input(NamedTuple):
    """A file to read: its sources, the day it is named for (None: its name is not that of a day file).

    `is_followed` if a source follows it: its raw lines then carry the position where following goes on.
    """

    path: Path
    sources: Sequence[RecordedSource]
    day: str | None
    is_followed: bool


class _Block(NamedTuple):
    """Whole lines of a file: the number of the first, its offset, and up to BEFORE_BYTES before it.

    A line beyond MAX_LINE_BYTES is cut off there, and is the last of its block.
    """

    data: bytes
    line: int
    offset: int
    before: bytes


class Recording:
    """Reads files of readings in the order of the calls of `read`.

    `sources` has the sources that read a file by its resolved path; the stem of any other file is its source.
    Timestamps without an offset are in `zone`; in an hour that occurs twice, the second one begins where the times of a
    machine go back. A line is rejected if its day lies after `today`, or before the day of an earlier line of the same
    machine. `progress` is called with the stored bytes read since its last call. `epochs` counts the timestamps that
    were numbers, by their unit.
    """

    def __init__(
        self, sources: Mapping[Path, Sequence[RecordedSource]], zone: ZoneInfo, today: str, progress: Progress
    ) -> None:
        self.epochs: Counter[str] = Counter()
        self._sources = sources
        self._zone = zone
        self._today = today
        self._progress = progress
        self._day_of = day_finder(zone)
        self._newest_day = ""
        self._days: dict[Machine, str] = {}
        self._times: dict[Machine, float] = {}
        self._decode_block = block_decoder((), times=True)
        self._decode_line = raw_decoder(())

    def read(self, path: Path) -> Iterator[Lines | Rejection]:
        """The readings of a file, and the lines that are not readings; OSError if it cannot be read."""
        real = Path(os.path.realpath(path))  # resolve() fails where links form a circle
        sources = self._sources.get(real)
        stem = RecordedSource(Path(path.name.removesuffix(".gz")).stem)
        is_followed = sources is not None and path.suffix == ".jsonl"
        file = _Input(path, sources or [stem], day_of_file(path.name), is_followed)
        # Links are followed; a FIFO would wait for its other end.
        with open(real, "rb", opener=open_regular) as stored:
            unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored)
            try:
                yield from self._read(file, unpacked, stored)
            except DAMAGED_GZIP as error:
                yield Rejection(path, 1, f"the compressed file is damaged: {error}")

    def _read(self, file: _Input, unpacked: IO[bytes], stored: IO[bytes]) -> Iterator[Lines | Rejection]:
        first = unpacked.read(READ_BYTES)
        layout = _layout(file, first)
        if layout == "document":
            yield from self._document(file, first + unpacked.read(MAX_ARRAY_BYTES))
            self._progress(stored.tell())
        elif layout == "table":
            yield from self._table(file, self._blocks(first, unpacked, stored))
        elif layout == "lines":
            for block in self._blocks(first, unpacked, stored):
                yield from self._block(file, block)
        else:
            yield Rejection(file.path, 1, "the file is neither JSON lines, nor a JSON array, nor CSV with a header")

    def _blocks(self, data: bytes, unpacked: IO[bytes], stored: IO[bytes]) -> Iterator[_Block]:
        """The file in blocks of whole lines; `data` is its beginning."""
        line, offset, reported, before = 1, 0, 0, b""
        while data:
            if not data.endswith(b"\n"):
                data += unpacked.readline(MAX_LINE_BYTES)
            yield _Block(data, line, offset, before)
            skipped, end = (0, b"") if data.endswith(b"\n") else _skip_line(unpacked)
            line += data.count(b"\n") + end.endswith(b"\n")
            offset += len(data) + skipped
            before = (before + data + end)[-BEFORE_BYTES:]
            self._progress(stored.tell() - reported)
            reported = stored.tell()
            data = unpacked.read(READ_BYTES)

    def _document(self, file: _Input, body: bytes) -> Iterator[Lines | Rejection]:
        """An object, or the items of an array."""
        if len(body) > MAX_ARRAY_BYTES:
            why = f"the array is larger than {MAX_ARRAY_BYTES >> 20} MiB; make lines of it: jq -c '.[]' FILE"
            yield Rejection(file.path, 1, why)
            return
        try:
            value = exact.loads(body)
        except orjson.JSONDecodeError as error:
            yield Rejection(file.path, 1, f"the file is not JSON: {error}")
            return
        for number, item in enumerate(value if isinstance(value, list) else [value], 1):
            try:
                yield from self._items(file, number, exact.dumps(item))
            except orjson.JSONEncodeError as error:
                yield Rejection(file.path, number, f"it cannot be written as a raw line: {error}")

    def _table(self, file: _Input, blocks: Iterable[_Block]) -> Iterator[Lines | Rejection]:
        lines = chain.from_iterable(enumerate(BytesIO(block.data), block.line) for block in blocks)
        for number, row in rows(lines, needs_time=not any(source.records for source in file.sources)):
            if isinstance(row, RejectedError):
                yield Rejection(file.path, number, str(row))
            else:
                yield from self._items(file, number, row)

    def _block(self, file: _Input, block: _Block) -> Iterator[Lines | Rejection]:
        """The lines of a block: all at once if they are raw lines of one day, else one by one."""
        lines = self._whole_block(file, block.data)
        if lines:
            yield lines
            return
        texts: Iterable[tuple[bytes, Position | None]] = ((text, None) for text in block.data.split(b"\n"))
        if file.is_followed:
            start = block.offset - len(block.before)
            texts = lines_with_positions(block.before + block.data, len(block.before), start, is_complete=True)
        for number, (text, position) in enumerate(texts, block.line):
            if len(text) >= MAX_LINE_BYTES:
                yield Rejection(file.path, number, f"it is longer than {MAX_LINE_BYTES >> 20} MiB")
            elif text.strip():
                yield from self._items(file, number, text.rstrip(b"\r"), position)

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

    def _items(
        self, file: _Input, number: int, body: bytes, position: Position | None = None
    ) -> Iterator[Lines | Rejection]:
        """The readings of a line, item or row: itself, or what `records` extracts from it, as when it is polled."""
        answer = Answer(body, position)
        if _is_raw(body):
            yield self._item(file, number, "", answer)
            return
        for source, expression, by_key in file.sources:
            if expression is None:
                yield self._item(file, number, source, answer)
                continue
            records = split(Poll(source, 0.0, (answer,)), expression, by_key)
            yield from (Rejection(file.path, number, str(error)) for error in records.rejections)
            timestamp = _timestamp_of(body)
            yield from (self._item(file, number, source, record, timestamp) for record in records.answers)

    def _item(self, file: _Input, number: int, source: str, answer: Answer, timestamp: Any = None) -> Lines | Rejection:
        """One reading: a raw line stays as it is, others become raw lines. `timestamp` is that of a whole answer."""
        try:
            reading = parse(answer.body)
            is_raw = "_source" in reading and "_polled_at" in reading
            if is_raw:
                line = answer.body + b"\n"
            else:
                at = self._time_of(reading.get("timestamp", timestamp), (source, id_of(reading.get("id"))))
                line = raw_line(reading, source, at, answer.mark)
            decoded = self._decode_line(line)
            day = (file.day if is_raw else None) or self._day_of(decoded.polled_at)
        except RejectedError as error:
            return Rejection(file.path, number, str(error))
        except (OverflowError, ValueError) as error:
            return Rejection(file.path, number, f"it cannot be written as a raw line: {error}")
        if not _FIRST_DAY < day <= self._today:
            return Rejection(file.path, number, f"its day {day} is not between the year 1 and today")
        previous = self._days.get(decoded.machine, "")
        if day < previous:
            return Rejection(file.path, number, f"its day {day} lies before {previous}, the day of an earlier line")
        self._days[decoded.machine] = day
        self._newest_day = max(self._newest_day, day)
        return Lines(day, line, 1)

    def _time_of(self, timestamp: Any, machine: Machine) -> float:
        """The time of a reading by its own timestamp (seconds since the epoch, to the millisecond)."""
        number = number_of(timestamp)
        if number is not None:
            moment, unit = since_1970(number)
            self.epochs[unit] += 1
        elif isinstance(timestamp, str):
            moment = self._iso_time(timestamp, machine)
        else:
            raise RejectedError("no_time", "it has no `timestamp` that is text or a number, so its day is unknown")
        self._times[machine] = moment
        return moment

    def _iso_time(self, timestamp: str, machine: Machine) -> float:
        try:
            local = datetime.fromisoformat(timestamp)
            if local.tzinfo:
                return round(local.timestamp(), 3)
            return moment_of(local, self._zone, self._times.get(machine, -inf))
        except (ValueError, OverflowError):
            raise RejectedError("no_time", f"its timestamp {timestamp[:40]!r} is not an ISO 8601 time") from None


def _layout(file: _Input, beginning: bytes) -> Literal["document", "table", "lines"] | None:
    """How a file is laid out, by its name and its first line; None if it is unknown.

    A document is an array, or an object over several lines. The lines of a followed file may be arrays.
    """
    suffix = Path(file.path.name.removesuffix(".gz")).suffix.lower()
    first = beginning.lstrip().split(b"\n", 1)[0].strip()
    if not file.is_followed and (first.startswith(b"[") or (first == b"{" and suffix != ".jsonl")):
        return "document"
    if suffix != ".csv" and (suffix == ".jsonl" or not first or first.startswith(b"{")):
        return "lines"
    if suffix == ".csv" or b"timestamp" in re.split(rb"[,;\t\"]", first.removeprefix(BOM_UTF8)):
        return "table"
    return "lines" if b"\n{" in beginning else None


def _skip_line(file: IO[bytes]) -> tuple[int, bytes]:
    """Read to the end of a line; how many bytes that was, and up to BEFORE_BYTES of their end."""
    skipped, end = 0, b""
    while part := file.readline(READ_BYTES):
        skipped += len(part)
        end = (end + part)[-BEFORE_BYTES:]
        if part.endswith(b"\n"):
            break
    return skipped, end


def _is_raw(body: bytes) -> bool:
    """Whether a line is a raw line already, to which no `records` applies."""
    if b'"_source"' not in body or b'"_polled_at"' not in body:
        return False
    with suppress(RejectedError):
        return {"_source", "_polled_at"} <= parse(body).keys()
    return False


def _timestamp_of(body: bytes) -> Any:
    """The timestamp of an answer, which counts for its records without one."""
    with suppress(orjson.JSONDecodeError):
        answer = orjson.loads(body)
        return answer.get("timestamp") if isinstance(answer, dict) else None
    return None
