"""Numbers of any size and precision are written as they were read."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.readings import exact

LONG = [
    "18446744073709551616",
    "-9223372036854775809",
    "12345678901234567890123",
    "9" * 308,
    "9007199254740993.0",
    "12345678901234567.8",
    "0.1000000000000000055511151231257827",
    "1.00000000000000000001",
    "123456789012345678901234567890e-10",
    "1234567890123456E3",
    "1e-400",
    "-0.00000000000000000000",
]
SHORT = [
    "0",
    "-0.0",
    "1",
    "1.0",
    "1.5",
    "100000.0",
    "18446744073709551615",
    "-9223372036854775808",
    "0.30000000000000004",
]


@pytest.mark.parametrize("text", [*LONG, *SHORT])
def test_a_number_is_written_as_it_was_read(text):
    """Numbers that neither 64 bits nor a double hold keep their digits, wherever they stand."""
    body = b'{"a":%b,"b":["x",{"c":%b}],"d":null}' % ((text.encode(),) * 2)
    value = exact.loads(body)
    assert exact.dumps(value) == body
    assert value["a"] == json.loads(text)


def test_a_long_number_computes_like_any_other():
    """A long number compares and adds up as an int or a float, and jmespath takes it for one."""
    value = exact.loads(b"[12345678901234567890123, 12345678901234567.8, 1.5]")
    assert value == [12345678901234567890123, 12345678901234567.8, 1.5]
    assert [type(item).__name__ for item in value] == ["int", "float", "float"]
    assert [isinstance(value[0], int), isinstance(value[1], float)] == [True, True]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.booleans())
def test_every_value_survives(value, ascii_only):
    """Any JSON value is read and written without a change, however its text was escaped."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode(errors="replace")
    assert json.loads(exact.dumps(exact.loads(body))) == json.loads(body)


@pytest.mark.parametrize("body", [b"NaN", b"1e400", b"01234567890123456789", b'"\xff1234567890123456789"', b"9" * 400])
def test_what_is_not_json_is_refused(body):
    """What is refused without long numbers is refused with them; a number beyond doubles is no number."""
    with pytest.raises(orjson.JSONDecodeError):
        exact.loads(b'{"a": 12345678901234567890123, "b": ' + body + b"}")


def test_deep_nesting_is_refused_when_it_is_written():
    """A value nested deeper than can be written is read, and refused by the encoder."""
    body = b"[" * 1000 + b"12345678901234567890123" + b"]" * 1000
    with pytest.raises(orjson.JSONEncodeError):
        exact.dumps(exact.loads(body))
