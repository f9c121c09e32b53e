"""Which registers a source reads, in which requests, and the reading that their contents make. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple

from etl.config.sources.modbus import TABLES, WORDS, Register
from etl.readings import exact
from etl.readings.exact import LongFloat

MAX_WORDS = 125
"""Registers that one request may read, by the protocol."""
MAX_BITS = 2000
"""Coils or discrete inputs that one request may read, by the protocol."""
_FORMATS = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
    "bit": ">H",
}
_EXACT = Context(prec=60)
"""Digits of a product of 64 bits with a scale: 20 and 17, and those of an offset."""

Value = int | float | str | None
Convert = Callable[[Sequence[int]], tuple[Value, str | None]]
"""The value of a field, from the contents of its registers, and what is wrong with it."""


class Field(NamedTuple):
    """A field of the reading: `size` addresses of a table from `address` on."""

    name: str
    table: str
    address: int
    size: int
    convert: Convert


class Block(NamedTuple):
    """Neighbouring registers of a table that one request reads, and the fields in them."""

    table: str
    address: int
    size: int
    fields: tuple[Field, ...]

    @property
    def place(self) -> str:
        """Which fields it has, for people."""
        first = self.fields[0]
        others = f" and {len(self.fields) - 1} more" if len(self.fields) > 1 else ""
        return f"{first.name} ({first.table} {first.address}){others}"


def fields_of(registers: Mapping[str, Register]) -> list[Field]:
    """The fields of a reading, in its order."""
    return [
        Field(name, register.table, register.address, 1 if register.is_coil else WORDS[register.kind], _of(register))
        for name, register in registers.items()
    ]


def blocks_of(fields: Iterable[Field]) -> list[Block]:
    """As few requests as read these fields and no register that nobody named, which the unit may refuse."""
    blocks: list[Block] = []
    for field in sorted(fields, key=lambda field: (TABLES.index(field.table), field.address)):
        limit = MAX_BITS if field.table in ("coil", "discrete") else MAX_WORDS
        last = blocks[-1] if blocks else None
        if last and field.table == last.table and field.address <= last.address + last.size:
            size = max(last.size, field.address + field.size - last.address)
            if size <= limit:
                blocks[-1] = last._replace(size=size, fields=(*last.fields, field))
                continue
        blocks.append(Block(field.table, field.address, field.size, (field,)))
    return blocks


def split(block: Block) -> Iterator[Block]:
    """A request for each field of a block."""
    for field in block.fields:
        yield Block(field.table, field.address, field.size, (field,))


def body_of(fields: Iterable[Field], contents: Mapping[str, Sequence[int]]) -> bytes:
    """The reading as JSON, from the contents of each field's registers; `_quality` says why a value is null."""
    reading: dict[str, Any] = {}
    quality: dict[str, str] = {}
    for field in fields:
        reading[field.name], wrong = field.convert(contents[field.name])
        if wrong:
            quality[field.name] = wrong
    if quality:
        reading["_quality"] = quality
    return memoryview(exact.dumps(reading)).tobytes()


def _of(register: Register) -> Convert:
    """How the value of a register is made."""
    if register.is_coil:
        return lambda bits: (_named(int(bits[0]), register.values), None)
    number = _number_of(register)
    if register.kind.startswith("float"):
        return _float_of(register, number)
    if register.bit is not None:
        bit = register.bit
        return lambda words: (_named(number(words) >> bit & 1, register.values), None)
    if register.scale is None and register.offset is None:
        return lambda words: (_named(number(words), register.values), None)
    scaled = _scaling(register)
    return lambda words: (_json_number(scaled(Decimal(number(words)))), None)


def _number_of(register: Register) -> Callable[[Sequence[int]], Any]:
    """How registers are one number: the order of words and of the bytes in each."""
    unpack = struct.Struct(_FORMATS[register.kind]).unpack
    last_word_first = register.order in ("big_swapped", "little")
    pack = struct.Struct(("<" if register.order in ("little", "little_swapped") else ">") + "H" * WORDS[register.kind])

    def number(words: Sequence[int]) -> Any:
        return unpack(pack.pack(*(reversed(words) if last_word_first else words)))[0]

    return number


def _float_of(register: Register, number: Callable[[Sequence[int]], float]) -> Convert:
    """How registers are a float: null where it is no number."""
    shortest = _shortest_float32 if register.kind == "float32" else repr
    scaled = None if register.scale is None and register.offset is None else _scaling(register)

    def convert(words: Sequence[int]) -> tuple[Value, str | None]:
        value = number(words)
        if math.isfinite(value):
            text = shortest(value)
            value = float(scaled(Decimal(text)) if scaled else text)
        if math.isfinite(value):
            return value, None
        return None, "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    return convert


def _shortest_float32(value: float) -> str:
    """The fewest digits that stand for this float32: 23.1, where its double is 23.100000381469727."""
    for digits in (6, 7, 8):
        text = f"{value:.{digits}g}"
        if _as_float32(text) == value:
            return text
    return f"{value:.9g}"


def _as_float32(text: str) -> float | None:
    try:
        number: float = struct.unpack(">f", struct.pack(">f", float(text)))[0]
    except OverflowError:  # the text is rounded up, beyond the largest float32
        return None
    return number


def _scaling(register: Register) -> Callable[[Decimal], Decimal]:
    """How a number is scaled in decimal arithmetic, so that 231 at a scale of 0.1 is 23.1."""
    scale = Decimal(repr(1 if register.scale is None else register.scale))
    offset = Decimal(repr(register.offset or 0))
    return lambda number: _EXACT.fma(number, scale, offset)


def _json_number(number: Decimal) -> int | float:
    """A number for `exact.dumps`, with all of its digits."""
    text = f"{number:f}"
    if "." not in text:
        return int(text)
    nearest = float(text)
    return nearest if Decimal(repr(nearest)) == number else LongFloat(text)


def _named(number: int, values: Mapping[int, str]) -> int | str:
    """The text that stands for a number; a number without a text stays."""
    return values.get(number, number)
