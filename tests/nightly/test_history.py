"""Nights in a row: incidents in the report, what passes from one night to the next, and what finds it again."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.audit.findings import Finding
from etl.audit.rebuild import rebuild
from etl.audit.verify import Proof
from etl.nightly.executors import Executing
from etl.nightly.history import stored
from etl.nightly.report import contract, encode, make, make_report, write_report
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog
from tests.support.columns import columns

START = datetime(2026, 11, 20, tzinfo=UTC)
DAYS = [f"2026-11-{day}" for day in range(20, 24)]
FIELDS = {"temperature": "temperature", "speed": "fan_speed"}
JUDGED = Settings(5, FIELDS, "UTC", 60.0, 0.2, ("telemetry", "status_band"))
PLAIN = msgspec.structs.replace(JUDGED, detectors=())


def at(text: str) -> float:
    """A moment such as "21 12:00" of November 2026."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()


def reading(dice: random.Random, moment: float) -> dict | None:
    """What the press sends at a moment: two quiet days, then faults."""
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
        lines = [raw_line(one, "press", moment) for moment, one in sent if one]
        folder.path("raw", day).write_bytes(b"".join(lines))
        write_report(SettingsLog(folder, JUDGED), day)
    return folder


@pytest.fixture
def copy(plant, tmp_path):
    return Folder(shutil.copytree(plant.root, tmp_path / "copy"))


def told(folder: Folder, day: str) -> dict[str, list[tuple[str, str, str]]]:
    """The incidents of a day's report: detector, start and end ("22 06:00"), of each parameter and the machine."""
    (machine,) = orjson.loads(folder.report_path(day).read_bytes())["machines"]
    of = {name: one["incidents"] for name, one in machine["parameters"].items()} | {"": machine["incidents"]}
    return {
        name: [(one["detector"], *(one[end][8:16].replace("T", " ") for end in ("start", "end"))) for one in some]
        for name, some in of.items()
    }


def reports(folder: Folder) -> list[bytes]:
    return [folder.report_path(day).read_bytes() for day in DAYS]


def found(folder: Folder) -> list[Finding]:
    """What verify finds of the reports."""
    return [finding for finding in Proof(SettingsLog(folder, JUDGED), []).findings() if "/reports" in finding.text]


def test_the_report_tells_a_spike_a_stuck_sensor_a_silence_and_a_new_level(plant):
    """Each fault is one incident; one that is open at midnight keeps its start in the next report."""
    quiet = {"temperature": [], "speed": [], "": []}
    assert told(plant, DAYS[0]) == told(plant, DAYS[1]) == quiet
    assert told(plant, DAYS[2]) == {
        "temperature": [("telemetry", "22 06:00", "22 06:00"), ("telemetry", "22 23:55", "22 23:59")],
        "speed": [("telemetry", "22 11:00", "22 13:59")],
        "": [("silence", "22 15:59", "22 17:00")],
    }
    last = told(plant, DAYS[3])
    assert [start for _, start, _ in last["temperature"]] == ["22 23:55"]
    assert (last["speed"], last[""]) == ([], [("silence", "23 19:59", "24 00:00")])


def test_an_incident_says_what_was_compared(plant):
    """Its keys, and a sentence with the figures."""
    (machine,) = orjson.loads(plant.report_path(DAYS[2]).read_bytes())["machines"]
    spike, _ = machine["parameters"]["temperature"]["incidents"]
    assert list(spike) == ["start", "end", "readings", "peak", "expected", "deviation", "detector", "why"]
    assert (spike["start"], spike["readings"]) == ("2026-11-22T06:00:00.000Z", 1)
    low, high = spike["expected"]
    assert low < 50 < high < spike["peak"]
    assert f"{spike['peak']:.1f} is far outside" in spike["why"]


@pytest.mark.parametrize("lost", ["gone", "damaged", "no text", "of other detectors"])
def test_a_history_that_is_lost_is_found_in_the_raw_log(copy, lost):
    """Missing, damaged or of other settings, it is made again, and gives the same report and the same history."""
    path = copy.history_path(DAYS[2])
    history, expected = path.read_bytes(), reports(copy)
    for day in copy.histories():
        if lost == "gone":
            copy.history_path(day).unlink()
        elif lost == "damaged":
            copy.history_path(day).write_bytes(history[:-1])
        elif lost == "no text":
            copy.history_path(day).write_bytes(history.replace(b"temperature", b"temp\xffrature"))
    if lost == "of other detectors":
        for day in DAYS:
            write_report(SettingsLog(copy, msgspec.structs.replace(JUDGED, detectors=("history_mad",))), day)
    assert write_report(SettingsLog(copy, JUDGED), DAYS[3]).read_bytes() == expected[3]
    assert write_report(SettingsLog(copy, JUDGED), DAYS[2]).read_bytes() == expected[2]
    assert path.read_bytes() == history


def test_one_flipped_bit_of_a_history_is_seen(copy):
    """It is not used, wherever the bit is: the one before it is."""
    path = copy.history_path(DAYS[2])
    whole = path.read_bytes()
    assert stored(copy, DAYS[0], DAYS[3], JUDGED).day == DAYS[2]
    for place in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert stored(copy, DAYS[0], DAYS[3], JUDGED).day == DAYS[1]


def test_histories_of_the_last_days_are_kept_and_are_no_reports(copy):
    """Three of them; a report made again for an older day leaves them alone."""
    assert copy.histories() == DAYS[1:]
    write_report(SettingsLog(copy, JUDGED), DAYS[0])
    assert copy.histories() == DAYS[1:]
    assert copy.reports() == DAYS


def test_the_raw_log_and_the_splitting_alone_decide(copy):
    """However many parts a day is read in, its report and what passes on are the same."""
    one, three = (
        make(SettingsLog(copy, JUDGED), DAYS[3], executing) for executing in (Executing(1, map), Executing(3, map))
    )
    assert encode(one.report) == encode(three.report) == reports(copy)[3]
    assert one.history == three.history


def test_rebuild_makes_the_same_reports_and_verify_proves_them(copy):
    """From the raw log alone rebuild makes the same bytes; verify writes nothing."""
    expected = reports(copy)
    shutil.rmtree(copy.reports_path)
    list(rebuild(SettingsLog(copy, JUDGED), DAYS, False, lambda *_, **__: None))
    assert reports(copy) == expected
    shutil.rmtree(copy.reports_path / "history")
    assert found(copy) == []
    assert copy.histories() == []


def test_an_incident_that_does_not_follow_is_told_and_made_anew(copy):
    """Verify tells it, but does not call it wrong, as only the figures follow from the day alone."""
    expected = reports(copy)
    copy.report_path(DAYS[2]).write_bytes(expected[2].replace(b'"readings": 1,', b'"readings": 2,', 1))
    (finding,) = found(copy)
    assert not finding.wrong
    assert "temperature.incidents[0].readings is 2, expected 1" in finding.text
    list(rebuild(SettingsLog(copy, JUDGED), [], False, lambda *_, **__: None))
    assert reports(copy) == expected


def test_incidents_that_nothing_proves_any_more_stay(copy):
    """Where the days before were deleted, rebuild leaves a report whose figures are right as it is."""
    expected = reports(copy)
    shutil.rmtree(copy.reports_path / "history")
    for day in DAYS[:3]:
        copy.path("raw", day).unlink()
    assert [finding.text.partition(": ")[2] for finding in found(copy)] == [
        "3 days without a raw log cannot be checked: 2026-11-20 to 2026-11-22"
    ]
    list(rebuild(SettingsLog(copy, JUDGED), [], False, lambda *_, **__: None))
    assert reports(copy) == expected


def test_the_last_history_is_enough(copy):
    """With keep_days the raw log of the days before is gone: what was kept gives the same report."""
    for day in DAYS[:3]:
        copy.path("raw", day).unlink()
    assert encode(make_report(SettingsLog(copy, JUDGED), DAYS[3])) == reports(copy)[3]


def test_a_day_that_is_not_over_has_no_silence_until_its_end(copy):
    """Nothing is silent after the moment the report is made."""
    (machine,) = make(SettingsLog(copy, JUDGED), DAYS[3], until=at("23 20:01")).report["machines"]
    assert machine["incidents"] == []


def test_a_machine_that_was_silent_for_a_whole_day_is_told_when_it_is_back(copy):
    """It has no entry in between, and its silence has the start it had."""
    lines = copy.path("raw", DAYS[1]).read_bytes().splitlines(keepends=True)
    other = [raw_line({}, "other", at(f"{day} 12:00")) for day in (20, 22)]
    copy.path("raw", DAYS[0]).write_bytes(other[0])
    copy.path("raw", DAYS[1]).write_bytes(b"".join(lines))
    copy.path("raw", DAYS[2]).write_bytes(other[1])
    shutil.rmtree(copy.reports_path)
    for day in DAYS[:3]:
        write_report(SettingsLog(copy, JUDGED), day)
    assert told(copy, DAYS[1])[""] == []
    assert told(copy, DAYS[2])[""][0] == ("silence", "20 12:00", "22 12:00")


statuses = st.sampled_from(["IDLE", "STARTED", None, 3, True, ["a"], {"b": 1}]) | st.text(max_size=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(columns, columns, statuses), max_size=6), st.sampled_from([1.0, 60.0, 7200.0]))
def test_detectors_change_nothing_of_the_figures(tmp_path_factory, runs, interval):
    """Whatever machines send, without their incidents and notes reports are what they are without detectors."""
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
        judged = make(
            SettingsLog(folder, msgspec.structs.replace(JUDGED, detectors=("telemetry", "status_band", "history_mad"))),
            day,
        )
        plain = make_report(SettingsLog(folder, PLAIN), day)
        assert encode(contract(judged.report)) == encode(plain)
        assert contract(plain) == plain


def test_without_detectors_they_are_not_loaded(copy):
    """`report.detectors: []` costs what the figures cost, and gives no incidents."""
    code = (
        "import sys; from pathlib import Path; from etl.storage.folder import Folder\n"
        "from etl.nightly.report import write_report\n"
        "from etl.readings.records import Settings\n"
        "from etl.storage.settings_log import SettingsLog\n"
        f"settings = Settings(5, {FIELDS!r}, 'UTC', 60.0, 0.2)\n"
        f"write_report(SettingsLog(Folder(Path({str(copy.root)!r})), settings), {DAYS[3]!r})\n"
        "sys.exit('etl.analysis.detectors' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert "incidents" not in orjson.loads(copy.report_path(DAYS[3]).read_bytes())["machines"][0]
