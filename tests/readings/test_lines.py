"""Bytes to records and back."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.readings.answers import parse
from etl.readings.averages import window as averages
from etl.readings.blocks import block_decoder
from etl.readings.lines import parse_settings, raw_decoder, raw_line, settings_line
from etl.readings.records import RejectedError, Settings, SettingsEntry
from etl.readings.times import rfc3339

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
objects = st.dictionaries(st.text(), json_values, max_size=6)


@given(objects, st.text(min_size=1), st.integers(0, 4_000_000_000_000))
def test_a_raw_line_reads_back_equal(reading, source, millis):
    """A raw line has the object that the machine sent, in order and unchanged, then source and time."""
    line = raw_line(reading, source, millis / 1000)
    sent = {key: value for key, value in reading.items() if not key.startswith("_")}
    written = orjson.loads(line)
    assert list(written.items())[: len(sent)] == list(sent.items()) or any(key.startswith("_") for key in reading)
    assert list(written)[-2:] == ["_source", "_polled_at"]
    assert line.count(b"\n") == 1
    decoded = raw_decoder(["temperature"])(line)
    assert (decoded.machine[0], decoded.polled_at) == (source, millis / 1000)
    assert decoded.values == [reading.get("temperature")]


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda b: b"{" + b + b"}"))
def test_any_bytes_are_a_reading_or_rejected(body):
    """Whatever bytes come, they are an object or rejected with a reason, never another error."""
    try:
        assert isinstance(parse(body), dict)
    except RejectedError as error:
        assert error.reason in {"empty", "not_json", "not_object"}
    try:
        raw_decoder(["t"])(body)
    except RejectedError as error:
        assert error.reason == "damaged"


KEYS = [b'"id":', b'"name":', b'"status":', b'"timestamp":', b'"t":', b'"x":']
VALUES = [
    b"1", b"1.5", b"1e999", b"9" * 5000, b"1e301", b"true", b"null", b'"a"',
    b'"\\ud800"', b'"\xff"', b"9" * 30, b"[" * 40 + b"]" * 40,
]  # fmt: skip
MOMENTS = [
    b'"2026-01-01T00:00:00Z"', b'"2026-01-01T00:00:00"', b'"0001-01-01T00:00:00+09:00"', b'"9999-12-31T23:59:59-09:00"',
]  # fmt: skip
DAMAGED = [lambda line: line[:-1], lambda line: line + line, lambda line: line + b" " + line, lambda _: b""]
BEHIND = [b",", b"}", b"\r", b"\0", b"{}", b" "]


@st.composite
def raw_lines(draw):
    """Lines of a raw log that was written by hand, or damaged; most are sound."""
    sent = draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=4))
    fields = b"".join(key + value + b"," for key, value in sent.items())
    odd = draw(st.integers(0, 15))
    line = b'{%s"_source":"m","_polled_at":%s}' % (fields, draw(st.sampled_from(MOMENTS)) if odd == 1 else MOMENTS[0])
    line = draw(st.sampled_from(DAMAGED))(line) if odd == 2 else line
    return b" " * (odd == 3) + line + (draw(st.sampled_from(BEHIND)) if odd == 4 else b"")


fields_asked = st.sampled_from([("t",), ("t", "status"), ("id",), ()])


@settings(max_examples=500, deadline=None)
@given(st.lists(raw_lines(), max_size=4), fields_asked, st.booleans(), st.booleans())
def test_a_block_reads_as_its_lines_do(lines, fields, times, statuses):
    """However a line is damaged, the day's analysis judges it as the averages do, and takes the same from it."""
    rows = block_decoder(fields, times, statuses)(b"".join(line + b"\n" for line in lines))
    decode = raw_decoder(fields)
    for number, line in enumerate(lines):
        try:
            reading = decode(line)
        except RejectedError:
            assert rows.sources[number] is None
            continue
        assert (rows.sources[number], rows.ids[number]) == reading.machine
        assert rows.names[number] == reading.name
        assert rows.times is None or rows.times[number] == reading.polled_at
        assert rows.statuses is None or (rows.statuses[number] is None) == (reading.status is None)
        assert [column[number] for column in rows.values] == list(map(averages.number, reading.values))
    assert (len(rows.sources), rows.times is None, rows.statuses is None) == (len(lines), not times, not statuses)


@pytest.mark.parametrize("number", [b"9" * 5000, b"1e999", b"-1E+999", b"[1, 1e999]"])
@pytest.mark.parametrize("key", ["timestamp", "status", "name", "id", "t"])
def test_a_number_that_python_cannot_hold_is_missing(key, number):
    """The rest of its line is read, by the averages and by the day's analysis, which may pass over that field."""
    sent = {"timestamp": b'"x"', "status": b'"IDLE"', "name": b'"n"', "id": b"1", "t": b"2.5"} | {key: number}
    fields = b",".join(b'"%s":%s' % (name.encode(), value) for name, value in sent.items())
    line = b'{%s,"_source":"m","_polled_at":"2026-01-01T00:00:00Z"}\n' % fields
    reading = raw_decoder(("t",))(line)
    read = {"timestamp": reading.timestamp, "status": reading.status, "name": reading.name, "id": reading.machine[1]}
    assert read | {"t": reading.values[0]} == {
        "timestamp": "x", "status": "IDLE", "name": "n", "id": 1, "t": 2.5, key: None,
    }  # fmt: skip
    assert block_decoder(("t",))(line).sources == ["m"]


@pytest.mark.parametrize("field", ["fields", "kinds", "source", "field_0", ""])
def test_a_parameter_may_average_a_field_of_any_name(field):
    """No name of ours is in the way."""
    line = raw_line({field: 1.5}, "m", 0.0)
    assert block_decoder((field,))(line).values == [[1.5]]
    assert raw_decoder((field,))(line).values == [1.5]


def test_moments_that_cannot_be_written_are_the_nearest_that_can():
    """With their offset, moments of the years 1 and 9999 may be in none that RFC 3339 has."""
    for at, written in ((MOMENTS[2], "0001-01-01T00:00:00.000Z"), (MOMENTS[3], "9999-12-31T23:59:59.000Z")):
        assert rfc3339(raw_decoder(())(b'{"_source":"m","_polled_at":%s}' % at).polled_at) == written


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"<html></html>", "not_json"),
        (b'{"a": 1', "not_json"),
        (b'\xef\xbb\xbf{"a": 1}', "not_json"),
        ('{"a": 1}'.encode("utf-16"), "not_json"),
        ('{"a": "\xe9"}'.encode("latin-1"), "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": 1e999}', "not_json"),
        (b"[1]", "not_object"),
        (b"null", "not_object"),
        (b'"text"', "not_object"),
        (b"true", "not_object"),
        (b"7", "not_object"),
    ],
)
def test_garbage_is_rejected_with_a_reason(body, reason):
    """Each kind of garbage has its code."""
    with pytest.raises(RejectedError) as caught:
        parse(body)
    assert caught.value.reason == reason


def test_a_reading_nested_too_deeply_to_be_written_is_rejected():
    """What can be read but not written is rejected, not an error."""
    with pytest.raises(RejectedError) as caught:
        raw_line(parse(b'{"a":' * 500 + b"1" + b"}" * 500), "m", 0.0)
    assert caught.value.reason == "too_deep"


def test_a_machine_that_sends_our_keys_is_not_believed():
    """A machine cannot pose as another one: our keys come last and are ours."""
    line = raw_line({"_source": "other", "a": 1, "_position": 5, "_polled_at": "x"}, "m", 0.0)
    assert line == b'{"a":1,"_source":"m","_polled_at":"1970-01-01T00:00:00.000Z"}\n'


def test_times_are_utc_to_the_millisecond():
    """A time is RFC 3339 in UTC with three digits, far ahead and before the epoch too."""
    assert rfc3339(1_795_341_600.0126) == "2026-11-22T10:00:00.013Z"
    assert rfc3339(2_147_483_648.5) == "2038-01-19T03:14:08.500Z"
    assert rfc3339(-0.5) == "1969-12-31T23:59:59.500Z"


def test_only_a_string_or_a_number_is_an_id():
    """The id of a machine is a string or a number; anything else is none."""
    decode = raw_decoder([])
    sent = [1, 2.5, "a", True, None, [1], {"x": 1}]
    assert [decode(raw_line({"id": key}, "m", 0.0)).machine[1] for key in sent] == [1, 2.5, "a", None, None, None, None]


def test_settings_read_back_equal():
    """An entry of settings.jsonl reads back as it was written; a damaged one is rejected."""
    entry = SettingsEntry("2026-11-22", 7, Settings(5, {"speed": "fan_speed"}, "Europe/Berlin", 10.0, 0.2))
    assert parse_settings(settings_line(entry)) == entry
    for damaged in (b"{}", b"[]", b"nonsense", settings_line(entry)[:40], b'{"day":1,"line":"x"}'):
        with pytest.raises(RejectedError):
            parse_settings(damaged)


def test_a_line_holds_no_more_memory_than_its_bytes():
    """Ten thousand latest lines are kept, and a full disk lets 64 MiB of them wait: what a line holds counts."""
    tracemalloc.start()
    try:
        lines = [raw_line({"id": 1, "temperature": 20.5}, "a", 0.0) for _ in range(1000)]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(lines) < len(lines[0]) + 100
