"""Modbus registers: which are read together, and the numbers that they make."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from fractions import Fraction

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.config.sources.modbus import WORDS, Register
from etl.sources.modbus.registers import MAX_WORDS, blocks_of, body_of, fields_of

FORMATS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "float64": "d"}
LIMITS = {
    "int16": (-(1 << 15), (1 << 15) - 1),
    "uint16": (0, (1 << 16) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "uint32": (0, (1 << 32) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint64": (0, (1 << 64) - 1),
}
INTEGERS = st.sampled_from(sorted(LIMITS)).flatmap(lambda kind: st.tuples(st.just(kind), st.integers(*LIMITS[kind])))


def register(**keys) -> Register:
    return msgspec.convert(keys, Register, str_keys=True)


def body(words, **keys) -> bytes:
    """The reading of one field `x` with these registers."""
    fields = fields_of({"x": register(holding=0, **keys)})
    return body_of(fields, {"x": words})


def value(words, **keys):
    return orjson.loads(body(words, **keys))["x"]


def words_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data)


@pytest.mark.parametrize(
    ("order", "data"),
    [("big", b"ABCD"), ("big_swapped", b"CDAB"), ("little_swapped", b"BADC"), ("little", b"DCBA"), (None, b"ABCD")],
)
def test_orders_are_those_of_manuals(order, data):
    """ABCD, CDAB, BADC and DCBA are the same number in the four orders."""
    expected = int.from_bytes(b"ABCD", "big")
    assert value(words_of(data), type="uint32", **({"order": order} if order else {})) == expected


@given(INTEGERS, st.sampled_from(["big", "big_swapped", "little_swapped", "little"]))
def test_integers_are_exact(typed, order):
    """Every integer of every type is the number that was encoded, in every order."""
    kind, number = typed
    data = struct.pack(">" + FORMATS[kind], number)
    words = [data[i : i + 2] for i in range(0, len(data), 2)]
    if order in ("big_swapped", "little"):
        words.reverse()
    if order in ("little", "little_swapped"):
        words = [word[::-1] for word in words]
    assert value(words_of(b"".join(words)), type=kind, order=order) == number


@given(INTEGERS, st.integers(-6, 6), st.integers(1, 999), st.integers(-99_999, 99_999))
def test_scaled_integers_are_exact(typed, exponent, digits, offset):
    """A scaled integer has the digits of decimal arithmetic, also where no double has them."""
    kind, number = typed
    scale, shift = float(f"{digits}e{exponent}"), offset / 100
    text = body(words_of(struct.pack(">" + FORMATS[kind], number)), type=kind, scale=scale, offset=shift)
    expected = number * Fraction(repr(scale)) + Fraction(repr(shift))
    assert Fraction(Decimal(text[5:-1].decode())) == expected


def test_a_scaled_number_looks_decimal():
    """231 at a scale of 0.1 is 23.1; at an integer scale numbers stay whole."""
    assert body([231], scale=0.1) == b'{"x":23.1}'
    assert body([65535], type="int16", scale=0.01, offset=-40) == b'{"x":-40.01}'
    assert body([231], scale=10) == b'{"x":2310}'
    assert body(words_of(struct.pack(">q", (1 << 63) - 1)), type="int64", scale=0.001) == b'{"x":9223372036854775.807}'


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_is_the_shortest_number_that_stands_for_it(number):
    """The number is the same float32, and 23.1 is not 23.100000381469727."""
    words = words_of(struct.pack(">f", number))
    assert struct.pack(">f", value(words, type="float32")) == struct.pack(">f", number)
    assert body(words_of(struct.pack(">f", 23.1)), type="float32") == b'{"x":23.1}'


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float64_is_exact(number):
    """The number is the double that was encoded."""
    assert value(words_of(struct.pack(">d", number)), type="float64") == number


@pytest.mark.parametrize(
    ("number", "quality"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (3e38, "Infinity")]
)
def test_a_float_that_is_no_number_is_null(number, quality):
    """The field is null and `_quality` says what the device sent, or that the scale exceeds every number."""
    scale = {"scale": 1e300} if math.isfinite(number) else {}
    expected = b'{"x":null,"_quality":{"x":"%s"}}' % quality.encode()
    assert body(words_of(struct.pack(">f", number)), type="float32", **scale) == expected


def test_numbers_have_texts():
    """A number with a text is that text, any other stays a number; a bit of a register is 0 or 1."""
    values = {"0": "IDLE", 1: "STARTED"}
    assert [value([n], values=values) for n in (0, 1, 2)] == ["IDLE", "STARTED", 2]
    assert [value([0b100000], bit=bit) for bit in (4, 5)] == [0, 1]
    assert value([1], bit=0, values={1: "OPEN"}) == "OPEN"
    assert [value([word], bit=8, order="little") for word in (1, 256)] == [1, 0]


def blocks(**registers):
    return [
        (block.table, block.address, block.size)
        for block in blocks_of(fields_of({name: register(**keys) for name, keys in registers.items()}))
    ]


def test_neighbours_are_read_together():
    """Registers that touch or overlap are one request; a gap, which the device may refuse, begins another."""
    assert blocks(
        a={"holding": 10, "type": "float32"},
        b={"holding": 12},
        status={"holding": 12, "bit": 3},
        c={"holding": 14},
        d={"input": 13},
        e={"coil": 0},
        f={"coil": 1},
    ) == [("holding", 10, 3), ("holding", 14, 1), ("input", 13, 1), ("coil", 0, 2)]


@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(sorted(WORDS.keys() - {"bit"}))), min_size=1))
def test_each_register_is_read_whole_and_no_other(places):
    """Each field is inside of one request of at most 125 registers, and requests read no address that nobody named."""
    registers = {str(i): register(holding=address, type=kind) for i, (address, kind) in enumerate(places)}
    fields = fields_of(registers)
    found = blocks_of(fields)
    assert sorted(field.name for block in found for field in block.fields) == sorted(registers)
    for block in found:
        assert block.size <= MAX_WORDS
        covered = set()
        for field in block.fields:
            assert block.address <= field.address
            assert field.address + field.size <= block.address + block.size
            covered |= {*range(field.address, field.address + field.size)}
        assert covered == {*range(block.address, block.address + block.size)}


def test_a_long_row_of_registers_is_split():
    """300 registers in a row are three requests."""
    assert [size for _, _, size in blocks(**{f"r{i}": {"holding": i} for i in range(300)})] == [125, 125, 50]
    assert [size for _, _, size in blocks(**{f"r{i}": {"coil": i} for i in range(2100)})] == [2000, 100]
