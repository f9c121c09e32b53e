"""Blocks of raw lines decoded into columns, for what reads whole days."""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from etl.readings.averages.window import MAX_ABS_VALUE, number
from etl.readings.lines import COMMON_KEYS, UNREADABLE, line_type, raw_decoder
from etl.readings.records import RejectedError, Rows
from etl.readings.times import FIRST_S, LAST_S, clamp


@lru_cache(maxsize=16)
def block_decoder(fields: tuple[str, ...], times: bool = False, statuses: bool = False) -> Callable[[bytes], Rows]:
    """Build the decoder of blocks of whole raw lines; a block without damage is decoded in one pass."""
    bounded = Annotated[float, msgspec.Meta(ge=-MAX_ABS_VALUE, le=MAX_ABS_VALUE)] | None
    keys = ["id", "name", "status"] if statuses else ["id", "name"]
    types = dict.fromkeys(set(fields) - COMMON_KEYS, bounded)
    struct, names = line_type([*keys, *fields], id=int | str | float | None, **types)
    decode = msgspec.json.Decoder(struct).decode
    getters = [attrgetter(names[field]) for field in fields]
    decode_line = raw_decoder(fields)

    def columns(lines: list[Any]) -> Rows:
        return Rows(
            [line.source for line in lines],
            [line.id for line in lines],
            [line.name for line in lines],
            [list(map(getter, lines)) for getter in getters],
            _clamped([line.polled_at.timestamp() for line in lines]) if times else None,
            _as_text([line.status for line in lines]) if statuses else None,
        )

    def row(line: bytes) -> tuple[Any, ...]:
        try:
            reading = decode_line(line)
        except RejectedError:
            return None, None, 0.0, None, None, *([None] * len(fields))
        return *reading.machine, reading.polled_at, reading.name, reading.status, *map(number, reading.values)

    def decode_block(block: bytes) -> Rows:
        try:
            # A parameter that averages `id` or `status` needs the slow path: those fields have other types.
            if COMMON_KEYS.isdisjoint(fields) and is_text(block):
                return columns(list(map(decode, BytesIO(block))))
        except UNREADABLE:
            pass
        rows = list(map(row, BytesIO(block)))
        sources, ids, ats, machine_names, texts, *values = ([r[i] for r in rows] for i in range(5 + len(fields)))
        return Rows(sources, ids, machine_names, values, ats if times else None, _as_text(texts) if statuses else None)

    return decode_block


def is_text(data: bytes) -> bool:
    """Whether these bytes are UTF-8."""
    try:
        return data.isascii() or data.decode() is not None
    except UnicodeDecodeError:
        return False


def _clamped(moments: list[float]) -> list[float]:
    if min(moments, default=FIRST_S) >= FIRST_S and max(moments, default=LAST_S) <= LAST_S:
        return moments
    return list(map(clamp, moments))


def _as_text(statuses: list[Any]) -> list[str | None]:
    """Statuses as text: a value that is neither text nor null becomes its JSON."""
    if {*map(type, statuses)} <= {str, type(None)}:
        return statuses
    return [s if s is None or type(s) is str else msgspec.json.encode(s).decode() for s in statuses]


def lines_with(block: bytes, text: bytes) -> list[bytes]:
    """The lines of a block that have some bytes, found without splitting the others."""
    lines = []
    place = block.find(text)
    while place >= 0:
        end = block.index(b"\n", place) + 1
        lines.append(block[block.rfind(b"\n", 0, place) + 1 : end])
        place = block.find(text, end)
    return lines
