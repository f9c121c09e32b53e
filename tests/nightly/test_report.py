"""The nightly report: one for each closed day, with the same bytes each time it is made."""

from __future__ import annotations

from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl import analyze_values
from etl.cli.rebuild import rebuild
from etl.cli.report import report as report_command
from etl.live.children.night import Night
from etl.nightly.executors import Mapper
from etl.pages import report as pages
from etl.readings.averages.window import number
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.columns import columns
from tests.support.plant import report_here
from tests.support.reports import make_report, write_report

MIDNIGHT = 1_795_392_000.0
"""2026-11-23T00:00:00Z."""
SETTINGS = Settings(5, {"temperature": "temperature", "speed": "fan_speed"}, "Europe/Berlin", 10.0, 0.2)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from([("a", 1), ("a", "1"), ("b", None)]), columns, columns), max_size=4),
    st.booleans(),
    st.integers(1, 9),
)
def test_the_report_is_analyze_values_of_each_group_to_the_last_bit(tmp_path_factory, groups, damaged, parts):
    """Every machine has the figures of analyze_values; damaged lines and the number of parts change nothing."""
    folder = Folder(tmp_path_factory.mktemp("day"))
    lines, data, at = [], {}, MIDNIGHT
    for machine, temperatures, speeds in groups:
        for temperature, speed in zip(temperatures, speeds, strict=False):
            at += 10
            lines.append(raw_line({"id": machine[1], "temperature": temperature, "fan_speed": speed}, machine[0], at))
            stamp = orjson.loads(lines[-1])["_polled_at"]
            mine = data.setdefault(machine, {"temperature": [], "speed": []})
            for parameter, value in (("temperature", temperature), ("speed", speed)):
                if (v := number(value)) is not None:
                    mine[parameter].append((stamp, v))
            if damaged:
                lines.append(b'{"temperature": 1\n')
    path = folder.path("raw", "2026-11-23")
    path.parent.mkdir()
    path.write_bytes(b"".join(lines))
    report = make_report(SettingsLog(folder, SETTINGS), "2026-11-23", Mapper(parts, map))
    assert [(entry["source"], entry["id"]) for entry in report["machines"]] == list(data)
    for entry in report["machines"]:
        expected = {p: analyze_values(v, 0.2) for p, v in data[entry["source"], entry["id"]].items()}
        assert repr(entry["parameters"]) == repr(expected)


@pytest.mark.parametrize(
    ("detectors", "rules", "silences", "parameter_keys"),
    [([], [], [], []), (["telemetry"], ["rules"], ["incidents"], ["incidents", "notes"])],
)
def test_the_report_has_the_contracts_keys(plant, detectors, rules, silences, parameter_keys):
    """The report has the keys of the contract, and those of the detectors only if there are detectors."""
    here = plant(start=MIDNIGHT - 4000, timezone="Europe/Berlin", report={"detectors": detectors})
    here.tick(3)
    here.clock.now = MIDNIGHT
    (path,) = here.night()
    assert path == here.folder.report_path("2026-11-22")
    report = orjson.loads(path.read_bytes())
    assert list(report) == ["date", "timezone", "interval", "threshold", *rules, "machines"]
    assert (report["date"], report["timezone"]) == ("2026-11-22", "Europe/Berlin")
    assert (report["interval"], report["threshold"]) == (10, 0.2)
    (machine,) = report["machines"]
    assert list(machine) == ["source", "id", "name", "readings", "expected", "parameters", *silences]
    assert (machine["source"], machine["id"], machine["name"]) == ("machine-1", 1, "DELL G450")
    assert (machine["readings"], machine["expected"]) == (3, 8640)
    assert list(machine["parameters"]) == ["temperature", "speed"]
    assert list(machine["parameters"]["speed"]) == ["average", "max", "min", "anomalies", *parameter_keys]


def test_a_field_without_numbers_has_a_note(plant):
    """A parameter whose field no reading has is named in the notes of the report, with the same bytes when repeated."""
    here = plant(start=MIDNIGHT - 4000, parameters={"temperature": "temperature", "speed": "fan_sped"})
    here.tick(40)
    here.clock.now = MIDNIGHT + 86_400
    (path,) = here.night()
    written = path.read_bytes()
    (machine,) = orjson.loads(written)["machines"]
    assert machine["parameters"]["temperature"]["notes"] == []
    assert machine["parameters"]["speed"]["notes"] == ["none of 40 readings had a number as fan_sped"]
    assert "none of 40 readings had a number as fan_sped" in here.folder.page_path("2026-11-22").read_text()
    assert write_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22").read_bytes() == written


def test_every_closed_day_gets_one_report_when_it_is_due(plant):
    """A day is reported once, not before report.at; days missed while the process was down are made up."""
    here = plant(start=MIDNIGHT - 30)
    here.tick(6)
    assert here.night() == []
    here.clock.now = MIDNIGHT + 299
    assert here.night() == []
    here.clock.now = MIDNIGHT + 300
    assert [path.name for path in here.night()] == ["2026-11-22.json"]
    assert here.night() == []
    here.clock.now = MIDNIGHT + 4 * 86_400
    here.tick()
    here.open()
    here.pipeline.writer.tick()
    assert [path.name for path in here.night()] == ["2026-11-23.json"]
    assert here.folder.reports() == ["2026-11-22", "2026-11-23"]
    here.pipeline.writer.tick()
    assert [event["day"] for event in here.events("report")] == ["2026-11-22", "2026-11-23"]


def test_a_repeated_report_has_the_same_bytes(plant):
    """The report is a function of the raw log: repeated later, it is the same file."""
    here = plant(start=MIDNIGHT - 500)
    here.tick(40)
    here.clock.now = MIDNIGHT + 3600
    (path,) = here.night()
    first = path.read_bytes()
    here.clock.now += 1e6
    assert write_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22").read_bytes() == first


def test_a_reported_day_is_not_appended_to(plant):
    """The raw log of a reported day does not change after the clock is set back, nor after a restart."""
    here = plant(start=MIDNIGHT - 30)
    here.tick(2)
    here.clock.now = MIDNIGHT + 301
    assert here.night()
    before = here.bytes_of("raw")["2026-11-22"]
    here.clock.now = MIDNIGHT - 10
    here.tick()
    here.open()
    here.tick()
    assert here.bytes_of("raw")["2026-11-22"] == before
    assert len(here.records("raw")) == 4


def test_the_settings_of_the_last_line_apply(plant):
    """A threshold changed during the day applies to its whole report; one changed after the day does not."""
    here = plant(start=MIDNIGHT - 100)
    here.tick(3)
    here.config["report"] = {"threshold": 0.01}
    here.open()
    here.tick(3)
    here.config["report"] = {"threshold": 0.9}
    here.open()
    here.pipeline.writer.tick()
    here.clock.now = MIDNIGHT + 301
    here.tick()
    assert orjson.loads(here.night()[0].read_bytes())["threshold"] == 0.01


@pytest.mark.parametrize("detectors", [[], ["telemetry"]])
def test_the_page_is_written_before_the_report(plant, caplog, monkeypatch, detectors):
    """The page receives the report and the series of each machine; if it fails, the report is written without it."""
    here = plant(start=MIDNIGHT - 500, report={"detectors": detectors})
    here.tick(3)
    report_path, page_path = here.folder.report_path("2026-11-22"), here.folder.page_path("2026-11-22")
    calls = []

    def page(report, series, units):
        assert not report_path.exists()
        calls.append((report, series, dict(units)))
        return b"a page"

    monkeypatch.setattr(pages, "report_page", page)
    write_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22")
    ((report, series, _),) = calls
    assert report == orjson.loads(report_path.read_bytes())
    raw = here.records("raw")
    (segments,) = series
    assert list(segments) == ["temperature", "speed"]
    (readings,) = segments["speed"]
    assert [time for time, _ in readings] == pytest.approx([MIDNIGHT - 500 + 10 * n for n in range(3)])
    assert [value for _, value in readings] == [line["fan_speed"] for line in raw]
    assert page_path.read_bytes() == b"a page"
    report_path.unlink()
    monkeypatch.setattr(pages, "report_page", lambda *_: b"%d" % (1 // 0))
    write_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22")
    assert orjson.loads(report_path.read_bytes()) == report
    assert "cannot be rendered" in caplog.text


def test_the_commands_write_the_page_too(plant):
    """`etl report` and `etl rebuild` write the page beside the report; a page does not count as a report."""
    here = plant(start=MIDNIGHT - 500)
    here.tick(3)
    here.close()
    loaded = here.loaded._replace(config=msgspec.structs.replace(here.loaded.config, units={"speed": "rpm"}))
    assert report_command(loaded, "2026-11-22") == 0
    page = here.folder.page_path("2026-11-22")
    assert b"Report of Sunday, 22 November 2026" in page.read_bytes()
    assert b"(rpm)" in page.read_bytes()
    page.unlink()
    here.folder.report_path("2026-11-22").write_bytes(b"{}")
    assert rebuild(loaded) == 0
    assert b"(rpm)" in page.read_bytes()
    assert here.folder.reports() == ["2026-11-22"]


HOSTILE = [
    b'"id":1,"name":' + b"[" * 252 + b"]" * 252,
    b'"id":%d' % 10**30,
    b'"id":1,"timestamp":%d' % 10**30,
    b'"id":1,"timestamp":"\xff"',
    b'"id":1,"status":1e999',
    b'"id":1,"x":"\xff"',
]


@pytest.mark.parametrize("fields", HOSTILE)
def test_a_day_with_hostile_lines_has_a_report(plant, fields):
    """Whatever a line contains, the report counts exactly the lines that have averages, and can be written."""
    here = plant(start=MIDNIGHT - 100)
    here.tick(3)
    here.close()
    with here.folder.path("raw", "2026-11-22").open("ab") as log:
        log.write(b'{%s,"temperature":90,"_source":"a","_polled_at":"2026-11-22T23:59:59.000Z"}\n' % fields)
    report = orjson.loads(write_report(SettingsLog(here.folder, here.loaded.settings), "2026-11-22").read_bytes())
    averages = list(Derivation(SettingsLog(here.folder, here.loaded.settings)).day("2026-11-22"))
    assert sum(machine["readings"] for machine in report["machines"]) == len(averages)


def test_a_day_that_cannot_be_reported_does_not_stop_the_others(plant, caplog):
    """A report that cannot be made is logged and recorded once; the other days are reported."""
    here = plant(start=MIDNIGHT - 100)
    here.tick(3)
    here.clock.now = MIDNIGHT + 86_300
    here.tick(3)
    here.clock.now = MIDNIGHT + 2 * 86_400
    here.tick(1)

    def failing(job):
        if job.day == "2026-11-22":
            raise ValueError("a damaged line")
        return report_here(job)

    night = Night(here.pipeline, failing)
    assert [Path(result.path).stem for result in night.report_due_days()] == ["2026-11-23"]
    assert list(night.report_due_days()) == []
    here.tick(1)
    assert [event["day"] for event in here.events("report") if event["reason"] == "failed"] == ["2026-11-22"]
    assert caplog.text.count("cannot be made") == 1


def test_a_damaged_compressed_day_does_not_stop_etl_report(plant, caplog):
    """`etl report` logs that the raw log is damaged and exits with 1; the next day has its report."""
    here = plant(start=MIDNIGHT - 100)
    here.tick(3)
    here.clock.now = MIDNIGHT + 86_300
    here.tick(3)
    here.close()
    here.folder.path("raw", "2026-11-22").unlink()
    here.folder.packed_path("raw", "2026-11-22").write_bytes(b"no gzip")
    for day, code in (("2026-11-22", 1), ("2026-11-23", 0)):
        assert report_command(here.loaded, day) == code
    assert caplog.text.count("cannot be made") == 1
