"""Values of OPC UA nodes as JSON: 32-bit numbers, names of status codes, times."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("asyncua")

from asyncua import ua

from etl.config.sources.opcua import Node
from etl.readings import exact
from etl.sources.opcua.values import as_json, reading, status_name

EARLY, LATE = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_of_32_bits_stays_the_same_number(value):
    """What is written gives the same 32-bit number, with no more significant digits than the 64-bit one has."""
    written = as_json(ua.Variant(value, ua.VariantType.Float))
    assert struct.pack("<f", written) == struct.pack("<f", value)
    assert significant_digits(written) <= significant_digits(value)


def significant_digits(value):
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (ua.StatusCodes.BadSensorFailure, "BadSensorFailure"),
        (ua.StatusCodes.BadSensorFailure | 0x0100, "BadSensorFailure"),
        (ua.StatusCodes.UncertainSensorNotAccurate | 0x0480, "UncertainSensorNotAccurate"),
        (0x8FFF0000, "Bad0x8FFF0000"),
    ],
    ids=["plain", "with limit bits", "uncertain, with overflow", "of the vendor"],
)
def test_a_status_has_its_name(code, name):
    """Bits that only add information do not hide the name; a code without a name is its number."""
    assert status_name(code) == name


def test_the_timestamp_is_the_newest_source_time_else_that_of_the_server():
    """The time of a node counts before any time of the server."""
    nodes = {"a": Node(node="i=1"), "b": Node(node="i=2"), "c": Node(node="i=3")}
    value = ua.Variant(1)
    late = ua.DataValue(value, SourceTimestamp=LATE, ServerTimestamp=LATE)
    early = ua.DataValue(value, SourceTimestamp=EARLY)
    without = ua.DataValue(value, ServerTimestamp=LATE)
    assert reading(nodes, [early, late, without])["timestamp"] == "2026-03-02T00:00:00Z"
    assert reading(nodes, [early, early, without])["timestamp"] == "2026-03-01T00:00:00Z"
    assert reading(nodes, [without] * 3)["timestamp"] == "2026-03-02T00:00:00Z"
    assert "timestamp" not in reading(nodes, [ua.DataValue(value)] * 3)


def test_a_structure_of_the_server_alone_is_null_with_a_quality():
    """The bytes of a structure that nobody described are not written as a value."""
    unknown = ua.DataValue(ua.Variant(ua.ExtensionObject(ua.NodeId(7, 2), b"\x01"), ua.VariantType.ExtensionObject))
    expected = {"a": None, "_quality": {"a": "UnknownStructure"}}
    assert reading({"a": Node(node="i=1")}, [unknown]) == expected


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_integers_of_64_bits_are_written_exactly(number):
    """No integer that a node can have is rounded."""
    assert exact.dumps(as_json(ua.Variant(number))) == str(number).encode()
