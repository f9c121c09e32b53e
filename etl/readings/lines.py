"""Lines, one at a time: those of our own log (raw, averages, events, settings), and positions in followed files."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import orjson

from etl.readings import exact
from etl.readings.records import Position, Reading, RejectedError, SettingsEntry
from etl.readings.text import shortened
from etl.readings.times import FIRST_S, LAST_S, clamp, rfc3339

OWN_KEYS = ("_source", "_polled_at", "_position", "_before")
"""The keys this program adds behind a machine's own; what a machine sends under them is removed."""
_OWN_KEYS = frozenset(OWN_KEYS)
QUALITY = "_quality"
"""The key of a reading that names what is wrong with its values, by field: {"temperature": "BadSensorFailure"}."""
COMMON_KEYS = {"_source", "_polled_at", "id", "name", "status", "timestamp"}
"""The keys of a raw line that have a meaning whatever the parameters are."""
MAX_TEXT_CHARACTERS = 200
"""Characters of a text that is kept to be shown."""
MAX_LATEST_BYTES = 1000
"""Bytes of an averages line that is kept to be shown, beyond which its texts are shortened: a machine may send any."""
BEFORE_BYTES = 1024
"""Bytes before a position that identify its file: several lines, so that files of similar lines differ there."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a damaged line raises."""


def raw_line(reading: dict[str, Any], source: str, polled_at: float, mark: object = None) -> bytes:
    """Encode a reading as sent, with its source, when it was polled (seconds), and its position if that is its mark.

    RejectedError if it is nested too deep.
    """
    if not _OWN_KEYS.isdisjoint(reading):
        reading = {key: value for key, value in reading.items() if key not in OWN_KEYS}
    record = {**reading, "_source": source, "_polled_at": rfc3339(polled_at)}
    if type(mark) is Position:
        record["_position"], record["_before"] = mark
    try:
        return _line(record)
    except orjson.JSONEncodeError as error:
        raise RejectedError("too_deep", f"the reading cannot be written: {error}") from None


def _line(record: dict[str, Any]) -> bytes:
    # Concatenation copies: the bytes orjson returns keep a 4 KiB buffer alive, and lines wait in queues.
    return exact.dumps(record) + b"\n"


def line_type(fields: Sequence[str], /, **types: Any) -> tuple[type[msgspec.Struct], dict[str, str]]:
    """Build the struct of a raw line with these fields and the two keys that make it ours; attribute names by key."""
    keys = list(dict.fromkeys(["_source", "_polled_at", *fields]))
    names = {key: key.removeprefix("_") if key in COMMON_KEYS else f"field_{i}" for i, key in enumerate(keys)}
    required: dict[str, Any] = {"_source": str, "_polled_at": Annotated[datetime, msgspec.Meta(tz=True)]}
    struct = msgspec.defstruct(
        "RawLine",
        [(names[key], required[key]) if key in required else (names[key], types.get(key, Any), None) for key in keys],
        rename={names[key]: key for key in keys},
        gc=False,
    )
    return struct, names


@lru_cache(maxsize=32)
def _field_decoder(
    fields: tuple[str, ...], value_type: Any = Any
) -> tuple[Callable[[bytes], Any], Callable[[Any], tuple[Any, ...]]]:
    """Build the decoder of a raw line, and the getter of these fields (None if missing) from its result."""
    struct, names = line_type(fields, **dict.fromkeys(fields, value_type))
    return msgspec.json.Decoder(struct).decode, attrgetter(*(names[key] for key in fields))


def raw_decoder(fields: Sequence[str]) -> Callable[[bytes], Reading]:
    """Build the decoder of raw lines, which raises RejectedError for a damaged one.

    `fields` names the field of each parameter; `Reading.values` has the same order, None where a field is missing.
    """
    keys = ("_source", "_polled_at", "id", "timestamp", "status", "name", *fields)
    decode, take = _field_decoder(keys)
    decode_lazily, take_lazily = _field_decoder(keys, msgspec.Raw)

    def decode_line(line: bytes) -> Reading:
        try:
            try:
                values = take(decode(line))
            except msgspec.DecodeError:
                # The block decoder skips fields it does not need, so a number too big for Python is not damage here.
                values = tuple(map(_decoded, take_lazily(decode_lazily(line))))
        except UNREADABLE as error:
            raise RejectedError("damaged", f"the line is damaged: {error}") from None
        source, polled_at, identity, timestamp, status, name, *parameters = values
        moment = polled_at.timestamp()
        if not FIRST_S <= moment <= LAST_S:
            moment = clamp(moment)
        return Reading((source, id_of(identity)), moment, timestamp, status, name, parameters)

    return decode_line


def id_of(value: Any) -> str | int | float | None:
    """The `id` that a reading with this value has: a string or a number, else None."""
    return value if isinstance(value, (int, str, float)) and type(value) is not bool else None


def _decoded(value: Any) -> Any:
    """A raw field's value; None for a number that Python cannot represent, such as 1e999."""
    if type(value) is not msgspec.Raw:
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return None


def timestamp_of(reading: Reading) -> Any:
    """The reading's own timestamp, unchanged; where it has none, when it was polled."""
    return rfc3339(reading.polled_at) if reading.timestamp is None else reading.timestamp


def averages_encoder(parameters: Iterable[str]) -> Callable[[Reading, Sequence[float | None], int], bytes]:
    """Build the encoder of averages lines: from a reading, the parameters' averages and its window's readings."""
    averages = (f"average_{parameter}" for parameter in parameters)
    keys = ("timestamp", "source", "id", *averages, "status", "readings", "polled_at")
    names = {f"k{i}": key for i, key in enumerate(keys)}
    # A struct type built once is filled and encoded three times as fast as a dict.
    line = msgspec.defstruct("AveragesLine", [(name, Any) for name in names], rename=names, gc=False)
    encode = msgspec.json.Encoder().encode

    def encode_line(reading: Reading, means: Sequence[float | None], readings: int) -> bytes:
        polled_at = rfc3339(reading.polled_at)
        timestamp = polled_at if reading.timestamp is None else reading.timestamp
        return encode(line(timestamp, *reading.machine, *means, reading.status, readings, polled_at)) + b"\n"

    return encode_line


def shortened_line(averages: bytes) -> bytes:
    """An averages line; if it is longer than MAX_LATEST_BYTES, with its texts shortened."""
    if len(averages) <= MAX_LATEST_BYTES:
        return averages
    line = msgspec.json.decode(averages, type=dict[str, msgspec.Raw])
    for key in ("timestamp", "id", "status"):
        value = bytes(line[key])
        text = msgspec.json.decode(value, type=str) if value.startswith(b'"') else value.decode()
        if len(text) > MAX_TEXT_CHARACTERS:
            line[key] = msgspec.Raw(msgspec.json.encode(shortened(text, MAX_TEXT_CHARACTERS)))
    return msgspec.json.encode(line) + b"\n"


def event_line(moment: float, event: str, source: str | None, reason: str | None, fields: dict[str, Any]) -> bytes:
    """Encode a line of the events log."""
    return _line({"at": rfc3339(moment), "event": event, "source": source, "reason": reason, **fields})


def settings_line(entry: SettingsEntry) -> bytes:
    """Encode a line of settings.jsonl."""
    record = {"day": entry.day, "line": entry.line, **msgspec.to_builtins(entry.settings)}
    if not entry.settings.alarms:
        del record["alarms"]
    return _line(record)


def parse_settings(line: bytes) -> SettingsEntry:
    """Decode a line of settings.jsonl; RejectedError if it is damaged."""
    try:
        flat = orjson.loads(line)
        return msgspec.convert({"day": flat["day"], "line": flat["line"], "settings": flat}, SettingsEntry)
    except (orjson.JSONDecodeError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise RejectedError("damaged", f"the line is damaged: {error}") from None


def position_at(data: bytes, end: int, offset: int) -> Position:
    """The position at `data[end]`, where `data[0]` is the byte `offset` of the file."""
    return Position(offset + end, _digest(data[max(0, end - BEFORE_BYTES) : end]))


def is_at(position: Position, before: bytes) -> bool:
    """Whether a file has this position; `before` is its content up to there, BEFORE_BYTES of it or all."""
    if len(before) < min(position.offset, BEFORE_BYTES):
        return False
    if position.before is None:
        return position.offset == 0 or before.endswith(b"\n")
    return position.before == _digest(before[-BEFORE_BYTES:])


def lines_with_positions(
    data: bytes, begin: int, offset: int, is_complete: bool = False
) -> Iterator[tuple[bytes, Position]]:
    """The lines of `data[begin:]`, each with the position after it; `data[0]` is the byte `offset` of the file.

    An unfinished last line counts only if the file `is_complete`. NUL bytes before a line are left out: a writer that
    keeps its offset in a file that was cut leaves them.
    """
    while (end := data.find(b"\n", begin) + 1) or (is_complete and begin < len(data)):
        end = end or len(data)
        yield data[begin:end].removesuffix(b"\n").lstrip(b"\0"), position_at(data, end, offset)
        begin = end


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()
