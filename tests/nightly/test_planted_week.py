"""The reports of a week of six machines with five planted faults."""

from __future__ import annotations

from datetime import datetime

import orjson
import pytest

from etl.pages.headline import headline
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog
from tests.support.golden import assert_same_page, golden, rounded
from tests.support.planted_week import DAYS, FAULTS, SETTINGS, write_week
from tests.support.reports import write_report

TOLERANCE_S = 120.0


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """The folder of the week with its reports."""
    folder = Folder(tmp_path_factory.mktemp("week"))
    write_week(folder)
    for day in DAYS:
        write_report(SettingsLog(folder, SETTINGS), day)
    return folder


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def report(folder: Folder, day: str) -> dict:
    return orjson.loads(folder.report_path(day).read_bytes())


def entries(folder: Folder, day: str):
    """Machine, parameter ("" for the machine itself) and entry of a report."""
    for machine in report(folder, day)["machines"]:
        yield machine["source"], "", machine
        for name, entry in machine["parameters"].items():
            yield machine["source"], name, entry


def incidents(folder: Folder) -> list[tuple[str, str, str, dict]]:
    """Day, machine, parameter and incident of all reports."""
    return [(day, machine, name, incident) for day in DAYS for machine, name, entry in entries(folder, day)
            for incident in entry.get("incidents", ())]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.machine)
def test_each_fault_is_one_incident_with_its_true_times(week, fault):
    """Each report of the fault's days has it once, from its true start to its true end, or the end of the day."""
    matches = [(day, incident) for day, machine, name, incident in incidents(week)
               if (machine, name) == (fault.machine, fault.parameter)]  # fmt: skip
    assert [day for day, _ in matches] == fault.days
    for day, incident in matches:
        end = min(fault.end, seconds_of(f"{day}T23:59:59Z"))
        assert abs(seconds_of(incident["start"]) - fault.start) <= TOLERANCE_S
        assert abs(seconds_of(incident["end"]) - end) <= TOLERANCE_S


def test_nothing_else_is_an_incident(week):
    """Every incident of the week is one of the planted faults."""
    planted = {(fault.machine, fault.parameter) for fault in FAULTS}
    assert [each for each in incidents(week) if each[1:3] not in planted] == []


def test_the_incidents_and_notes_of_the_week_are_the_golden_ones(week, request):
    """What a maintenance engineer reads of each day, and the page of the day with a silence."""
    days = {
        day: {"headline": headline(report(week, day))}
        | {
            f"{machine} {name}".strip(): {key: entry[key] for key in ("incidents", "notes") if entry.get(key)}
            for machine, name, entry in entries(week, day)
            if entry.get("incidents") or entry.get("notes")
        }
        for day in DAYS
    }
    page = week.page_path("2026-11-26").read_bytes()
    texts = orjson.dumps(days, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    expected = golden("week", {"incidents.json": texts, "2026-11-26.html": page}, request)
    assert rounded(days) == rounded(orjson.loads(expected["incidents.json"]))
    assert_same_page(page, expected["2026-11-26.html"])
