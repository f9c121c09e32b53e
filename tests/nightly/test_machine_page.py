"""The page of one machine and day, read from the day's files."""

from __future__ import annotations

import gzip
import html
import json
import os
import re
import shutil
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.analysis.columns import figures
from etl.nightly.on_demand.answers import answer
from etl.nightly.on_demand.machine_lines import averages_series, machine_of, raw_columns
from etl.nightly.on_demand.orders import MachineDayOrder, MachineHoursOrder
from etl.nightly.report import make, write
from etl.readings.days import begins
from etl.readings.lines import averages_encoder, raw_decoder, raw_line
from etl.readings.records import AlarmRule, RejectedError, Settings
from etl.readings.times import rfc3339
from etl.storage.folder import Folder
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.planted_week import DAYS, write_week
from tests.support.planted_week import SETTINGS as WEEK
from tests.support.reports import HOSTILE

DAY = "2026-11-22"
FIELDS = {"temperature": "temperature", "speed": "fan_speed"}
PLAIN = Settings(5, FIELDS, "UTC", 10.0, 0.2)
START = 1_795_305_600.0
"""2026-11-22T00:00:00Z."""
NIGHT = START + 2 * 86_400
"""Long after the day."""


def folder_of(root: Path, lines, day: str = DAY, settings: Settings = PLAIN) -> Folder:
    """A folder with a raw log of these lines, its averages and its alarms."""
    folder = Folder(root)
    path = folder.path("raw", day)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    (root / "averages").mkdir(exist_ok=True)
    derivation = Derivation(SettingsLog(folder, settings))
    folder.path("averages", day).write_bytes(b"".join(derivation.day(day)))
    return folder


def reading(source: str, at: float, temperature: float = 20.0, **fields) -> bytes:
    return raw_line({"id": 1, "temperature": temperature, "fan_speed": 900, "status": "IDLE"} | fields, source, at)


def page(folder: Folder, source: str, machine_id: object = 1, day: str = DAY, **order) -> str:
    """The page of a machine and day."""
    head, parts = ask(folder, source, json.dumps(machine_id), day, **order)
    assert head.error == ""
    assert len(parts) == len(head.sizes) == 1
    return parts[0].decode()


def ask(folder: Folder, source: str, id_json: str = "1", day: str = DAY, settings: Settings = PLAIN, now=NIGHT):
    units = {"temperature": "°C"}
    return answer(MachineDayOrder(str(folder.root), settings, units, now, day, source, id_json))


def hours(folder: Folder, source: str, count: int, now: float, settings: Settings = PLAIN) -> dict[str, str]:
    """The charts of a machine's last hours."""
    head, parts = answer(MachineHoursOrder(str(folder.root), settings, {}, now, source, "1", count))
    assert head.error == ""
    return json.loads(parts[0])


def without_links(text: str) -> str:
    return re.sub(r"<nav.*?</nav>", "", text, flags=re.DOTALL)


def test_a_page_has_each_parameter_with_its_figures(tmp_path):
    """The page draws every parameter that has a value, with average and extremes, and names the others."""
    folder = folder_of(tmp_path, [reading("press", START + 10 * n, 20 + n % 3, fan_speed=None) for n in range(90)])
    text = page(folder, "press")
    assert "90 of 8,640 expected readings" in text
    assert re.findall(r'aria-label="(temperature|speed) of press', text) == ["temperature"]
    assert "No value of speed" in text
    assert 'class="averages"' in text
    assert "°C" in text


def test_a_compressed_day_has_the_same_page(tmp_path):
    """A day that retention has compressed is read as before."""
    folder = folder_of(tmp_path, [reading(f"m{n % 3}", START + 10 * n, n % 7) for n in range(300)])
    plain = page(folder, "m1")
    for kind in ("raw", "averages"):
        data = folder.path(kind, DAY).read_bytes()
        folder.packed_path(kind, DAY).write_bytes(gzip.compress(data))
        folder.path(kind, DAY).unlink()
    assert page(folder, "m1") == plain


IDS = st.sampled_from([None, 7, "7", 8, 7.5, 2**53 + 1, 2**53, 2**70, -0.0, "", 'a"b', "ü", "\u2028", True, [1]])
SOURCES = st.sampled_from(["m", "m1", 'm"1', "m\\1", "ü", "id", "temperature", "</script>"])
VALUES = st.none() | st.floats(-1e6, 1e6) | st.sampled_from(["21", True, 10**400])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(SOURCES, IDS, VALUES), max_size=40),
    escaped=st.booleans(),
    damaged=st.lists(st.sampled_from([b"{}\n", b"\xff\n", b'{"_source":"m","id":7\n', b'"m"\n']), max_size=3),
)
def test_the_readings_of_a_machine_are_those_of_the_report(tmp_path_factory, rows, escaped, damaged):
    """Whatever ids and sources the lines have, and in which form of JSON, each machine's figures equal the report's."""
    lines = []
    for place, (source, machine_id, value) in enumerate(rows):
        line = {"id": machine_id, "temperature": value, "_source": source, "_polled_at": rfc3339(START + 10 * place)}
        lines.append(json.dumps(line, ensure_ascii=escaped, separators=(", ", ": ") if escaped else None).encode())
    root = tmp_path_factory.mktemp("folder")
    folder = Folder(root)
    folder.path("raw", DAY).parent.mkdir()
    folder.path("raw", DAY).write_bytes(b"".join([*(line + b"\n" for line in lines), *damaged]))
    report = make(SettingsLog(folder, PLAIN), DAY).report
    assert sum(machine["readings"] for machine in report["machines"]) == len(rows)
    for machine in report["machines"]:
        name = machine_of(machine["source"], msgspec.json.encode(machine["id"]).decode())
        columns = raw_columns(folder, DAY, name, tuple(FIELDS.values()))
        assert columns.readings == machine["readings"]
        for values, entry in zip(columns.values, machine["parameters"].values(), strict=True):
            column = figures(values, PLAIN.threshold)
            assert (column.average, column.highest, column.lowest) == (entry["average"], entry["max"], entry["min"])
            assert column.deviations.tolist() == [anomaly["deviation"] for anomaly in entry["anomalies"]]


@pytest.mark.parametrize("sent", ["1e999", "-1e999", "[1]", "true", "null", '{"a":1}'])
def test_an_id_that_is_no_string_or_number_is_none(tmp_path, sent):
    """Readings with such an id are those of the source's machine without an id, as everywhere."""
    lines = [
        line.replace(b'"id":1', f'"id":{sent}'.encode()) for line in (reading("m", START), reading("m", START + 9))
    ]
    folder = folder_of(tmp_path, lines)
    assert [raw_decoder(())(line).machine for line in lines] == [("m", None)] * 2
    assert raw_columns(folder, DAY, ("m", None), ()).readings == 2


def test_a_machine_without_a_reading_is_not_found(tmp_path):
    """A machine that sent nothing on that day, or whose id is another one, is a 404 that says so."""
    folder = folder_of(tmp_path, [reading("press", START)])
    for source, id_json in [("oven", "1"), ("press", '"1"'), ("press", "null"), ("pres", "1"), ("press", "[" * 9999)]:
        head, parts = ask(folder, source, id_json)
        assert (head.status, head.sizes, parts) == (404, (), [])
        assert f"No reading of {source}" in head.error


def test_a_long_id_that_does_not_exist_is_not_repeated(tmp_path):
    """The answer to a query with a very long source and id is short: it must fit the head of an answer."""
    folder = folder_of(tmp_path, [reading("press", NIGHT - 3600, id=1)])
    head, parts = ask(folder, "x" * 10_000, "1" * 10_000)
    assert (head.status, parts, len(head.error) < 300) == (404, [], True)


def test_hostile_names_are_text(tmp_path):
    """Source, id, name and status of a machine may be anything: the page shows them, and nothing of it is markup."""
    lines = [reading(HOSTILE, START + 10 * n, id=HOSTILE, name=HOSTILE * 50, status=HOSTILE) for n in range(40)]
    folder = folder_of(tmp_path, lines)
    text = page(folder, HOSTILE, HOSTILE)
    assert text.count("<script") == 1
    assert "&lt;script&gt;" in text
    query = re.search(r'href="\.\./#([^"]*)"', text)[1]
    assert re.fullmatch(r"[\w.~%=-]+&amp;[\w.~%=-]+", query)


def test_the_links_lead_to_the_days_beside_it(tmp_path):
    """The page links the days before and after that have a raw log, the report if there is one, console and CSV."""
    folder = folder_of(tmp_path, [reading("a b&c", START)])
    for day in ("2026-11-19", "2026-11-25"):
        folder_of(tmp_path, [], day)
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', page(folder, "a b&c"))]
    query = "source=a%20b%26c&id=1"
    assert links == [f"day?{query}&date=2026-11-19", f"day?{query}&date=2026-11-25", f"../#{query}",
                     f"../export/{DAY}.csv?{query}"]  # fmt: skip
    write(folder, make(SettingsLog(folder, PLAIN), DAY))
    assert f'href="../reports/{DAY}"' in page(folder, "a b&c")
    today = page(folder, "a b&c", now=START + 3600)
    assert 'href="../reports/' in today
    assert "until 01:00:00" in today


@pytest.mark.parametrize(("day", "length"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-24", 24)])
def test_a_day_begins_and_ends_at_local_midnight(tmp_path, day, length):
    """Where the clocks change the page covers 23 or 25 hours; the readings of the days beside it are not in it."""
    zone = msgspec.structs.replace(PLAIN, timezone="Europe/Berlin")
    begin = begins(day, ZoneInfo("Europe/Berlin"))
    folder = folder_of(tmp_path, [reading("m", begin + 60 * n) for n in range(60 * length)], day, zone)
    text = page(folder, "m", day=day, settings=zone, now=begin + 1e6)
    assert f"{60 * length:,} of {360 * length:,} expected readings" in text
    assert ("The clocks changed on this day" in text) == (length != 24)
    assert ">03:00<" in text


def test_the_last_hours_cross_midnight(tmp_path):
    """24 hours span two days; values before them, and machines without any, are not drawn."""
    for day, start in ((DAY, START), ("2026-11-23", START + 86_400)):
        folder = folder_of(tmp_path, [reading("m", start + 600 * n, n, fan_speed="x") for n in range(144)], day)
    now = START + 86_400 + 6 * 3600
    charts = hours(folder, "m", 24, now)
    assert list(charts) == ["temperature"]
    assert re.search("average 79.2, 0 to 143", charts["temperature"])
    assert re.search("average 140.0, 137 to 143", hours(folder, "m", 1, now + 18 * 3600 - 600)["temperature"])
    assert hours(folder, "m", 1, now + 10 * 86_400) == hours(folder, "other", 24, now) == {}


def test_the_alarms_of_the_machine_are_listed(tmp_path):
    """The changes of alarms of this machine on that day, and their limits in the charts; those of others are not."""
    rule = AlarmRule("hot <1>", parameter="temperature", above=50.0)
    alarmed = msgspec.structs.replace(PLAIN, alarms=(rule,))
    lines = [reading(source, START + 10 * n, 70 if n > 20 else 20) for n in range(40) for source in ("a", "b")]
    folder = folder_of(tmp_path, lines, settings=alarmed)
    (tmp_path / "alarms").mkdir()
    at = rfc3339(START + 210)
    change = {"at": at, "alarm": "hot <1>", "state": "raised", "id": 1, "parameter": "temperature", "value": 60.0,
              "limit": 50.0, "since": at}  # fmt: skip
    changes = [msgspec.json.encode({**change, "source": source}) + b"\n" for source in ("a", "b", "b")]
    folder.path("alarms", DAY).write_bytes(b"".join(changes))
    text = page(folder, "b", settings=alarmed)
    assert "2 changes of alarms" in text
    assert "1 change of alarms" in page(folder, "a", settings=alarmed)
    assert text.count("<td><bdi>hot &lt;1&gt;</bdi> raised</td>") == 2
    assert "limits of alarms 50" in text


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """The folder of the planted week with its reports."""
    folder = Folder(tmp_path_factory.mktemp("week"))
    write_week(folder)
    for day in DAYS[:5]:
        write(folder, make(SettingsLog(folder, WEEK), day, charted=True))
    return folder


@pytest.mark.parametrize(
    ("machine", "day", "why"), [("chiller", 4, "since 2026-11-24"), ("fan", 4, "outside"), ("mixer", 4, "no reading")]
)
def test_incidents_are_those_of_the_report_with_or_without_it(week, tmp_path, machine, day, why):
    """A day without a report has the incidents that its report would have: the history of the day before is used."""
    name = DAYS[day]
    with_report = page(week, machine, day=name, settings=WEEK, now=NIGHT + 30 * 86_400)
    assert '<h2 id="incidents">1 incident</h2>' in with_report
    assert re.search(f"<bdi>[^<]*{why}", with_report)
    root = tmp_path / "copy"
    shutil.copytree(week.root, root)
    Folder(root).report_path(name).unlink()
    assert DAYS[day - 1] in Folder(root).histories()
    without = page(Folder(root), machine, day=name, settings=WEEK, now=NIGHT + 30 * 86_400)
    assert without_links(without) == without_links(with_report)


def test_a_report_that_is_damaged_leaves_the_detectors(week, tmp_path):
    """A stored report that cannot be decoded is no error: the detectors look at the day."""
    root = tmp_path / "copy"
    shutil.copytree(week.root, root)
    Folder(root).report_path(DAYS[4]).write_bytes(b'{"rules":2,"machines":[{')
    assert "1 incident" in page(Folder(root), "fan", day=DAYS[4], settings=WEEK, now=NIGHT + 30 * 86_400)


@pytest.mark.parametrize("kind", ["raw", "averages", "alarms", "reports", "settings"])
def test_a_fifo_is_an_error_and_no_wait(tmp_path, kind):
    """Where a day's file is a FIFO, the page says so at once."""
    folder = folder_of(tmp_path, [reading("m", START)])
    places = {"reports": folder.report_path(DAY), "settings": folder.settings_path}
    path = places.get(kind, folder.path(kind, DAY))
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    head, _ = ask(folder, "m")
    if kind == "reports":
        assert head.error == ""
    else:
        assert head.status == 503
        assert "FIFO" in head.error


def test_without_averages_the_readings_are_drawn(tmp_path):
    """Averages that are being derived again are missing in the page, and nothing else is."""
    folder = folder_of(tmp_path, [reading("m", START + 10 * n) for n in range(9)])
    folder.path("averages", DAY).unlink()
    text = page(folder, "m")
    assert "9 of 8,640" in text
    assert 'class="averages" d="M' not in text


def test_averages_of_damaged_lines_are_left_out(tmp_path):
    """A damaged averages line, and averages that are no numbers, leave a gap in the trace."""
    encode = averages_encoder(FIELDS)
    decode = raw_decoder(tuple(FIELDS.values()))
    good = encode(decode(reading("m", START)), [20.0, None], 1)
    damaged = [good[:-9] + b"\n", good.replace(b"20.0", b'"20"'), good.replace(b"2026-11-22T00", b"never"), b"[]\n"]
    folder = folder_of(tmp_path, [reading("m", START)])
    folder.path("averages", DAY).write_bytes(b"".join([*damaged, good]))
    series = averages_series(folder, DAY, ("m", 1), FIELDS)
    assert len(series.times) == 2
    assert series.values[0][1:].tolist() == [20.0]
    with pytest.raises(RejectedError):
        decode(damaged[0])


def test_a_folder_of_an_earlier_version_has_pages(tmp_path):
    """Every machine of every report that version 0.1 wrote has a page with the report's average."""
    fixture = Path(__file__).parents[1] / "fixtures" / "v0.1" / "output"
    shutil.copytree(fixture, tmp_path / "output", symlinks=True)
    folder = Folder(tmp_path / "output")
    drawn = 0
    for day in folder.reports():
        for machine in json.loads(folder.report_path(day).read_bytes())["machines"]:
            text = page(folder, machine["source"], machine["id"], day, now=NIGHT + 30 * 86_400)
            drawn += text.count('class="chart"')
    assert drawn > 5
