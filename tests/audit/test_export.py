"""`etl export`: lines of the folder as CSV and Parquet, with the values they have."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
from contextlib import suppress

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from etl.audit.export.columns import MAX_COLUMNS
from etl.audit.export.csv_text import FORMULA_STARTS
from etl.audit.export.rows import stored_blocks
from etl.audit.export.target import written_aside
from etl.readings.exact import loads
from etl.readings.lines import raw_line
from etl.storage.folder import Folder
from tests.support.commands import etl
from tests.support.folders import MIDNIGHT
from tests.support.process import until

DAY = "2026-11-23"
CONFIG = "timezone: UTC\nsources: [{name: m, file: m.json}]\n"


@pytest.fixture
def site(tmp_path):
    """A folder with a config, and its output folder."""
    return make_site(tmp_path)


def make_site(root):
    (root / "config.yaml").write_text(CONFIG)
    folder = Folder(root / "output")
    for kind in ("raw", "averages", "alarms"):
        (root / "output" / kind).mkdir(parents=True)
    return folder


def averages_line(**changes) -> bytes:
    line = {
        "timestamp": "2026-11-23T10:00:00.000+00:00", "source": "m", "id": 1, "average_temperature": 20.25,
        "average_speed": None, "status": "IDLE", "readings": 5, "polled_at": "2026-11-23T10:00:00.012Z",
    }  # fmt: skip
    return orjson.dumps({**line, **changes}) + b"\n"


def write(folder, kind, *lines, day=DAY):
    folder.path(kind, day).write_bytes(b"".join(lines))


def export(folder, *arguments, days=DAY, to="out.csv", code=0):
    """Run the command in the site of a folder; what it did."""
    done = etl(folder.root.parent, "export", days, "--to", to, *arguments)
    assert done.returncode == code, done.stderr
    return done


def table(folder, *arguments, **options):
    """Export as CSV; the rows as a CSV reader has them."""
    export(folder, *arguments, "--force", **options)
    text = (folder.root.parent / "out.csv").read_bytes().decode()
    return list(
        csv.reader(io.StringIO(text, newline=""), delimiter=";" if "--decimal" in arguments else ",", strict=True)
    )


def parquet(folder, *arguments, **options):
    """Export as Parquet; the file read by pyarrow."""
    pq = pytest.importorskip("pyarrow.parquet")
    export(folder, *arguments, "--force", to="out.parquet", **options)
    return pq.ParquetFile(folder.root.parent / "out.parquet")


def leftovers(root):
    return [name for name in os.listdir(root) if name not in ("config.yaml", "output")]


def test_averages_are_exported_with_their_keys(site):
    """The header has the keys of the lines, a null is an empty cell, and rows end with CR and LF."""
    write(site, "averages", averages_line(), averages_line(average_speed=900.5, id="7"))
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
    write(site, "raw", raw_line({"id": 1, "a": 1}, "m", MIDNIGHT), raw_line({"b": [1, "x"], "a": None}, "n", MIDNIGHT))
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
    write(site, "raw", raw_line({text: text, "id": text, "n": -1.5, "i": -1, "l": [-1]}, "m", MIDNIGHT))
    header, row = table(site, "--kind", "raw")
    assert header[0] == row[0] == row[1] == f"'{text}"
    assert row[2:5] == ["-1.5", "-1", "[-1]"]


def test_a_comma_as_decimal_sign(site):
    """With --decimal , floats have a comma and cells are separated by semicolons; JSON in a cell stays JSON."""
    write(
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
        write(site, "raw", line, *others)
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
    write(site, "raw", *lines)
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
    write(site, "raw", *(raw_line(loads(json.dumps(reading).encode()), "m", MIDNIGHT) for reading in readings))
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
    write(
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
    write(site, "averages", *lines)
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
    write(site, "averages", *[averages_line()] * 5)
    write(site, "averages", *[averages_line()] * 3000, day="2026-11-24")
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
    write(site, "averages", averages_line())
    assert ".[parquet]" in export(site, to="out.parquet", code=73).stderr
    assert leftovers(site.root.parent) == []


def test_days_without_a_log_are_skipped(site):
    """Days from the first to the last are exported, compressed ones too; those without a log are named."""
    for day in ("2026-11-20", DAY, "2026-11-25"):
        write(site, "averages", averages_line(status=day), day=day)
    path = site.path("averages", DAY)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    done = export(site, days="2026-11-19..2026-11-24")
    assert "no averages of 2026-11-19, 2026-11-21 to 2026-11-22, 2026-11-24" in done.stderr
    assert [row[5] for row in table(site, days="2026-11-19..2026-11-24")[1:]] == ["2026-11-20", DAY]
    assert (
        "has no averages of 2027-01-01 to 2027-01-02"
        in export(site, days="2027-01-01..2027-01-02", to="x.csv", code=1).stderr
    )
    assert leftovers(site.root.parent) == ["out.csv"]


@pytest.mark.parametrize(
    "days", ["2026-11-31", "today", "20261123", "2026-11-23..", "..2026-11-23", "2026-11-24..2026-11-23", "2026-W47-1",
             "2026-11-23..2026-11-24..2026-11-25", "2026-11-23...2026-11-24"]
)  # fmt: skip
def test_a_bad_day_is_a_usage_error(site, days):
    """Only days as they name the files, the earlier one first, are accepted."""
    write(site, "averages", averages_line())
    assert f"'{days}'" in export(site, days=days, code=2).stderr


def test_all_days_there_can_be_are_accepted(site):
    """A range may span the whole calendar."""
    write(site, "averages", averages_line())
    assert "0001-01-01 to 2026-11-22, 2026-11-24 to 9999-12-31" in export(site, days="0001-01-01..9999-12-31").stderr


@pytest.mark.parametrize("kind", ["averages", "raw"])
@pytest.mark.parametrize("to", ["out.csv", "out.parquet"])
def test_damaged_lines_are_left_out_and_named(site, kind, to):
    """The others are exported; the exit code is 1. A torn last line is not complete yet, and no damage."""
    sound = averages_line() if kind == "averages" else raw_line({"a": 1}, "m", MIDNIGHT)
    time_key = b'polled_at":"2026'
    damaged = [
        b"{}\n",
        b"nonsense\n",
        b"\n",
        sound.replace(b"m", b"\xff", 1),
        sound.replace(time_key, time_key[:-4] + b"x"),
    ]
    write(site, kind, sound, *damaged, sound, sound[:-9])
    done = export(site, "--kind", kind, to=to, code=1)
    assert "2 lines of 1 day, 5 damaged lines" in done.stdout
    found = re.findall(rf"{kind}/{DAY}.jsonl:(\d+): left out", done.stderr)
    assert found == ["2", "3", "4", "5", "6"]


def test_many_damaged_lines_are_counted(site):
    """Twenty are listed, the others counted."""
    write(site, "averages", averages_line(), *[b"x\n"] * 25)
    done = export(site, code=1)
    assert done.stderr.count("left out") == 20
    assert "and 5 more damaged lines" in done.stderr


def test_averages_with_other_keys_are_not_lost_silently(site):
    """A line with a parameter that settings.jsonl does not have is damaged, as `etl verify` says too."""
    write(site, "averages", averages_line(), averages_line(average_heat=1.0))
    assert "average_heat" in export(site, code=1).stderr


def test_a_damaged_compressed_file_is_an_error(site):
    """The error names the file, and nothing is left of the export."""
    data = gzip.compress(averages_line() * 1000)
    site.packed_path("averages", DAY).write_bytes(data[:-20])
    assert f"{DAY}.jsonl.gz: the file is damaged" in export(site, code=74).stderr
    assert leftovers(site.root.parent) == []


def test_more_keys_than_columns_are_an_error(site):
    """A machine that invents keys does not fill the memory."""
    keys = ({f"k{number * 1000 + i}": 1 for i in range(1000)} for number in range(MAX_COLUMNS // 1000 + 1))
    write(site, "raw", *(raw_line(reading, "m", MIDNIGHT) for reading in keys))
    assert "more than 10,000 different keys" in export(site, "--kind", "raw", code=1).stderr


def test_a_file_is_not_replaced_without_force(site):
    """An existing file is left alone; with --force it is replaced."""
    write(site, "averages", averages_line())
    (site.root.parent / "out.csv").write_text("mine")
    assert "--force" in export(site, code=73).stderr
    assert (site.root.parent / "out.csv").read_text() == "mine"
    export(site, "--force")
    assert (site.root.parent / "out.csv").read_bytes().startswith(b"timestamp,")


@pytest.mark.parametrize(
    ("to", "code", "problem"),
    [("output/out.csv", 73, "in the output folder"), ("link/out.csv", 73, "in the output folder"),
     ("folder.csv", 73, "a folder"), ("fifo.csv", 73, "a FIFO"), ("away.csv", 73, "a symbolic link"),
     ("missing/out.csv", 73, "missing is not a folder"), ("config.yaml/out.csv", 73, "config.yaml is not a folder"),
     ("out.xlsx", 2, "neither with .csv nor with .parquet"), ("out", 2, "neither"),
     ("x" * 252 + ".csv", 74, "File name too long")],
)  # fmt: skip
def test_a_place_that_cannot_be_written_is_an_error(site, to, code, problem):
    """The error names the path and what is wrong, and nothing is written or replaced."""
    root = site.root.parent
    write(site, "averages", averages_line())
    (root / "folder.csv").mkdir()
    os.mkfifo(root / "fifo.csv")
    (root / "link").symlink_to("output/averages")
    (root / "away.csv").symlink_to("config.yaml")
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    stderr = export(site, "--force", to=to, code=code).stderr
    assert problem in stderr
    assert stderr.count("\n") <= 3
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


def test_parquet_has_no_decimal_sign(site):
    """--decimal with Parquet is a usage error."""
    write(site, "averages", averages_line())
    assert "--decimal" in export(site, "--decimal", ",", to="out.parquet", code=2).stderr


def run(folder, *arguments, **options):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "etl", "export", DAY, *arguments]
    return subprocess.run(command, cwd=folder.root.parent, capture_output=True, text=True, **options)


def limit_files():
    """Let no file of this process grow beyond 8 KiB, which is an error like that of a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, 1 << 13))


@pytest.mark.parametrize("to", ["out.csv", "out.parquet"])
def test_a_full_disk_leaves_nothing(site, to):
    """The error names the file, and the file that was there remains."""
    write(site, "averages", *(averages_line(average_temperature=i / 7, timestamp=f"{i}") for i in range(9000)))
    (site.root.parent / to).write_text("mine")
    done = run(site, "--to", to, "--force", preexec_fn=limit_files)
    assert (done.returncode, done.stdout) == (74, "")
    assert f"{to}: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert leftovers(site.root.parent) == [to]
    assert (site.root.parent / to).read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to", ["out.csv", "out.parquet"])
def test_an_interrupted_export_leaves_nothing(site, to, number):
    """Ctrl-C, and what ends a process otherwise, deletes what was written so far; the exit code is 130."""
    site.packed_path("averages", DAY).write_bytes(gzip.compress(averages_line() * 500_000, 1))
    root = site.root.parent
    command = [sys.executable, "-m", "etl", "export", DAY, "--to", to]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: any(name.endswith(".tmp") for name in os.listdir(root)))
        process.send_signal(number)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert "Interrupted" in stderr
    assert "Traceback" not in stderr
    assert leftovers(root) == []


def test_stdout_gets_csv_and_nothing_else(site):
    """With --to - the table goes to stdout and the summary to stderr; a full disk behind it is an error."""
    write(site, "averages", averages_line())
    done = run(site, "--to", "-")
    export(site)
    assert done.stdout.encode() == (site.root.parent / "out.csv").read_bytes().replace(b"\r\n", b"\n")
    assert done.stderr == "1 line of 1 day, 0 damaged lines: stdout\n"
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "etl", "export", DAY, "--to", "-"]
        failed = subprocess.run(command, cwd=site.root.parent, stdout=full, stderr=subprocess.PIPE, text=True)
    assert failed.returncode == 74
    assert failed.stderr.startswith("stdout: No space left on device")


def test_a_line_that_is_being_written_is_no_damage(site):
    """A running process may write the rest of the last line at any moment."""
    write(site, "averages", averages_line(), averages_line()[:50])
    blocks = stored_blocks(site, "averages", DAY)
    read = next(blocks)
    with site.path("averages", DAY).open("ab") as file:
        file.write(averages_line()[50:] + averages_line())
    assert read + b"".join(blocks) == averages_line()


def test_lines_appended_meanwhile_are_left_out(site, monkeypatch):
    """A line with a new key that a running process appends after the keys were read is no damage."""
    write(site, "raw", raw_line({"a": 1}, "m", MIDNIGHT))

    def appending(folder, kind, day, end=None):
        yield from stored_blocks(folder, kind, day, end)
        with folder.path(kind, day).open("ab") as file:
            file.write(raw_line({"b": 1}, "m", MIDNIGHT))

    monkeypatch.setattr("etl.audit.export.table.stored_blocks", appending)
    assert [row[0] for row in table(site, "--kind", "raw")] == ["a", "1"]


def test_memory_does_not_grow_with_the_day(site):
    """Ten times the lines take as much memory."""
    peaks = []
    for lines in (20_000, 200_000):
        site.packed_path("averages", DAY).write_bytes(gzip.compress(averages_line() * lines, 1))
        script = (
            "import sys, resource, etl.cli.command as c\n"
            "c.leave = lambda code: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, code, file=sys.stderr)\n"
            f"sys.argv = ['etl', 'export', '{DAY}', '--to', 'out.csv', '--force']\n"
            "from etl.cli.main import main\nmain()"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=site.root.parent, capture_output=True, text=True)
        peak, code = done.stderr.split()
        assert code == "0"
        peaks.append(int(peak))
    assert peaks[1] < peaks[0] + (4 << 10)


@pytest.mark.parametrize("size", [1, 3 << 20])
def test_an_interrupt_that_python_ignores_leaves_nothing(tmp_path, size):
    """Python ignores exceptions in some callbacks; the file is not completed all the same."""

    def write_on():
        with written_aside(tmp_path / "out.csv") as file:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            file.write(bytes(size))

    with pytest.raises(KeyboardInterrupt):
        write_on()
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
