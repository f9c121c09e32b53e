"""A day's columns: grouped by machine, stored, read back, and the figures of each."""

from __future__ import annotations

import errno
import gc
import os
import re
import tempfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.analysis.columns import OTHER_STATUS_CODE, collect, figures
from etl.analysis.values import analyze_values
from etl.nightly.column_store import ColumnStore
from etl.readings.records import Rows

sources = st.sampled_from(["a", "b", None])
keys = st.sampled_from([None, 1, 2, "1", 1.5])
numbers = st.none() | st.sampled_from([0.0, -0.0, 5e-324, 1e300, -1e300]) | st.floats(-1e300, 1e300)
lines = st.tuples(sources, keys, st.sampled_from([None, "x", ["y"]]), numbers, st.floats(0, 1e9), st.text(max_size=1))


def rows_of(block):
    """A block as the decoder returns it; damaged lines have no values."""
    block = [line if line[0] is not None else (None, None, None, None, 0.0, None) for line in block]
    at = [list(column) for column in zip(*block, strict=True)] or [[] for _ in range(6)]
    return Rows(at[0], at[1], at[2], [at[3]], at[4], at[5])


def day_of(parts):
    store = ColumnStore()
    for part in parts:
        store.add(collect(map(rows_of, part), 1))
    return store


def split(items, cuts):
    """The items split into pieces, some of them empty."""
    return [
        items[start:end] for start, end in pairwise([0, *sorted(cut % (len(items) + 1) for cut in cuts), len(items)])
    ]


@settings(deadline=None)
@given(st.lists(lines, max_size=40), st.lists(st.integers(0, 99), max_size=4), st.lists(st.integers(0, 99), max_size=2))
def test_columns_are_each_machines_lines_however_the_day_is_split(day, blocks, parts):
    """For all blocks and parts: machines in order of appearance, each with its lines in order."""
    store = day_of(split(split(day, blocks), parts))
    assert store.length == len(day)
    expected = {}
    for number, line in enumerate(day):
        if line[0] is not None:
            expected.setdefault((line[0], line[1]), []).append((number, line))
    assert store.machines == list(expected)
    for machine, its in expected.items():
        columns = store.columns(machine)
        assert columns.readings == len(its)
        assert columns.name == next((line[2] for _, line in reversed(its) if line[2] is not None), None)
        values = np.array([line[3] for _, line in its], float)
        assert columns.values[0].tobytes() == values.tobytes()
        assert columns.times.tolist() == [line[4] for _, line in its]
        texts = list(columns.statuses)
        assert [texts[code] for code in columns.codes] == [line[5] for _, line in its]
        rows = np.arange(len(its))[::2]
        assert store.lines(machine, rows).tolist() == [number for number, _ in its][::2]


def test_the_last_name_counts():
    """Readings without a name keep the name of an earlier one."""
    named = [("a", 1, name, 1.0, 0.0, "") for name in ("x", None, "y", None)]
    assert day_of([[[line]] for line in named]).columns(("a", 1)).name == "y"
    assert day_of([[named]]).columns(("a", 1)).name == "y"


def test_statuses_after_the_first_255_share_a_code():
    """A machine has codes for 255 statuses, however its day is split into parts."""
    day = [("a", 1, None, 1.0, 0.0, str(n % 300)) for n in range(600)]
    for cuts in ([], [100], [290, 310, 599]):
        columns = day_of([[part] for part in split(day, cuts)]).columns(("a", 1))
        assert list(columns.statuses) == [str(n) for n in range(OTHER_STATUS_CODE)]
        assert columns.codes.tolist() == [min(n % 300, OTHER_STATUS_CODE) for n in range(600)]


def test_columns_without_times_and_statuses():
    """Times and codes are empty if the day was read without them."""
    store = ColumnStore()
    store.add(collect([Rows(["a"], [1], [None], [[2.0]])], 1))
    columns = store.columns(("a", 1))
    assert (len(columns.times), len(columns.codes), columns.values[0].tolist()) == (0, 0, [2.0])


def nameless():
    """The number of files without a name that this process has open."""
    at = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum("(deleted)" in os.readlink(path) for path in at if os.path.lexists(path))


def test_the_file_is_closed_with_its_store(monkeypatch, tmp_path):
    """The directory for temporary files stays empty, and no descriptor stays open."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = nameless()
    store = day_of([[[("a", 1, None, 1.0, 0.0, "x")]]])
    assert nameless() == before + 1
    assert list(tmp_path.iterdir()) == []
    del store
    gc.collect()
    assert nameless() == before


def test_a_full_disk_is_named_by_its_directory(monkeypatch, tmp_path):
    """The error names the directory for temporary files, which may be on another disk than the output folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = ColumnStore()
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(store, "_file", full)
        with pytest.raises(OSError, match=re.escape(str(tmp_path))) as raised:
            store.add(collect([Rows(["a"], [1], [None], [[2.0]])], 1))
    assert raised.value.errno == errno.ENOSPC


@settings(deadline=None)
@given(
    st.lists(numbers, max_size=30) | st.lists(st.sampled_from([10.0, 12.0, 8.0, 0.0, -0.0]), max_size=9),
    st.sampled_from([0.2, 0.0, 1e-9, 3.0]),
)
def test_figures_are_those_of_analyze_values_to_the_last_bit(values, threshold):
    """Readings without a number are skipped; anomalies are identified by their rows."""
    result = figures(np.array(values, float), threshold)
    expected = analyze_values([(row, value) for row, value in enumerate(values) if value is not None], threshold)
    anomalies = zip(result.rows.tolist(), result.values.tolist(), result.deviations.tolist(), strict=True)
    assert repr(expected) == repr(
        {
            "average": result.average,
            "max": result.highest,
            "min": result.lowest,
            "anomalies": [{"timestamp": row, "value": value, "deviation": far} for row, value, far in anomalies],
        }
    )
