"""Recorded readings read back: JSON arrays and JSON lines, plain or .gz, as raw lines with the day each belongs to."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from zoneinfo import ZoneInfo

import orjson

from etl.readings.answers import as_reading, parse
from etl.readings.blocks import block_decoder, is_text
from etl.readings.lines import raw_decoder, raw_line
from etl.readings.records import Machine, RejectedError
from etl.storage.folder import day_of_file

BLOCK = 128 << 10
_FIRST = "0001-01-01"
"""The first day there is; files of ours are named for later ones."""
_UNREADABLE = (EOFError, zlib.error, gzip.BadGzipFile)


class Lines(NamedTuple):
    """Raw lines of one day, in order, as one run of bytes; and the machine of each."""

    day: str
    data: bytes
    machines: list[Machine]


class Damage(NamedTuple):
    """A line (or, in an array, an item; counted from 1) that is no reading, and why."""

    file: Path
    line: int
    why: str


class Recording:
    """Files of readings, read in the order they are given.

    `sources` are the names of the sources by the resolved path of their file; a file of no source is named by its stem.
    `zone` is that of timestamps without one, `day_of` the local day of a moment (seconds since the epoch). A line whose
    day lies after `today`, or before that of an earlier line of its machine, is damaged. `watch` is told the bytes that
    were read.
    """

    def __init__(
        self,
        sources: dict[Path, str],
        zone: ZoneInfo,
        day_of: Callable[[float], str],
        today: str,
        watch: Callable[[int], None],
    ) -> None:
        self._sources = sources
        self._today = today
        self._zone = zone
        self._day_of = day_of
        self._watch = watch
        self._newest = ""
        self._days: dict[Machine, str] = {}
        self._rows = block_decoder((), times=True)
        self._decode = raw_decoder(())

    def read(self, file: Path) -> Iterator[Lines | Damage]:
        """The readings of a file, and what in it is none.

        Raises:
            OSError: it cannot be read.

        """
        name = file.name.removesuffix(".gz")
        self._name = self._sources.get(file.resolve(), Path(name).stem)
        self._named_day = day_of_file(file.name)
        self._file = file
        # Following such a file goes on behind the last line that tells its position.
        self._followed = file.suffix == ".jsonl" and file.resolve() in self._sources
        with file.open("rb") as stored:
            unpacked = cast(IO[bytes], gzip.GzipFile(fileobj=stored) if file.suffix == ".gz" else stored)
            try:
                yield from self._read(unpacked, stored)
            except _UNREADABLE as error:
                yield Damage(file, 1, f"the compressed file is damaged: {error}")

    def _read(self, unpacked: IO[bytes], stored: IO[bytes]) -> Iterator[Lines | Damage]:
        at = 0
        first = unpacked.read(BLOCK)
        if first.lstrip()[:1] == b"[":
            yield from self._array(first + unpacked.read())
            self._watch(stored.tell())
            return
        line, offset, block = 1, 0, first
        while block:
            if not block.endswith(b"\n"):
                block += unpacked.readline()
            yield from self._block(block, line, offset)
            line += block.count(b"\n")
            offset += len(block)
            self._watch(stored.tell() - at)
            at = stored.tell()
            block = unpacked.read(BLOCK)

    def _array(self, body: bytes) -> Iterator[Lines | Damage]:
        try:
            items = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            yield Damage(self._file, 1, f"the array is not JSON: {error}")
            return
        for number, item in enumerate(items, 1):
            yield self._one(number, as_reading, item)

    def _block(self, block: bytes, line: int, offset: int) -> Iterator[Lines | Damage]:
        """The lines of a block: in one go where all are raw lines of ours and of one day, else one by one."""
        if (day := self._whole(block)) is not None:
            yield day
            return
        for number, text in zip(count(line), block.split(b"\n"), strict=False):
            offset += len(text) + 1
            if text.strip():
                yield self._one(number, parse, text.rstrip(b"\r"), offset if self._followed else None)

    def _whole(self, block: bytes) -> Lines | None:
        if not block.endswith(b"\n") or b"\r" in block or not is_text(block):
            return None
        rows = self._rows(block)
        if None in rows.sources or not rows.times:
            return None
        try:
            first, last = self._day_of(min(rows.times)), self._day_of(max(rows.times))
        except OverflowError:  # a moment at the end of the calendar
            return None
        day = self._named_day or first
        if day < self._newest or not _FIRST < day <= self._today or (first != last and not self._named_day):
            return None
        self._newest = day
        machines = cast(list[Machine], list(zip(rows.sources, rows.ids, strict=True)))
        self._days.update(dict.fromkeys(machines, day))
        return Lines(day, block, machines)

    def _one(
        self, number: int, read: Callable[[Any], dict[str, Any]], what: Any, position: int | None = None
    ) -> Lines | Damage:
        """One reading, as it is if it is a raw line of ours, else as it would have been written when it was taken."""
        try:
            reading = read(what)
            ours = "_source" in reading and "_polled_at" in reading
            if ours:
                line = (what if isinstance(what, bytes) else orjson.dumps(reading)) + b"\n"
            else:
                line = raw_line(reading, self._name, _moment(reading.get("timestamp"), self._zone), position)
            found = self._decode(line)
            day = (self._named_day if ours else None) or self._day_of(found.polled_at)
        except RejectedError as error:
            return Damage(self._file, number, str(error))
        except (OverflowError, ValueError, orjson.JSONEncodeError) as error:
            return Damage(self._file, number, f"it cannot be written: {error}")
        if not _FIRST < day <= self._today:
            return Damage(self._file, number, f"its day {day} is not between the year 1 and today")
        before = self._days.get(found.machine, "")
        if day < before:
            return Damage(self._file, number, f"its day {day} lies before {before}, that of an earlier line")
        self._days[found.machine] = day
        self._newest = max(self._newest, day)
        return Lines(day, line, [found.machine])


def _moment(timestamp: Any, zone: ZoneInfo) -> float:
    """When a reading was taken, by its own timestamp (seconds since the epoch)."""
    if not isinstance(timestamp, str):
        raise RejectedError("no_time", "it has no timestamp that is a text, so its day is not known")
    try:
        moment = datetime.fromisoformat(timestamp)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp(), 3)
    except (ValueError, OverflowError):
        raise RejectedError("no_time", f"its timestamp {timestamp[:40]!r} is no ISO 8601 time") from None
