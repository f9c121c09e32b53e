"""What people have to import: CSV with a header, times as numbers, answers that need `records`."""

from __future__ import annotations

import gzip
from hashlib import blake2b

import orjson
import pytest
from freezegun import freeze_time

from tests.support import commands
from tests.support.recordings import DAY, START, import_files, logs

NOON = START + 2 * 3600
"""2026-11-22T12:00:00Z."""


def imported(root, *files, **how) -> tuple[list[dict], list[tuple[int, str]]]:
    """The raw lines without our own keys that files become, and the rejections."""
    _, rejected = import_files(root, *files, **how)
    lines = [line for name, log in logs(root).items() if name.startswith("raw") for line in log.splitlines()]
    return list(map(orjson.loads, lines)), [(each.line, each.why) for each in rejected]


def plain(records: list[dict]) -> list[dict]:
    """Records without the keys that this program adds."""
    return [{key: value for key, value in record.items() if not key.startswith("_")} for record in records]


CSV = """timestamp,id,temperature,fan_speed,status
2026-11-22T12:00:00Z,7,20.5,900,IDLE
2026-11-22T12:00:10Z,007,,1e3,"say ""go"", or not"
2026-11-22T12:00:20Z,7,-0.50,nan,

2026-11-22T12:00:30Z,press 1,.5,+5,true
"""


@pytest.mark.parametrize("name", ["m.csv", "m.csv.gz", "m.txt"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_with_a_header_is_read(tmp_path, name, line_end, mark):
    """Each row is a reading: numbers are numbers, other cells are text, and an empty cell has no key."""
    file = tmp_path / name
    data = (mark + CSV.replace("\n", line_end)).encode()
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    records, rejected = imported(tmp_path / "out", file)
    assert rejected == []
    assert plain(records) == [
        {"timestamp": "2026-11-22T12:00:00Z", "id": 7, "temperature": 20.5, "fan_speed": 900, "status": "IDLE"},
        {"timestamp": "2026-11-22T12:00:10Z", "id": "007", "fan_speed": 1000.0, "status": 'say "go", or not'},
        {"timestamp": "2026-11-22T12:00:20Z", "id": 7, "temperature": -0.5, "fan_speed": "nan"},
        {"timestamp": "2026-11-22T12:00:30Z", "id": "press 1", "temperature": 0.5, "fan_speed": 5, "status": "true"},
    ]
    assert [record["_source"] for record in records] == ["m"] * 4
    assert records[0]["_polled_at"] == "2026-11-22T12:00:00.000Z"


def test_numbers_of_csv_keep_their_digits(tmp_path):
    """A number is written as it stands in the file."""
    file = tmp_path / "m.csv"
    file.write_text("timestamp,id,t\n2026-11-22T12:00:00Z,1,20.50\n2026-11-22T12:00:10Z,1,1E400\n")
    records, rejected = imported(tmp_path / "out", file)
    assert rejected == []
    assert [record["t"] for record in records] == [20.5, "1E400"]


def test_bad_rows_of_csv_are_rejected_by_their_line(tmp_path):
    """Rows with missing or surplus cells, an open quote, no time or no UTF-8 are rejected; the others are imported."""
    rows = [
        b"timestamp,id,note",
        b"2026-11-22T12:00:00Z,1",
        b"2026-11-22T12:00:00Z,1,a,b",
        b'2026-11-22T12:00:00Z,1,"open',
        b"2026-11-22T12:00:00Z,2,ok",
        b",3,none",
        b'2026-11-22T12:00:00Z,4,"a"b',
        b"2026-11-22T12:00:00Z,5,\xff",
        b"soon,6,x",
        b'2026-11-22T12:00:00Z,7,"two\nlines"',
        b"2026-11-22T12:00:00Z,8,last",
    ]
    file = tmp_path / "m.csv"
    file.write_bytes(b"\n".join(rows))
    records, rejected = imported(tmp_path / "out", file)
    assert [(record["id"], record["note"]) for record in records] == [(2, "ok"), (7, "two\nlines"), (8, "last")]
    assert [line for line, _ in rejected] == [2, 3, 4, 6, 7, 8, 9]
    assert rejected[0][1] == "the row has 2 cells, the header 3"


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("timestamp;id;t\n2026-11-22T12:00:00Z;1;20,5\n", "separated by semicolons: use commas"),
        ("timestamp\tid\n2026-11-22T12:00:00Z\t1\n", "separated by tabs: use commas"),
        ("Time,id\n2026-11-22T12:00:00Z,1\n", "no `timestamp`: Time, id"),
        ("2026-11-22T12:00:00Z,1\n", "no `timestamp`: 2026-11-22T12:00:00Z, 1"),
        ("timestamp,id,t,t\n2026-11-22T12:00:00Z,1,1,2\n", "names t twice"),
        ("timestamp,id,t\n".encode("utf-16").decode("latin-1"), "no `timestamp`"),
    ],
)
def test_csv_that_cannot_be_read_is_one_rejection_with_a_hint(tmp_path, content, hint):
    """A file with other separators or no usable header is rejected once, at its first line, and says what to do."""
    file = tmp_path / "m.csv"
    file.write_text(content, encoding="latin-1")
    records, rejected = imported(tmp_path / "out", file)
    assert records == []
    assert [line for line, _ in rejected] == [1]
    assert hint in rejected[0][1]


def test_a_file_of_another_format_is_one_rejection(tmp_path):
    """A file that is neither JSON nor CSV is rejected once; lines of JSON below a damaged first one are read."""
    text, lines = tmp_path / "notes.txt", tmp_path / "m.log"
    text.write_text("hello\nworld\n")
    lines.write_text('e":1}\n{"id":1,"timestamp":"2026-11-22T12:00:00Z"}\n')
    records, rejected = imported(tmp_path / "out", text, lines)
    assert [record["id"] for record in records] == [1]
    assert rejected[0] == (1, "the file is neither JSON lines, nor a JSON array, nor CSV with a header")
    assert len(rejected) == 2


def test_an_object_over_several_lines_is_a_reading(tmp_path):
    """A document with one object is read like an array with one."""
    file = tmp_path / "m.json"
    file.write_text('{\n  "id": 1,\n  "timestamp": "2026-11-22T12:00:00Z"\n}\n')
    records, rejected = imported(tmp_path / "out", file)
    assert (plain(records), rejected) == ([{"id": 1, "timestamp": "2026-11-22T12:00:00Z"}], [])


@pytest.mark.parametrize("times", [1, 1000, 1_000_000, 1_000_000_000])
@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_a_number_is_time_since_1970(tmp_path, times, form):
    """A number, or text of digits, is seconds, milli-, micro- or nanoseconds by its magnitude, and stays as it is."""
    file = tmp_path / "m.jsonl"
    timestamp = form.format(round(NOON * times))
    file.write_text(f'{{"id":1,"timestamp":{timestamp}}}\n')
    records, rejected = imported(tmp_path / "out", file)
    assert rejected == []
    assert records[0]["_polled_at"] == "2026-11-22T12:00:00.000Z"
    assert records[0]["timestamp"] == orjson.loads(timestamp)


def test_parts_of_a_second_are_kept(tmp_path):
    """Seconds may have decimals, and other units are rounded to the millisecond."""
    file = tmp_path / "m.jsonl"
    stamps = [f"{NOON:.0f}.25", f"{NOON * 1000 + 500:.0f}", f"{NOON:.0f}750000123"]
    file.write_text("".join(f'{{"id":1,"timestamp":{stamp}}}\n' for stamp in stamps))
    records, _ = imported(tmp_path / "out", file)
    assert [record["_polled_at"][19:] for record in records] == [".250Z", ".500Z", ".750Z"]


@pytest.mark.parametrize("number", ["0", "17", "-1795341600", "20261122", "1e20", "1e300", "true", '"12"'])
def test_a_number_that_is_no_time_is_rejected(tmp_path, number):
    """Numbers outside the range of dates are not guessed at."""
    file = tmp_path / "m.jsonl"
    file.write_text(f'{{"id":1,"timestamp":{number}}}\n')
    records, rejected = imported(tmp_path / "out", file)
    assert records == []
    assert "timestamp" in rejected[0][1]


FEED = [
    {"timestamp": "2026-11-22T12:00:00Z", "m": [{"serial": 1, "t": 20.5}, {"serial": 2, "t": 30}]},
    {"timestamp": "2026-11-22T12:00:10Z", "m": [{"serial": 1, "t": 21}]},
    {"timestamp": "2026-11-22T12:00:20Z"},
]
RECORDS = "m[].{id: serial, temperature: t}"


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_records_of_the_source_apply_as_when_it_is_polled(plant, tmp_path, layout):
    """The file of a source becomes the readings and averages that polling it gives."""
    name, data = ("m.jsonl", b"".join(orjson.dumps(answer) + b"\n" for answer in FEED))
    if layout == "array":
        name, data = "m.json", orjson.dumps(FEED)
    here = plant(start=NOON, sources=[{"name": "hall", "file": name, "records": RECORDS}])
    file = here.root / name
    file.write_bytes(data)
    here.tick(3)
    polled = plain(here.records("raw"))
    records, rejected = imported(tmp_path / "out", file, sources={file.resolve(): "hall"}, records={"hall": RECORDS})
    assert plain(records) == polled
    assert [record["_source"] for record in records] == ["hall"] * len(polled)
    assert [line for line, _ in rejected] == [3]
    averages = logs(tmp_path / "out")["averages/2026-11-22.jsonl"].splitlines()
    assert [orjson.loads(line)["average_temperature"] for line in averages] == [20.5, 30, 20.75]


def test_following_continues_after_replayed_records(plant):
    """A followed file that was imported with `records` is not read again."""
    here = plant(start=NOON, sources=[{"name": "hall", "file": "m.jsonl", "records": RECORDS}])
    file = here.root / "m.jsonl"
    file.write_bytes(orjson.dumps(FEED[0]) + b"\n")
    here.close()
    how = {"settings": here.loaded.settings, "sources": {file.resolve(): "hall"}, "records": {"hall": RECORDS}}
    import_files(here.folder.root, file, **how)
    here.open()
    here.tick()
    assert [record["id"] for record in here.records("raw")] == [1, 2]
    assert not here.events("truncated", "rejected")


def test_each_source_of_a_file_reads_it(tmp_path):
    """A file that two sources read becomes the readings of both."""
    file = tmp_path / "m.jsonl"
    file.write_bytes(b'{"timestamp":"2026-11-22T12:00:00Z","a":{"id":1},"b":{"id":2}}\n')
    records, rejected = imported(tmp_path / "out", file, sources={file: "a+b"}, records={"a": "a", "b": "b"})
    assert [(record["_source"], record["id"]) for record in records] == [("a", 1), ("b", 2)]
    assert rejected == []


def test_lines_of_a_followed_file_may_be_arrays(tmp_path):
    """A followed file whose lines are arrays is read line by line, as when it is polled."""
    file = tmp_path / "m.jsonl"
    line = b'[{"id":1,"timestamp":"2026-11-22T12:00:00Z"}]\n'
    file.write_bytes(line * 2)
    records, rejected = imported(tmp_path / "out", file, sources={file.resolve(): "hall"}, records={"hall": "[]"})
    assert ([record["id"] for record in records], rejected) == ([1, 1], [])


def test_records_do_not_apply_to_raw_lines(plant, tmp_path):
    """A raw log in the place of a source's file stays as it is."""
    here = plant(start=NOON)
    here.tick(3)
    file = here.folder.path("raw", "2026-11-22")
    how = {"sources": {file.resolve(): "hall"}, "records": {"hall": "x[]"}}
    _, rejected = import_files(tmp_path / "out", file, **how)
    assert rejected == []
    assert logs(tmp_path / "out")["raw/2026-11-22.jsonl"] == file.read_bytes()


@freeze_time("2026-11-23T12:00:00Z")
def test_keys_are_ids_as_when_the_source_is_polled(tmp_path):
    """`id: key` of the source applies to its file, and records that share an id are rejected."""
    (tmp_path / "config.yaml").write_text(
        "timezone: UTC\nsources:\n  - {name: hall, file: m.jsonl, records: m, id: key}\n"
        "  - {name: yard, file: y.jsonl, records: m}\n"
    )
    stamp = '"timestamp":"2026-11-22T12:00:00Z"'
    (tmp_path / "m.jsonl").write_text(f'{{{stamp},"m":{{"oven-1":{{"t":1}},"oven-2":{{"t":2}}}}}}\n')
    (tmp_path / "y.jsonl").write_text(f'{{{stamp},"m":[{{"id":1}},{{"id":1}},{{"id":2}}]}}\n')
    result = commands.etl(tmp_path, "replay", str(tmp_path / "m.jsonl"), str(tmp_path / "y.jsonl"))
    assert result.stdout.startswith("3 readings, 2 rejected lines")
    lines = (tmp_path / "output" / "raw" / "2026-11-22.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == ["oven-1", "oven-2", 2]


def test_long_numbers_of_csv_stay_as_they_are(tmp_path):
    """A serial number beyond 64 bits keeps its digits."""
    file = tmp_path / "m.csv"
    file.write_text("timestamp,id\n2026-11-22T12:00:00Z,123456789012345678901234567890\n")
    import_files(tmp_path / "out", file)
    assert b'"id":123456789012345678901234567890,' in logs(tmp_path / "out")["raw/2026-11-22.jsonl"]


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_positions_and_numbers_of_lines_count_a_line_over_the_limit(tmp_path, name):
    """A line over 6 MiB is rejected by its number, and so is a bad line after it."""
    file = tmp_path / name
    good = b'{"id":1,"timestamp":"2026-11-22T12:00:00Z"}\n' if name == "m.jsonl" else b"2026-11-22T12:00:00Z,1\n"
    head = b"timestamp,id\n" if name == "m.csv" else good
    content = head + b"x" * (9 << 20) + b"\nbad\n" + good
    file.write_bytes(content)
    records, rejected = imported(tmp_path / "out", file, sources={file: "m"})
    assert [line for line, _ in rejected] == [2, 3]
    if name == "m.jsonl":
        assert records[-1]["_position"] == len(content)
        assert records[-1]["_before"] == blake2b(content[-1024:], digest_size=8).hexdigest()


@freeze_time("2026-11-23T12:00:00Z")
def test_the_command_applies_records_and_says_how_it_read_numbers(tmp_path):
    """`etl replay` finds the source by its file, and says once that timestamps were numbers."""
    (tmp_path / "config.yaml").write_text(
        f"timezone: UTC\nsources: [{{name: hall, file: m.jsonl, records: '{RECORDS}'}}]\n"
    )
    answers = [{**FEED[0], "timestamp": round(NOON - DAY) * 1000 + 10_000 * number} for number in range(3)]
    (tmp_path / "m.jsonl").write_bytes(b"".join(orjson.dumps(answer) + b"\n" for answer in answers))
    result = commands.etl(tmp_path, "replay", str(tmp_path / "m.jsonl"))
    assert result.stdout.startswith("6 readings, 0 rejected lines; days added: 1 (2026-11-21)")
    assert result.stderr.count("6 times were numbers, read as milliseconds since 1970") == 1
