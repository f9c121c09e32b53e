"""Verify: reports that do not follow from the raw log are found."""

from __future__ import annotations

import re
import shutil

import orjson
import pytest

from etl.nightly.report import encode
from etl.storage.settings_log import SettingsLog
from tests.support.folders import FIVE, prove, small, wrong_in
from tests.support.reports import make_report


def leaves(value, path=()):
    """The places of all plain values in a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


def dicts(value, path=()):
    """The places of all objects in a JSON value."""
    if isinstance(value, dict):
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from dicts(value[key], (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def other(value):
    """A JSON value that is nearly the same."""
    if isinstance(value, float):
        return value * (1 + 2**-52) or 5e-324
    return value + 1 if isinstance(value, int) else f"{value}x"


@pytest.fixture
def reported(tmp_path):
    """A function that changes the report of a folder and returns the findings about it."""
    folder = small(tmp_path, lines=9, machines=2)
    path = folder.report_path("2026-11-23")

    def found(change):
        report = orjson.loads(encode(make_report(SettingsLog(folder, FIVE), "2026-11-23")))
        change(report)
        path.write_bytes(orjson.dumps(report))
        return [text.removeprefix(f"{path}: ") for text in wrong_in(folder)]

    found.report = orjson.loads(path.read_bytes())
    return found


def test_every_changed_figure_of_a_report_is_found(reported):
    """A change of any value by the last bit, its removal, and a list in its place are each wrong."""
    for path in leaves(reported.report):

        def change(report, path=path):
            at(report, path[:-1])[path[-1]] = other(at(report, path))

        def remove(report, path=path):
            del at(report, path[:-1])[path[-1]]

        def empty(report, path=path):
            at(report, path[:-1])[path[-1]] = [at(report, path)]

        assert reported(change), path
        assert reported(remove), path
        assert reported(empty), path
    assert len(list(leaves(reported.report))) > 40


def test_further_keys_may_stand_beside_those_of_the_contract(reported):
    """Keys outside the contract are accepted everywhere but in an anomaly."""
    for path in dicts(reported.report):
        found = reported(lambda report, path=path: at(report, path).update(more={"x": [1]}))
        assert bool(found) == ("anomalies" in path), path
        if found:
            assert re.match(r"machines\[\d\]\.parameters\.\w+\.anomalies\[\d\]\.more is surplus", found[0])


TEMPERATURE = "machines[0].parameters.temperature"


def test_a_report_with_other_machines_or_anomalies_is_wrong(reported):
    """Machines and anomalies that are missing, surplus or in another order are reported."""
    changes = {
        "machines[0].id is 1, expected 0": lambda r: r["machines"].reverse(),
        "machines has 1 item, expected 2": lambda r: r["machines"].pop(),
        "machines has 3 items, expected 2": lambda r: r["machines"].append(r["machines"][0]),
        f"{TEMPERATURE}.anomalies[0].timestamp is ": lambda r: temperatures(r).reverse(),
        f"{TEMPERATURE}.anomalies has 3 items, expected 4": lambda r: temperatures(r).pop(),
        f"{TEMPERATURE}.anomalies has 5 items, expected 4": lambda r: temperatures(r).append(temperatures(r)[0]),
        f"{TEMPERATURE}.anomalies is null, expected a list": lambda r: figures(r).update(anomalies=None),
        f"{TEMPERATURE}.average is null, expected 44.25": lambda r: figures(r).update(average=None),
        f"{TEMPERATURE} is missing": lambda r: r["machines"][0]["parameters"].pop("temperature"),
        "machines[0].id is false, expected 0": lambda r: r["machines"][0].update(id=False),
        'date is "2026-11-24", expected "2026-11-23"': lambda r: r.update(date="2026-11-24"),
    }
    for text, change in changes.items():
        assert reported(change)[0].startswith(text)


def figures(report):
    return report["machines"][0]["parameters"]["temperature"]


def temperatures(report):
    return figures(report)["anomalies"]


def test_a_report_with_equal_values_is_sound(reported):
    """Layout does not matter, and 100 equals 100.0."""

    def change(report):
        for machine in report["machines"]:
            machine["parameters"]["speed"]["average"] = 100

    assert reported(change) == []


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"date":"2026-11-23"}', b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_report_is_wrong(tmp_path, text):
    """A report that is not JSON or lacks keys of the contract is wrong."""
    folder = small(tmp_path)
    folder.report_path("2026-11-23").write_bytes(text)
    found = wrong_in(folder)
    assert found
    assert all(line.startswith(f"{folder.report_path('2026-11-23')}: ") for line in found)


def test_a_report_newer_than_every_reading_is_wrong(past):
    """A report of a later day than every reading is wrong: new readings would go to the day after it."""
    here = past()
    shutil.copy(here.folder.report_path("2026-11-24"), here.folder.report_path("2030-01-01"))
    (wrong,) = prove(here)[0]
    assert wrong.startswith("reports/2030-01-01.json: newer than every reading, ")
