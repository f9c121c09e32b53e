"""Consecutive nights: incidents in the reports, the history from night to night, and how it is recomputed."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime, timedelta

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.analysis.past import RULES
from etl.audit.findings import Finding
from etl.audit.rebuild import rebuild
from etl.audit.verify import Proof
from etl.nightly.executors import Mapper
from etl.nightly.history import newest_stored
from etl.nightly.report import contract, encode, make
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog
from tests.support.columns import columns
from tests.support.reports import make_report, write_report

START = datetime(2026, 11, 20, tzinfo=UTC)
DAYS = [f"2026-11-{day}" for day in range(20, 24)]
FIELDS = {"temperature": "temperature", "speed": "fan_speed"}
JUDGED = Settings(5, FIELDS, "UTC", 60.0, 0.2, ("telemetry", "status_band"))
PLAIN = msgspec.structs.replace(JUDGED, detectors=())


def at(text: str) -> float:
    """A moment such as "21 12:00" of November 2026."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()


def reading(dice: random.Random, moment: float) -> dict | None:
    """The reading of a press at a moment: two normal days, then faults."""
    heat, speed = dice.gauss(50, 1), dice.gauss(800, 10)
    if moment == at("22 06:00"):
        heat += 40
    if at("22 10:00") <= moment < at("22 14:00"):
        speed = 801.5
    if at("22 16:00") <= moment < at("22 17:00"):
        return None
    if moment >= at("22 23:55"):
        heat += 40
    if at("23 20:00") <= moment:
        return None
    return {"id": 7, "temperature": round(heat, 2), "fan_speed": round(speed, 1), "status": "STARTED"}


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    """A folder with four days of a press, once a minute, and its reports, night by night."""
    folder = Folder(tmp_path_factory.mktemp("plant"))
    folder.path("raw", DAYS[0]).parent.mkdir()
    dice = random.Random(1)
    for number, day in enumerate(DAYS):
        moments = [(START + timedelta(days=number, minutes=minute)).timestamp() for minute in range(1440)]
        sent = [(moment, reading(dice, moment)) for moment in moments]
        lines = [raw_line(fields, "press", moment) for moment, fields in sent if fields]
        folder.path("raw", day).write_bytes(b"".join(lines))
        write_report(SettingsLog(folder, JUDGED), day)
    return folder


@pytest.fixture
def copy(plant, tmp_path):
    return Folder(shutil.copytree(plant.root, tmp_path / "copy"))


def incident_times(folder: Folder, day: str) -> dict[str, list[tuple[str, str, str]]]:
    """The incidents of a day's report: detector, start and end ("22 06:00"), of each parameter and the machine."""
    (machine,) = orjson.loads(folder.report_path(day).read_bytes())["machines"]
    entries = {**machine["parameters"], "": machine}
    return {
        name: [
            (incident["detector"], *(incident[key][8:16].replace("T", " ") for key in ("start", "end")))
            for incident in entry["incidents"]
        ]
        for name, entry in entries.items()
    }


def reports(folder: Folder) -> list[bytes]:
    return [folder.report_path(day).read_bytes() for day in DAYS]


def report_findings(folder: Folder) -> list[Finding]:
    """The findings of verify about reports."""
    return [finding for finding in Proof(SettingsLog(folder, JUDGED), []).findings() if "/reports" in finding.text]


def test_a_spike_a_stuck_sensor_a_silence_and_a_new_level_are_incidents(plant):
    """Each fault is one incident; one that is open at midnight has the same start in the next report."""
    quiet = {"temperature": [], "speed": [], "": []}
    assert incident_times(plant, DAYS[0]) == incident_times(plant, DAYS[1]) == quiet
    assert incident_times(plant, DAYS[2]) == {
        "temperature": [("telemetry", "22 06:00", "22 06:01"), ("telemetry", "22 23:55", "22 23:59")],
        "speed": [("telemetry", "22 10:00", "22 13:59")],
        "": [("silence", "22 15:59", "22 17:00")],
    }
    last = incident_times(plant, DAYS[3])
    assert [start for _, start, _ in last["temperature"]] == ["22 23:55"]
    assert (last["speed"], last[""]) == ([], [("silence", "23 19:59", "24 00:00")])


def test_the_keys_of_an_incident(plant):
    """An incident has these keys, and a sentence with its figures."""
    (machine,) = orjson.loads(plant.report_path(DAYS[2]).read_bytes())["machines"]
    spike, _ = machine["parameters"]["temperature"]["incidents"]
    assert list(spike) == ["start", "end", "readings", "peak", "expected", "deviation", "detector", "why"]
    assert (spike["start"], spike["readings"]) == ("2026-11-22T06:00:00.000Z", 2)
    low, high = spike["expected"]
    assert low < 50 < high < spike["peak"]
    assert f"{spike['peak']:.2f} is outside" in spike["why"]


@pytest.mark.parametrize("lost", ["missing", "damaged", "not text", "of other detectors", "of other rules"])
def test_a_lost_history_is_recomputed(copy, lost, monkeypatch):
    """A history that is missing, damaged or of other inputs is recomputed, and the report is the same."""
    path = copy.history_path(DAYS[2])
    history, expected = path.read_bytes(), reports(copy)
    for day in copy.histories():
        if lost == "missing":
            copy.history_path(day).unlink()
        elif lost == "damaged":
            copy.history_path(day).write_bytes(history[:-1])
        elif lost == "not text":
            copy.history_path(day).write_bytes(history.replace(b"temperature", b"temp\xffrature"))
    if lost == "of other detectors":
        for day in DAYS:
            write_report(SettingsLog(copy, msgspec.structs.replace(JUDGED, detectors=("history_mad",))), day)
    if lost == "of other rules":
        with monkeypatch.context() as patch:
            patch.setattr("etl.nightly.history.RULES", RULES + 1)
            for day in DAYS:
                write_report(SettingsLog(copy, JUDGED), day)
    assert write_report(SettingsLog(copy, JUDGED), DAYS[3]).read_bytes() == expected[3]
    assert write_report(SettingsLog(copy, JUDGED), DAYS[2]).read_bytes() == expected[2]
    assert path.read_bytes() == history


def test_a_history_with_a_flipped_bit_is_not_used(copy):
    """Wherever the bit is, the history before it is used."""
    path = copy.history_path(DAYS[2])
    whole = path.read_bytes()
    assert newest_stored(copy, DAYS[0], DAYS[3], JUDGED).day == DAYS[2]
    for place in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert newest_stored(copy, DAYS[0], DAYS[3], JUDGED).day == DAYS[1]


def test_the_histories_of_the_last_days_are_kept(copy):
    """Three histories are kept; a repeated report of an older day does not change them."""
    assert copy.histories() == DAYS[1:]
    write_report(SettingsLog(copy, JUDGED), DAYS[0])
    assert copy.histories() == DAYS[1:]
    assert copy.reports() == DAYS


def test_the_number_of_parts_changes_nothing(copy):
    """A day read in several parts has the same report and the same history."""
    whole, split = (make(SettingsLog(copy, JUDGED), DAYS[3], Mapper(parts, map)) for parts in (1, 3))
    assert encode(whole.report) == encode(split.report) == reports(copy)[3]
    assert whole.history == split.history


def test_rebuild_makes_the_same_reports(copy):
    """Rebuild makes the same bytes from the raw log alone; verify proves them and writes nothing."""
    expected = reports(copy)
    shutil.rmtree(copy.reports_path)
    list(rebuild(SettingsLog(copy, JUDGED), DAYS, (), lambda *_, **__: None))
    assert reports(copy) == expected
    shutil.rmtree(copy.reports_path / "history")
    assert report_findings(copy) == []
    assert copy.histories() == []


def test_a_changed_incident_is_a_note_of_verify_and_rebuilt(copy):
    """Verify reports a changed incident as a note, not as wrong, and rebuild restores it."""
    expected = reports(copy)
    copy.report_path(DAYS[2]).write_bytes(expected[2].replace(b'"readings": 2,', b'"readings": 3,', 1))
    (finding,) = report_findings(copy)
    assert not finding.wrong
    assert "temperature.incidents[0].readings is 3, expected 2" in finding.text
    list(rebuild(SettingsLog(copy, JUDGED), [], (), lambda *_, **__: None))
    assert reports(copy) == expected


def test_incidents_without_the_raw_logs_before_them_stay(copy):
    """If earlier days were deleted, rebuild keeps a report with right figures as it is."""
    expected = reports(copy)
    shutil.rmtree(copy.reports_path / "history")
    for day in DAYS[:3]:
        copy.path("raw", day).unlink()
    assert [finding.text.partition(": ")[2] for finding in report_findings(copy)] == [
        "3 days without a raw log cannot be checked: 2026-11-20 to 2026-11-22"
    ]
    list(rebuild(SettingsLog(copy, JUDGED), [], (), lambda *_, **__: None))
    assert reports(copy) == expected


def test_the_last_history_replaces_the_raw_logs_before_it(copy):
    """Without the raw logs of the days before, the stored history gives the same report."""
    for day in DAYS[:3]:
        copy.path("raw", day).unlink()
    assert encode(make_report(SettingsLog(copy, JUDGED), DAYS[3])) == reports(copy)[3]


def test_a_day_that_is_not_over_has_no_silence_until_its_end(copy):
    """No machine is silent after the moment the report is made."""
    (machine,) = make(SettingsLog(copy, JUDGED), DAYS[3], until=at("23 20:01")).report["machines"]
    assert machine["incidents"] == []


def test_a_silence_of_a_whole_day_is_an_incident_of_the_day_it_ends_in(copy):
    """The machine has no entry on the day between, and the silence has its first start."""
    lines = copy.path("raw", DAYS[1]).read_bytes().splitlines(keepends=True)
    other = [raw_line({}, "other", at(f"{day} 12:00")) for day in (20, 22)]
    copy.path("raw", DAYS[0]).write_bytes(other[0])
    copy.path("raw", DAYS[1]).write_bytes(b"".join(lines))
    copy.path("raw", DAYS[2]).write_bytes(other[1])
    shutil.rmtree(copy.reports_path)
    for day in DAYS[:3]:
        write_report(SettingsLog(copy, JUDGED), day)
    assert incident_times(copy, DAYS[1])[""] == []
    assert incident_times(copy, DAYS[2])[""][0] == ("silence", "20 12:00", "22 12:00")


statuses = st.sampled_from(["IDLE", "STARTED", None, 3, True, ["a"], {"b": 1}]) | st.text(max_size=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(columns, columns, statuses), max_size=6), st.sampled_from([1.0, 60.0, 7200.0]))
def test_detectors_do_not_change_the_figures(tmp_path_factory, runs, interval):
    """For any readings, a report without its detector keys equals the report made without detectors."""
    folder = Folder(tmp_path_factory.mktemp("day"))
    folder.path("raw", DAYS[0]).parent.mkdir()
    moment = at("20 00:00")
    for day in DAYS[:2]:
        lines = []
        for temperatures, speeds, status in runs:
            for temperature, speed in zip(temperatures * 9, speeds * 9, strict=False):
                moment += interval
                lines.append(raw_line({"temperature": temperature, "fan_speed": speed, "status": status}, "a", moment))
        folder.path("raw", day).write_bytes(b"".join(lines))
        detected = make(
            SettingsLog(folder, msgspec.structs.replace(JUDGED, detectors=("telemetry", "status_band", "history_mad"))),
            day,
        )
        plain = make_report(SettingsLog(folder, PLAIN), day)
        assert encode(contract(detected.report)) == encode(plain)
        assert contract(plain) == plain


def test_a_report_without_detectors_has_no_detector_keys(copy):
    """With `report.detectors: []` a report has neither rules nor incidents nor notes."""
    report = make_report(SettingsLog(copy, PLAIN), DAYS[3])
    assert contract(report) == report
    assert "rules" not in report


def test_figures_of_incidents_are_rounded(copy):
    """Deviations have 6 significant digits, ranges as many as 4 of their width; the peak is the reading's value."""
    (machine,) = make_report(SettingsLog(copy, JUDGED), DAYS[2])["machines"]
    for parameter in machine["parameters"].values():
        for incident in parameter["incidents"]:
            low, high = incident["expected"]
            assert float(f"{incident['deviation']:.6g}") == incident["deviation"]
            assert float(f"{high - low:.4g}") == pytest.approx(high - low, rel=1e-9)
    assert machine["parameters"]["speed"]["incidents"][0]["peak"] == 801.5


@pytest.mark.parametrize("rules", [None, 0, RULES + 1, "x"])
def test_verify_does_not_compare_incidents_of_other_rules(copy, rules):
    """A report of other rules, or of version 0.1 without rules, has a note if it has incidents; it is not wrong."""
    report = orjson.loads(copy.report_path(DAYS[2]).read_bytes())
    report["machines"][0]["incidents"] = []
    report |= {"rules": rules}
    if rules is None:
        del report["rules"]
    copy.report_path(DAYS[2]).write_bytes(encode(report))
    (finding,) = report_findings(copy)
    assert not finding.wrong
    assert f"not today's {RULES}; they are not compared" in finding.text
    list(rebuild(SettingsLog(copy, JUDGED), [], (), lambda *_, **__: None))
    assert report_findings(copy) == []


def test_a_detector_that_was_removed_is_ignored(copy):
    """Under settings of an earlier version that name it, a report has the incidents of the others."""
    older = msgspec.structs.replace(JUDGED, detectors=("telemetry", "history_mad"))
    same = msgspec.structs.replace(JUDGED, detectors=("telemetry",))
    incidents = [contract_free(make(SettingsLog(copy, settings), DAYS[2]).report) for settings in (older, same)]
    assert incidents[0] == incidents[1] != []


def contract_free(report: dict) -> list:
    """The incidents of the parameters."""
    return [parameter["incidents"] for machine in report["machines"] for parameter in machine["parameters"].values()]
