"""`etl export`: lines of the folder as CSV and Parquet, with the values they have."""

from __future__ import annotations

import json
import math
import re
import sys

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl.audit.export.csv_text import FORMULA_STARTS
from etl.readings.exact import loads
from etl.readings.lines import raw_line
from tests.support.exports import DAY, averages_line, export, leftovers, make_site, parquet, table, write_day
from tests.support.folders import MIDNIGHT


@pytest.fixture
def site(tmp_path):
    """A folder with a config, and its output folder."""
    return make_site(tmp_path)


def test_averages_are_exported_with_their_keys(site):
    """The header has the keys of the lines, a null is an empty cell, and rows end with CR and LF."""
    write_day(site, "averages", averages_line(), averages_line(average_speed=900.5, id="7"))
    done = export(site)
    assert (site.root.parent / "out.csv").read_bytes() == (
        b"timestamp,source,id,average_temperature,average_speed,status,readings,polled_at\r\n"
        b"2026-11-23T10:00:00.000+00:00,m,1,20.25,,IDLE,5,2026-11-23T10:00:00.012Z\r\n"
        b"2026-11-23T10:00:00.000+00:00,m,7,20.25,900.5,IDLE,5,2026-11-23T10:00:00.012Z\r\n"
    )
    assert done.stdout == "2 lines of 1 day, 0 damaged lines: out.csv\n"


def test_columns_of_changed_parameters_stand_together(past):
    """Where `parameters` change within the days, the averages of all of them are columns."""
    folder = past().folder
    days = folder.days("averages")
    header, *rows = table(folder, days=f"{days[0]}..{days[-1]}")
    lines = [orjson.loads(line) for day in days for _, line in folder.lines("averages", day)]
    assert {key for line in lines for key in line} == {*header}
    assert header[-3:] == ["status", "readings", "polled_at"]
    assert [
        {key: value for key, value in zip(header, row, strict=True) if value} for row in rows
    ] == [{key: str(value) for key, value in line.items() if value is not None} for line in lines]  # fmt: skip


def test_raw_lines_with_different_keys_share_a_table(site):
    """The columns of raw lines are the keys of all of them, in the order in which they appear."""
    first = raw_line({"id": 1, "a": 1}, "m", MIDNIGHT)
    write_day(site, "raw", first, raw_line({"b": [1, "x"], "a": None}, "n", MIDNIGHT))
    assert table(site, "--kind", "raw") == [
        ["id", "a", "_source", "_polled_at", "b"],
        ["1", "1", "m", "2026-11-23T00:00:00.000Z", ""],
        ["", "", "n", "2026-11-23T00:00:00.000Z", '[1,"x"]'],
    ]


def test_alarms_are_exported(plant):
    """The lines of the alarms log have optional keys; they are columns like the others."""
    here = plant(alarms=[{"name": "busy", "parameter": "speed", "above": 0}])
    here.tick(4)
    here.pipeline.writer.finish()
    here.close()
    (day,) = here.folder.days("alarms")
    header, *rows = table(here.folder, "--kind", "alarms", days=day)
    lines = [orjson.loads(line) for _, line in here.folder.lines("alarms", day)]
    assert len(rows) == len(lines) > 0
    assert header[:6] == ["at", "alarm", "state", "source", "id", "parameter"]
    assert [row[header.index("value")] for row in rows] == [repr(line["value"]) for line in lines]
    schema = parquet(here.folder, "--kind", "alarms", days=day).schema_arrow
    types = dict(zip(schema.names, map(str, schema.types), strict=True))
    assert (types["at"], types["value"], types["id"]) == ("timestamp[ms, tz=UTC]", "double", "string")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "\uff1d1", "-", '="a",b'])
def test_a_text_is_no_formula(site, text):
    """A text that a spreadsheet would run begins with an apostrophe, also as a key; a negative number does not."""
    write_day(site, "raw", raw_line({text: text, "id": text, "n": -1.5, "i": -1, "l": [-1]}, "m", MIDNIGHT))
    header, row = table(site, "--kind", "raw")
    assert header[0] == row[0] == row[1] == f"'{text}"
    assert row[2:5] == ["-1.5", "-1", "[-1]"]


def test_a_comma_as_decimal_sign(site):
    """With --decimal , floats have a comma and cells are separated by semicolons; JSON in a cell stays JSON."""
    write_day(
        site,
        "raw",
        raw_line({"a": 1.5, "b": "x;y", "c": [1.5], "d": 1e-7}, "m", MIDNIGHT),
        raw_line({"d": "1.5"}, "m", MIDNIGHT),
    )
    first, second = table(site, "--kind", "raw", "--decimal", ",")[1:]
    assert first[:4] == ["1,5", "x;y", "[1.5]", "1e-07"]
    assert second[3] == "1.5"


NUMBERS = [
    "12345678901234567890123", "-9007199254740993", "18446744073709551616", "9" * 5000, "1e999", "-1e-400", "0.1",
    "1e16", "1E+22", "-0.0", "1e-7", "123456789.12345678",
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_keep_their_digits(site, number):
    """Integers of any size are exact, floats have their repr, and what no double holds is as it was sent."""
    line = b'{"x":%b,"_source":"m","_polled_at":"2026-11-23T00:00:00.000Z"}\n' % number.encode()
    for others in ([], [raw_line({"x": "text"}, "m", MIDNIGHT)], [raw_line({"x": 1.5}, "m", MIDNIGHT)]):
        write_day(site, "raw", line, *others)
        is_kept = number.lstrip("-").isdigit() or math.isinf(float(number))
        expected = number if is_kept else repr(float(number))
        assert table(site, "--kind", "raw")[1][0] == expected


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["", "=1", "-2", "@", "a,b", 'a"b', "a;b", "a\r\nb", "\r", "null", "true", "7", '"7"', "[1]", "nan", "\0", "1e5"]
)
NUMBER = (
    st.integers(-(1 << 70), 1 << 70)
    | st.integers(-(1 << 53) - 2, (1 << 53) + 2)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, -1, 0.5, 1e16, 1e-5, 5e-324, 1.7976931348623157e308])
)
VALUES = (
    st.none()
    | st.booleans()
    | TEXTS
    | NUMBER
    | st.lists(TEXTS | NUMBER, max_size=2)
    | st.dictionaries(TEXTS, NUMBER, max_size=2)
)
COLUMN = st.sampled_from(
    [VALUES, NUMBER, TEXTS, st.booleans(), st.integers(-9, 9), st.floats(-9, 9), st.none() | NUMBER]
)


@st.composite
def raw_readings(draw):
    """Readings of several shapes: some columns hold values of one kind, others of any."""
    columns = draw(st.dictionaries(TEXTS.filter(lambda key: not key.startswith("_")), COLUMN, max_size=4))
    return [
        {key: draw(values) for key, values in columns.items() if draw(st.booleans())}
        for _ in range(draw(st.integers(1, 6)))
    ]


def shown(value) -> str:
    """A value as CSV has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}" if value[:1] in FORMULA_STARTS else value
    return (
        repr(value) if isinstance(value, (int, float)) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    )


@given(raw_readings())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([{"": "x"}, {"a": 1}, {"a": 1 << 60}, {"a": 0.5}])
@example([{"id": 7}, {"id": "7"}, {"id": 7.0}, {"id": '"7"'}, {"id": None}, {"id": "true"}, {"id": True}])
def test_what_is_read_back_is_what_was_sent(tmp_path_factory, readings):
    """Whatever machines send is found again in the CSV, and in Parquet with its type: nothing is lost or confused."""
    site = make_site(tmp_path_factory.mktemp("site"))
    lines = [
        raw_line(loads(json.dumps(reading).encode()), "m", MIDNIGHT + number) for number, reading in enumerate(readings)
    ]
    write_day(site, "raw", *lines)
    header, *rows = table(site, "--kind", "raw")
    keys = list(dict.fromkeys(key for line in lines for key in json.loads(line)))
    assert header == [shown(key) for key in keys]
    sent = [[json.loads(line).get(key) for key in keys] for line in lines]
    for row, values in zip(rows, sent, strict=True):
        assert [normal(cell) for cell in row] == [normal(shown(value)) for value in values]
    file = parquet(site, "--kind", "raw")
    read = file.read()
    assert file.num_row_groups == 1
    assert read.column_names == keys
    for number, key in enumerate(keys):
        column = read.column(number)
        values = [row[number] for row in sent]
        kinds = {type(value) for value in values} - {type(None)}
        if key == "_polled_at":
            assert [f"{value:%Y-%m-%dT%H:%M:%S}.000Z" for value in column.to_pylist()] == values
        elif str(column.type) in ("double", "int64", "bool"):
            assert kinds <= {int, float} or kinds == {bool}
            assert column.to_pylist() == values
        elif kinds <= {str} and key != "id":
            assert column.to_pylist() == values
        else:
            assert [as_value(cell) for cell in column.to_pylist()] == values


@given(raw_readings())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_pandas_and_duckdb_read_hostile_texts(tmp_path_factory, readings):
    """Both find the cells of the CSV as Python's reader does, and those of Parquet as pyarrow does."""
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    site = make_site(tmp_path_factory.mktemp("site"))
    write_day(site, "raw", *(raw_line(loads(json.dumps(reading).encode()), "m", MIDNIGHT) for reading in readings))
    rows = table(site, "--kind", "raw")[1:]
    path = site.root.parent / "out.csv"
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False, engine="python")
    assert frame.to_numpy().tolist() == rows
    options = "header = true, all_varchar = true, delim = ',', quote = '\"', escape = '\"', new_line = '\\r\\n'"
    found = duckdb.sql(f"select * from read_csv('{path}', {options})").fetchall()
    assert [[cell or "" for cell in row] for row in found] == rows
    read = parquet(site, "--kind", "raw").read()
    columns = [column.to_pylist() for column in read.columns if str(column.type) != "timestamp[ms, tz=UTC]"]
    query = f"select * exclude (_polled_at) from '{site.root.parent / 'out.parquet'}'"
    assert [list(row) for row in duckdb.sql(query).fetchall()] == [list(row) for row in zip(*columns, strict=True)]


def as_value(cell):
    """The value that a cell of a mixed column stands for: JSON where it is JSON, else a text."""
    if cell is None:
        return None
    return (
        json.loads(cell)
        if re.match(r'["\[{]|(true|false|-?[0-9.]+([eE][+-]?[0-9]+)?)\Z', cell) and is_json(cell)
        else cell
    )


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def normal(cell):
    """A cell, of nested JSON its value: the folder writes 1e16 where Python writes 1e+16."""
    return json.loads(cell) if cell[:1] in ("[", "{") and is_json(cell) else cell


def test_parquet_has_a_type_for_each_column(site):
    """Averages have the same types in every file; what a machine sends as it likes is text."""
    write_day(
        site, "averages", averages_line(), averages_line(id="1", timestamp=17, average_temperature=None, status=["x"])
    )
    read = parquet(site).read()
    assert list(map(str, read.schema.types)) == [
        "string", "string", "string", "double", "double", "string", "int64", "timestamp[ms, tz=UTC]"
    ]  # fmt: skip
    assert read.column("id").to_pylist() == ["1", '"1"']
    assert read.column("timestamp").to_pylist() == ["2026-11-23T10:00:00.000+00:00", "17"]
    assert read.column("status").to_pylist() == ["IDLE", '["x"]']
    assert read.column("average_temperature").to_pylist() == [20.25, None]


def test_pandas_and_duckdb_read_what_was_written(site):
    """Both give the values of the lines, from either file."""
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    lines = [averages_line(average_temperature=i / 7, average_speed=None if i % 3 else i * 1e-9) for i in range(500)]
    write_day(site, "averages", *lines)
    export(site)
    export(site, to="out.parquet")
    sent = [orjson.loads(line) for line in lines]
    for name in ("out.csv", "out.parquet"):
        path = site.root.parent / name
        # pandas' own parser rounds the last digit in versions before 3.
        frame = pandas.read_csv(path, engine="python") if name == "out.csv" else pandas.read_parquet(path)
        query = f"select average_temperature, average_speed, polled_at from '{path}'"
        rows = duckdb.sql(query).fetchall()
        for column, key in enumerate(("average_temperature", "average_speed")):
            values = [line[key] for line in sent]
            assert [None if math.isnan(value) else value for value in frame[key]] == values
            assert [row[column] for row in rows] == values


def test_a_row_group_is_a_day(site, monkeypatch):
    """A row group ends with its day; a day with more rows than fit into memory has several."""
    write_day(site, "averages", *[averages_line()] * 5)
    write_day(site, "averages", *[averages_line()] * 3000, day="2026-11-24")
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("etl.audit.export.parquet.MAX_GROUP_ROWS", 1000)
    file = parquet(site, days=f"{DAY}..2026-11-24")
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups[0] == 5
    assert len(groups) > 2
    assert sum(groups) == 3005


def test_parquet_without_pyarrow_says_what_to_install(site, monkeypatch):
    """The error names the extra, and no file is left."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "etl.audit.export.parquet", raising=False)
    write_day(site, "averages", averages_line())
    assert ".[parquet]" in export(site, to="out.parquet", code=73).stderr
    assert leftovers(site.root.parent) == []
