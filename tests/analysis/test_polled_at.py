"""The times of a block of raw lines without decoding them: those of the decoded lines, or none."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.analysis.polled_at import polled_times
from etl.readings.blocks import block_decoder
from etl.readings.lines import position_at, raw_line
from etl.readings.times import FIRST_S, LAST_S

DAY_S, NOON = 86_400.0, 1_795_348_800.0
"""A day in seconds, and 2026-11-22T12:00:00Z."""
decode = block_decoder((), times=True)
LOOK_ALIKE = ',"_polled_at":"2001-01-01T00:00:00.000Z"}\n'

texts = st.sampled_from([LOOK_ALIKE, LOOK_ALIKE.strip(), "\\", '"']) | st.text(max_size=3)
values = st.none() | st.integers() | texts | st.dictionaries(st.just("_polled_at") | texts, texts, max_size=2)
readings = st.dictionaries(st.sampled_from(["id", "name", "z"]) | texts, values, max_size=3)
moments = st.floats(0, DAY_S - 0.001)
first_days = st.sampled_from([FIRST_S, -DAY_S, NOON - DAY_S / 2, LAST_S + 1 - DAY_S])


@settings(deadline=None)
@given(st.lists(st.tuples(readings, moments), min_size=1, max_size=9), first_days)
def test_the_times_are_those_of_the_decoded_lines(lines, start):
    """For all readings of one UTC day, of any year, whatever texts a machine sends."""
    block = b"".join(raw_line(reading, "source", start + moment) for reading, moment in lines)
    assert polled_times(block).tolist() == decode(block).times


damaged = [b"", b"{}", b'{"_source":"x"', LOOK_ALIKE.strip().encode(), LOOK_ALIKE.strip().encode()[5:], b"\xff" * 50]
lines = st.sampled_from(damaged) | st.builds(
    lambda reading, moment, position: raw_line(reading, "source", moment, position).strip(),
    readings,
    st.floats(NOON, NOON + 0.7 * DAY_S),
    st.sampled_from([None, None, position_at(b"", 0, 0)]),
)


@settings(deadline=None)
@given(st.lists(lines, max_size=6))
def test_times_of_intact_lines_are_right_beside_any_others(lines):
    """Where a block has damaged lines, positions or two dates, the intact lines have their time or there is none."""
    block = b"".join(line + b"\n" for line in lines)
    times, rows = polled_times(block), decode(block)
    if times is not None:
        assert len(times) == len(rows.sources)
        for source, expected, time in zip(rows.sources, rows.times, times.tolist(), strict=True):
            assert source is None or time == expected


@pytest.mark.parametrize(
    "end",
    [
        b'"_polled_at":"2026-11-22T12:00:00.000000Z"}',
        b'"_polled_at":"2026-11-22T12:00:00.000+01:00"}',
        b'"_polled_at":"2026-11-22T12:00:00.00Z" }',
        b'"_polled_at": "2026-11-22T12:00:00.000Z"}',
        orjson.dumps({"_polled_at": "2026-11-23T12:00:00.000Z"})[1:],
    ],
)
def test_a_block_with_another_form_or_date_has_no_times(end):
    """A log that something else has written is decoded line by line."""
    line = raw_line({"id": 1}, "source", NOON)
    assert polled_times(line * 2) is not None
    assert polled_times(line + b'{"_source":"source",' + end + b"\n") is None
