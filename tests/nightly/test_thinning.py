"""Thinning a day's series for its chart: what is kept, and where the series is split."""

from __future__ import annotations

from itertools import pairwise
from math import isfinite, nan

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.nightly.thinning import BUCKETS, thin
from etl.pages.charts import split_at_gaps
from tests.support.reports import midnight

START, END = midnight("2026-11-22"), midnight("2026-11-23")

readings = st.lists(
    st.tuples(st.integers(0, 86_399), st.floats(-1e300, 1e300) | st.just(nan)), min_size=1, max_size=2000
)
intervals = st.sampled_from([1.0, 10.0, 1000.0])


def segments_of(offsets, values, interval):
    """The thinned segments of readings at these seconds of the day."""
    return thin(START + np.array(offsets, float), np.array(values, float), START, END, interval)


@settings(max_examples=60, deadline=None)
@given(readings, intervals)
def test_thinning_keeps_the_extremes_and_the_gaps(data, interval):
    """Every bucket keeps its lowest and highest reading, no reading is invented, and no segment spans a gap."""
    segments = segments_of(*zip(*data, strict=True), interval)
    all_points = sorted((START + offset, value) for offset, value in data if isfinite(value))
    kept = sorted(point for segment in segments for point in segment)
    assert set(kept) <= set(all_points)
    assert len(kept) <= 2 * BUCKETS + 4 * len(segments)

    def bucket(point):
        return int((point[0] - START) / (END - START) * BUCKETS)

    for number in {bucket(point) for point in all_points}:
        before = [value for time, value in all_points if bucket((time, value)) == number]
        after = [value for time, value in kept if bucket((time, value)) == number]
        assert (min(after), max(after)) == (min(before), max(before))
    gaps = [(a, b) for (a, _), (b, _) in pairwise(all_points) if b - a > 3 * interval]
    assert len(segments) == len(gaps) + bool(all_points)
    for segment in segments:
        assert not any(segment[0][0] <= a and b <= segment[-1][0] for a, b in gaps)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, BUCKETS - 1), st.floats(-9, 9) | st.just(nan)), unique_by=lambda r: r[0]))
def test_a_series_with_one_reading_in_a_bucket_is_not_thinned(data):
    """Where nothing is to be thinned, numpy gives the segments that plain Python splits a short series into."""
    offsets = [300 * place + 150 for place, _ in data]
    values = [value for _, value in data]
    expected = split_at_gaps([START + offset for offset in offsets], values, 300)
    assert segments_of(offsets, values, 300) == expected


def test_a_long_day_keeps_its_one_peak():
    """Of 864,000 readings the one that stands out is kept, and few others."""
    values = np.full(864_000, 50.0)
    values[500_000] = 99.0
    (segment,) = segments_of(np.arange(864_000) / 10, values, 0.1)
    assert [point for point in segment if point[1] == 99.0] == [(START + 50_000, 99.0)]
    assert len(segment) <= 2 * BUCKETS
