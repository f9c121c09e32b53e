"""Bytes to records and records to bytes: what machines send, and the lines of our own log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from operator import attrgetter
from typing import Annotated, Any

import jmespath
import msgspec
import orjson

from etl.readings.records import Governed, Reading, Rows
from etl.readings.window import LIMIT, number

RECORDS = 10_000
"""Readings in one answer, at most."""
OURS = ("_source", "_polled_at", "_position")
"""The keys this program adds behind a machine's own; a machine that sends one of them is not believed."""

_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0
"""The moments that RFC 3339 can write, in seconds since the epoch."""


class RejectedError(ValueError):
    """An answer or a line that is no reading: `reason` is a stable code, the message a sentence."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason = reason

    def __reduce__(self) -> tuple[type[RejectedError], tuple[str, str]]:
        return RejectedError, (self.reason, str(self))


def parse(body: bytes) -> dict[str, Any]:
    """Read one JSON object as a machine sent it.

    Raises:
        RejectedError: the body is empty, not JSON (NaN, infinity and a byte order mark are not JSON), or no object.

    """
    return _object(_json(body), "answer")


def extract(body: bytes, records: jmespath.parser.ParsedResult) -> list[Any]:
    """Take the records of an answer by a JMESPath expression; each is a reading if `as_reading` says so.

    Raises:
        RejectedError: the body is empty or not JSON, the expression does not apply to it, or gives nothing or more than
            RECORDS.

    """
    try:
        found = records.search(_json(body))
    except (jmespath.exceptions.JMESPathError, RecursionError) as error:
        raise RejectedError("no_records", f"records cannot be taken from the answer: {error}"[:200]) from None
    if found is None:
        raise RejectedError("no_records", "the answer has nothing where `records` points")
    several = found if isinstance(found, list) else [found]
    if len(several) > RECORDS:
        raise RejectedError("too_many", f"the answer has more than {RECORDS} records")
    return several


def as_reading(record: Any) -> dict[str, Any]:
    """Take a record for a reading.

    Raises:
        RejectedError: it is no object.

    """
    return _object(record, "record")


def _json(body: bytes) -> Any:
    if not body.strip():
        raise RejectedError("empty", "the answer is empty")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RejectedError("not_json", f"the answer is not JSON: {error}") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RejectedError("not_object", f"the {what} is {_kind(value)}, not a JSON object")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "true or false"}.get(type(value), "a number")


def raw_line(reading: dict[str, Any], source: str, at: float, position: int | None = None) -> bytes:
    """Encode a line of the raw log: the reading as sent, then its source and when it was polled.

    Raises:
        RejectedError: the reading is nested too deeply to be written.

    """
    if any(key in reading for key in OURS):
        reading = {key: value for key, value in reading.items() if key not in OURS}
    line = {**reading, "_source": source, "_polled_at": rfc3339(at)}
    if position is not None:
        line["_position"] = position
    try:
        return _whole_line(line)
    except orjson.JSONEncodeError as error:
        raise RejectedError("too_deep", f"the reading cannot be written: {error}") from None


def _whole_line(record: dict[str, Any]) -> bytes:
    # What orjson gives keeps a buffer of 4 KiB alive, however short it is: lines that wait or are shown must be copies.
    return orjson.dumps(record) + b"\n"


def rfc3339(at: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    second, millis = divmod(round(at * 1000), 1000)
    return _second(second) + _MILLIS[millis]


_MILLIS = tuple(f".{millis:03d}Z" for millis in range(1000))


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


_KNOWN = {"_source", "_polled_at", "id", "name", "status", "timestamp"}
"""The keys of a raw line that mean something whatever the parameters are."""


def _line_type(fields: Sequence[str], /, **kinds: Any) -> tuple[type[msgspec.Struct], dict[str, str]]:
    """A raw line's type, with no more than these fields and what makes it a line of ours; attribute names by key."""
    keys = list(dict.fromkeys(["_source", "_polled_at", *fields]))
    names = {key: key.removeprefix("_") if key in _KNOWN else f"field_{i}" for i, key in enumerate(keys)}
    needed: dict[str, Any] = {"_source": str, "_polled_at": Annotated[datetime, msgspec.Meta(tz=True)]}
    line_type = msgspec.defstruct(
        "RawLine",
        [(names[key], needed[key]) if key in needed else (names[key], kinds.get(key, Any), None) for key in keys],
        rename={names[key]: key for key in keys},
        gc=False,
    )
    return line_type, names


@lru_cache(maxsize=32)
def _reader(
    fields: tuple[str, ...], kind: Any = Any
) -> tuple[Callable[[bytes], Any], Callable[[Any], tuple[Any, ...]]]:
    """What decodes a raw line, and what takes these fields, in order, from that; None where one is missing."""
    line_type, names = _line_type(fields, **dict.fromkeys(fields, kind))
    return msgspec.json.Decoder(line_type).decode, attrgetter(*(names[key] for key in fields))


def _held(value: Any) -> Any:
    """A value that was passed over unread; None for a number that Python cannot hold, such as 1e999."""
    if type(value) is not msgspec.Raw:
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return None


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def raw_decoder(fields: Sequence[str]) -> Callable[[bytes], Reading]:
    """Build the reader of raw lines: only what averages and reports need is decoded.

    Args:
        fields: the field of each parameter, in order; `Reading.values` stands in the same order, None where missing.

    Returns:
        a function from a line to its Reading; it raises RejectedError for a damaged line.

    """
    wanted = ("_source", "_polled_at", "id", "timestamp", "status", "name", *fields)
    decode, take = _reader(wanted)
    decode_unread, take_unread = _reader(wanted, msgspec.Raw)

    def decode_line(line: bytes) -> Reading:
        try:
            try:
                found = take(decode(line))
            except msgspec.DecodeError:
                # What the day's analysis passes over unread, as it does not need it, must be no damage here.
                found = tuple(map(_held, take_unread(decode_unread(line))))
        except _UNREADABLE as error:
            raise RejectedError("damaged", f"the line is damaged: {error}") from None
        source, polled_at, key, stamp, status, name, *values = found
        at = polled_at.timestamp()
        if not _FIRST <= at <= _LAST:
            at = _writable(at)
        return Reading((source, _id(key)), at, stamp, status, name, values)

    return decode_line


def _writable(at: float) -> float:
    """The moment, or the nearest one that RFC 3339 can write in UTC."""
    return max(_FIRST, min(at, _LAST))


def _all_writable(times: list[float]) -> list[float]:
    if min(times, default=_FIRST) >= _FIRST and max(times, default=_LAST) <= _LAST:
        return times
    return list(map(_writable, times))


@lru_cache(maxsize=16)
def block_decoder(fields: tuple[str, ...], times: bool = False, statuses: bool = False) -> Callable[[bytes], Rows]:
    """Build the reader of blocks of whole raw lines, for the analysis of a day, with or without times and statuses.

    A block whose lines all are as they should be is read in one go; any other one line by line.
    """
    number_or_none = Annotated[float, msgspec.Meta(ge=-LIMIT, le=LIMIT)] | None
    asked = ("id", "name", "status") if statuses else ("id", "name")
    line_type, names = _line_type(
        [*asked, *fields], id=int | str | float | None, **dict.fromkeys(set(fields) - _KNOWN, number_or_none)
    )
    decode = msgspec.json.Decoder(line_type).decode
    values = [attrgetter(names[field]) for field in fields]
    plain = not _KNOWN & {*fields}
    decode_one = raw_decoder(fields)

    def whole(lines: list[Any]) -> Rows:
        return Rows(
            [line.source for line in lines],
            [line.id for line in lines],
            [line.name for line in lines],
            [list(map(value, lines)) for value in values],
            _all_writable([line.polled_at.timestamp() for line in lines]) if times else None,
            _texts([line.status for line in lines]) if statuses else None,
        )

    def one(line: bytes) -> tuple[Any, ...]:
        try:
            reading = decode_one(line)
        except RejectedError:
            return None, None, 0.0, None, None, *([None] * len(fields))
        return *reading.machine, reading.polled_at, reading.name, reading.status, *map(number, reading.values)

    def decode_block(block: bytes) -> Rows:
        try:
            if plain and is_text(block):
                return whole(list(map(decode, BytesIO(block))))
        except _UNREADABLE:
            pass
        found = list(map(one, BytesIO(block)))
        sources, ids, at, sent, told, *columns = ([row[i] for row in found] for i in range(5 + len(fields)))
        return Rows(sources, ids, sent, columns, at if times else None, _texts(told) if statuses else None)

    return decode_block


def is_text(data: bytes) -> bool:
    """Whether these bytes are UTF-8."""
    try:
        return data.isascii() or data.decode() is not None
    except UnicodeDecodeError:
        return False


def _texts(statuses: list[Any]) -> list[str | None]:
    """Statuses as text; what is neither text nor null as its JSON."""
    if {*map(type, statuses)} <= {str, type(None)}:
        return statuses
    return [one if one is None or type(one) is str else msgspec.json.encode(one).decode() for one in statuses]


def _id(key: Any) -> str | int | float | None:
    return key if type(key) in (int, str, float) else None


def timestamp(reading: Reading) -> Any:
    """The reading's own timestamp, untouched, else when it was polled."""
    return rfc3339(reading.polled_at) if reading.timestamp is None else reading.timestamp


def averages_encoder(parameters: Iterable[str]) -> Callable[[Reading, Sequence[float | None], int], bytes]:
    """Build the writer of averages lines.

    Returns:
        a function from a reading, the average of each parameter (in the same order) and how many readings its window
        spans to the line.

    """
    averages = (f"average_{parameter}" for parameter in parameters)
    keys = ("timestamp", "source", "id", *averages, "status", "readings", "polled_at")
    names = {f"k{i}": key for i, key in enumerate(keys)}
    # A type of its own, made once, is filled and encoded three times as fast as a dict.
    line = msgspec.defstruct("AveragesLine", [(name, Any) for name in names], rename=names, gc=False)
    encode = msgspec.json.Encoder().encode

    def encode_line(reading: Reading, means: Sequence[float | None], readings: int) -> bytes:
        polled_at = rfc3339(reading.polled_at)
        stamp = polled_at if reading.timestamp is None else reading.timestamp
        return encode(line(stamp, *reading.machine, *means, reading.status, readings, polled_at)) + b"\n"

    return encode_line


def event_line(at: float, event: str, source: str | None, reason: str | None, more: dict[str, Any]) -> bytes:
    """Encode a line of the events log."""
    return _whole_line({"at": rfc3339(at), "event": event, "source": source, "reason": reason, **more})


def settings_line(entry: Governed) -> bytes:
    """Encode a line of settings.jsonl."""
    flat = {"day": entry.day, "line": entry.line, **msgspec.structs.asdict(entry.settings)}
    return _whole_line(flat)


def parse_settings(line: bytes) -> Governed:
    """Read a line of settings.jsonl.

    Raises:
        RejectedError: the line is damaged.

    """
    try:
        flat = orjson.loads(line)
        return msgspec.convert({"day": flat["day"], "line": flat["line"], "settings": flat}, Governed)
    except (orjson.JSONDecodeError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise RejectedError("damaged", f"the line is damaged: {error}") from None
