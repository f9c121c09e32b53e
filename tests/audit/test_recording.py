"""The files of a replay: which lines become readings of which day, and which are rejected."""

from __future__ import annotations

import gzip

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.audit.recording import files
from etl.audit.recording.files import MAX_LINE_BYTES
from etl.readings.lines import raw_line
from etl.storage.folder import Folder
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.plant import FIXTURE
from tests.support.recordings import DAY, SETTINGS, START, import_files, logs


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_is_read_like_lines(tmp_path, packed):
    """An array and JSON lines of the same readings, plain or compressed, become the same days."""
    items = orjson.loads(FIXTURE.read_bytes())
    array, lines = orjson.dumps(items, option=orjson.OPT_INDENT_2), b"\n".join(map(orjson.dumps, items))
    for name, data in (("array", array), ("lines", lines)):
        file = tmp_path / name / ("machine.json.gz" if packed else "machine.json")
        file.parent.mkdir()
        file.write_bytes(gzip.compress(data) if packed else data)
        assert import_files(tmp_path / name / "out", file)[0].readings == len(items)
    assert logs(tmp_path / "array" / "out") == logs(tmp_path / "lines" / "out")
    assert all(b'"machine"' in log for log in logs(tmp_path / "array" / "out").values())


def test_a_reading_is_polled_at_its_own_timestamp(tmp_path):
    """`_polled_at` is the timestamp in UTC, a naive one in the config's zone; the source is the file's, or its stem."""
    file = tmp_path / "press.jsonl"
    file.write_bytes(
        b'{"timestamp":"2026-07-01 00:30:00","id":1}\n{"timestamp":"2026-07-01T01:00:00.5+02:00","id":1}\n'
    )
    import_files(tmp_path / "out", file)
    written = (tmp_path / "out" / "raw" / "2026-07-01.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["_polled_at"] for line in written] == [
        "2026-06-30T22:30:00.000Z",
        "2026-06-30T23:00:00.500Z",
    ]
    assert b'"_source":"press"' in written[0]
    import_files(tmp_path / "named", file, sources={file: "the press"})
    assert b'"_source":"the press"' in (tmp_path / "named" / "raw" / "2026-07-01.jsonl").read_bytes()


def polled(root) -> dict[int, list[str]]:
    """The minutes of `_polled_at` of each machine in a folder's raw log."""
    lines = [orjson.loads(line) for name, log in sorted(logs(root).items()) if "raw/" in name for line in log.split()]
    return {number: [line["_polled_at"][5:16] for line in lines if line["id"] == number] for number in (1, 2)}


def naive(number: int, *minutes: str) -> list[bytes]:
    """Lines of a machine without offset in their timestamps."""
    return [b'{"id":%d,"temperature":5,"timestamp":"2026-%b:00"}\n' % (number, minute.encode()) for minute in minutes]


@pytest.mark.parametrize(
    ("zone", "local", "utc"),
    [
        (
            "Europe/Berlin",
            ["10-25T01:45", "10-25T02:15", "10-25T02:45", "10-25T02:15", "10-25T02:45", "10-25T03:15"],
            ["10-24T23:45", "10-25T00:15", "10-25T00:45", "10-25T01:15", "10-25T01:45", "10-25T02:15"],
        ),
        (
            "Australia/Lord_Howe",
            ["04-05T01:25", "04-05T01:35", "04-05T01:55", "04-05T01:35", "04-05T01:55", "04-05T02:05"],
            ["04-04T14:25", "04-04T14:35", "04-04T14:55", "04-04T15:05", "04-04T15:25", "04-04T15:35"],
        ),
        (
            "America/Havana",
            ["10-31T23:59", "11-01T00:30", "11-01T00:59", "11-01T00:00", "11-01T00:59", "11-01T01:00"],
            ["11-01T03:59", "11-01T04:30", "11-01T04:59", "11-01T05:00", "11-01T05:59", "11-01T06:00"],
        ),
    ],
)
def test_the_second_pass_of_an_hour_is_the_second_pass(zone, local, utc, tmp_path):
    """Naive times that go back where the clocks do are an hour (or half of one) later; each machine by itself."""
    file = tmp_path / "m.jsonl"
    file.write_bytes(b"".join(line for pair in zip(naive(1, *local), naive(2, *local), strict=True) for line in pair))
    _, rejected = import_files(tmp_path / "out", file, settings=msgspec.structs.replace(SETTINGS, timezone=zone))
    assert (polled(tmp_path / "out"), rejected) == ({1: utc, 2: utc}, [])


def test_a_machine_that_misses_a_pass_is_read_by_itself(tmp_path):
    """A time that does not go back is the first pass, whatever other machines sent; an offset always counts."""
    file = tmp_path / "m.jsonl"
    first, second = naive(1, "10-25T02:10", "10-25T02:50"), naive(1, "10-25T02:10", "10-25T02:10")
    second[1] = second[1].replace(b':00"', b':00+01:00"')
    file.write_bytes(b"".join([*first, *naive(2, "10-25T02:10"), *second, *naive(2, "10-25T02:50", "10-25T03:10")]))
    import_files(tmp_path / "out", file)
    assert polled(tmp_path / "out") == {
        1: ["10-25T00:10", "10-25T00:50", "10-25T01:10", "10-25T01:10"],
        2: ["10-25T00:10", "10-25T00:50", "10-25T02:10"],
    }


def test_the_passes_of_an_hour_do_not_start_windows_over(tmp_path):
    """Six readings an hour through the change of the clocks fill a window of five, without a silence."""
    hours = ["10-25T01", *["10-25T02"] * 2, "10-25T03"]
    file = tmp_path / "m.jsonl"
    file.write_bytes(b"".join(naive(1, *(f"{hour}:{minute}0" for hour in hours for minute in range(6)))))
    import_files(tmp_path / "out", file)
    averages = (tmp_path / "out" / "averages" / "2026-10-25.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["readings"] for line in averages] == [1, 2, 3, 4, *[5] * 20]


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        (["10-24T10:00", "10-24T09:00"], ["10-24T08:00", "10-24T07:00"]),
        (["10-25T10:00", "10-25T09:00"], ["10-25T09:00", "10-25T08:00"]),
        (["03-29T03:30", "03-29T02:30"], ["03-29T01:30", "03-29T01:30"]),
        (["10-25T02:30", "10-25T02:30"], ["10-25T00:30", "10-25T00:30"]),
    ],
)
def test_times_that_go_back_elsewhere_keep_their_meaning(local, utc, tmp_path):
    """Times that go back on another day, at another hour, or in the hour that is skipped are read as they stand."""
    file = tmp_path / "m.jsonl"
    file.write_bytes(b"".join(naive(1, *local)))
    import_files(tmp_path / "out", file)
    assert polled(tmp_path / "out")[1] == utc


def test_lines_that_are_not_readings_are_rejected(tmp_path):
    """A line that is no reading, has no time or goes back a day is rejected by its number; the others count."""
    file = tmp_path / "m.jsonl"
    good = [raw_line({"id": 1, "n": n}, "m", START + n * 10) for n in range(3)]
    bad = [
        b"[1]\n",
        b'{"id": 1}\n',
        b'{"timestamp":"yesterday"}\n',
        b'{"timestamp":17}\n',
        b"{\xff}\n",
        good[0][:50] + b"\n",
        raw_line({"id": 1}, "m", START - DAY),
        b'{"_source":"m","_polled_at":"2026-11-22"}\n',
    ]
    file.write_bytes(b"".join([good[0], *bad, b"\n", good[1], b" " + good[2].rstrip() + b"\r\n"]))
    result, rejected = import_files(tmp_path / "out", file)
    assert (tmp_path / "out" / "raw" / "2026-11-22.jsonl").read_bytes() == b"".join([*good[:2], b" " + good[2]])
    assert result.readings == 3
    assert [each.line for each in rejected] == list(range(2, 2 + len(bad)))
    assert "2026-11-21 lies before 2026-11-22" in rejected[6].why
    packed = tmp_path / "cut.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes())[:-20])
    assert import_files(tmp_path / "cut", packed)[1][-1].why.startswith("the compressed file is damaged")


def test_only_the_line_at_the_end_of_the_calendar_is_rejected(tmp_path):
    """A line of the last day of the calendar is rejected, and the lines around it are imported."""
    kept = [raw_line({"id": 1, "temperature": 1.0}, "m", START + second) for second in range(2)]
    far = b'{"id":1,"_source":"m","_polled_at":"9999-12-31T23:59:59-09:00"}\n'
    file = tmp_path / "m.jsonl"
    file.write_bytes(kept[0] + far + kept[1])
    result, rejected = import_files(tmp_path / "out", file)
    assert (result.readings, [each.line for each in rejected]) == (2, [2])


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_without_end_is_rejected_by_its_number(tmp_path, packed):
    """A line beyond the limit is not kept in memory: it is rejected, and the lines around it are readings."""
    readings = [raw_line({"id": n, "temperature": 20}, "m", START) for n in range(3)]
    file = tmp_path / ("m.jsonl.gz" if packed else "m.jsonl")
    huge = bytes(MAX_LINE_BYTES + (1 << 20)) + b"\n"
    data = readings[0] + huge + readings[1] + readings[2] + huge[:-1]
    file.write_bytes(gzip.compress(data) if packed else data)
    result, rejected = import_files(tmp_path / "out", file)
    assert (result.readings, [rejection.line for rejection in rejected]) == (3, [2, 5])
    assert {rejection.why for rejection in rejected} == {"it is longer than 6 MiB"}
    assert logs(tmp_path / "out")["raw/2026-11-22.jsonl"] == b"".join(readings)


def test_a_compressed_array_without_end_is_rejected(tmp_path, monkeypatch):
    """An array beyond the limit is not decoded."""
    monkeypatch.setattr(files, "MAX_ARRAY_BYTES", 1 << 20)
    file = tmp_path / "m.json.gz"
    file.write_bytes(gzip.compress(b"[" + b" " * (3 << 20)))
    result, rejected = import_files(tmp_path / "out", file)
    assert result.readings == 0
    assert "the array is larger than 1 MiB" in rejected[0].why


def test_lines_that_only_resemble_raw_lines_are_rejected(tmp_path):
    """Objects that share a line or span two, bytes that are not UTF-8, and times after today are rejected."""
    one = raw_line({"id": 1}, "m", START)
    rows = [
        one.rstrip() + one + b"\n",
        one.replace(b",", b",\n", 1),
        one.replace(b'"m"', b'"\xff"'),
        raw_line({"id": 1}, "m", START + 100 * DAY),
        b'{"timestamp":"0001-01-01T00:00:00+14:00"}\n',
        b'{"timestamp":"0001-01-01T12:00:00Z"}\n',
        b'{"timestamp":"9999-12-31T23:59:59.9999Z"}\n',
        b"[" + one.rstrip().replace(b"1", b"[" * 300 + b"]" * 300, 1) + b"]",
    ]
    for number, row in enumerate(rows):
        file = tmp_path / f"{number}.jsonl"
        file.write_bytes(row)
        result, rejected = import_files(tmp_path / "out", file)
        assert result.readings == 0
        assert rejected


def test_a_raw_log_keeps_the_day_of_its_name(tmp_path):
    """Lines of a day file stay in its day, whatever their times: the clock may have been set back."""
    file = tmp_path / "2026-11-25.jsonl"
    file.write_bytes(raw_line({"id": 1}, "m", START + 3 * DAY) + raw_line({"id": 1}, "m", START))
    result, rejected = import_files(tmp_path / "out", file)
    assert (result.added, rejected) == (["2026-11-25"], [])


lines = st.lists(
    st.one_of(
        st.builds(
            lambda m, at, value: raw_line({"id": m, "temperature": value}, "s", START + at),
            st.integers(1, 3),
            st.integers(-DAY, 2 * DAY),
            st.floats(-9, 9) | st.none(),
        ),
        st.builds(lambda hour: b'{"id":1,"timestamp":"2026-11-23T%02d:00:00Z"}\n' % hour, st.integers(0, 23)),
        st.sampled_from([b"{\n", b"\n", b"null\n", b'{"_source":1,"_polled_at":2}\n']),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines, st.integers(0, 12), st.integers(16, 400))
def test_files_and_blocks_do_not_change_the_result(tmp_path_factory, monkeypatch, lines, cut, block):
    """The same lines in one file or two, read in blocks of any size, give the same folder and the same rejections."""
    root = tmp_path_factory.mktemp("cut")
    whole, first, second = root / "s.jsonl", root / "a" / "s.jsonl", root / "b" / "s.jsonl"
    for path, part in ((whole, lines), (first, lines[:cut]), (second, lines[cut:])):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(part))
    result, rejected = import_files(root / "one", whole)
    monkeypatch.setattr("etl.audit.recording.files.READ_BYTES", block)
    second_result, second_rejected = import_files(root / "two", first, second)
    assert logs(root / "one") == logs(root / "two")
    assert second_result == result
    assert [each.why for each in rejected] == [each.why for each in second_rejected]
    derivation = Derivation(SettingsLog(Folder(root / "one"), SETTINGS))
    for day in result.added:
        assert b"".join(derivation.day(day)) == (root / "one" / "averages" / f"{day}.jsonl").read_bytes()
