"""The report of the day so far, and the summaries of stored reports."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import orjson
import pytest

from etl.nightly import column_store
from etl.nightly.on_demand import answers, stored_reports
from etl.nightly.on_demand.answers import MAX_RAW_BYTES, answer
from etl.nightly.on_demand.orders import DayOrder, SummariesOrder
from etl.nightly.report import encode, make
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog
from tests.support.planted_week import DAYS, SETTINGS, at, write_week
from tests.support.reports import write_report

PLAIN = Settings(5, {"temperature": "temperature"}, "UTC", 10.0, 0.2)


def day_so_far(folder: Folder, day: str, now: float, settings: Settings = SETTINGS):
    """The head of the answer, the report and its page."""
    head, parts = answer(DayOrder(str(folder.root), settings, {}, now, day))
    return (head, orjson.loads(parts[0]), parts[1].decode()) if parts else (head, None, None)


def summaries(folder: Folder, since: str = "2026-11-22") -> dict:
    _, (content,) = answer(SummariesOrder(str(folder.root), SETTINGS, {}, 0.0, since))
    return json.loads(content)


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    """The planted week, with the reports of all days but the last two."""
    folder = Folder(tmp_path_factory.mktemp("week"))
    write_week(folder)
    for day in DAYS[:5]:
        write_report(SettingsLog(folder, SETTINGS), day)
    return folder


@pytest.fixture
def until_noon(week, tmp_path):
    """The week until the noon of its fifth day, without that day's report; and that moment."""
    now = at("26 12:00") + 1
    for kind in ("raw", "reports"):
        (tmp_path / kind).mkdir()
        for path in (week.root / kind).iterdir():
            if path.is_file() and path.name < "2026-11-26":
                os.link(path, tmp_path / kind / path.name)
    (tmp_path / "reports" / "history").mkdir()
    history = week.history_path("2026-11-25")
    os.link(history, tmp_path / "reports" / "history" / history.name)
    lines = week.path("raw", "2026-11-26").read_bytes().splitlines(keepends=True)
    early = [line for line in lines if b'"_polled_at":"2026-11-26T0' in line or b'"_polled_at":"2026-11-26T1' in line]
    early = [line for line in early if line.rpartition(b'"_polled_at":"')[2][:16] < b"2026-11-26T12:00"]
    (tmp_path / "raw" / "2026-11-26.jsonl").write_bytes(b"".join(early))
    return Folder(tmp_path), now


def test_the_day_so_far_is_the_report_of_its_readings(until_noon):
    """It is what the night would report of these readings, and nothing is silent after now."""
    folder, now = until_noon
    head, report, page = day_so_far(folder, "2026-11-26", now)
    assert head.sizes[1] == len(page.encode())
    computed = make(SettingsLog(folder, SETTINGS), "2026-11-26", until=now).report
    assert encode(computed) == encode(report)
    (mixer,) = (entry for entry in report["machines"] if entry["source"] == "mixer")
    assert [incident["detector"] for incident in mixer["incidents"]] == ["silence"]
    assert mixer["expected"] == 8640
    others = [entry["incidents"] for entry in report["machines"] if entry["source"] != "mixer"]
    assert others == [[]] * len(others)


def test_the_page_of_the_day_so_far_ends_now(until_noon):
    """At noon half a day of readings is complete, and charts end; in the JSON `expected` is that of the whole day."""
    folder, now = until_noon
    _, report, page = day_so_far(folder, "2026-11-26", now)
    assert {entry["expected"] for entry in report["machines"]} == {8640}
    assert "24,841 of 25,920 expected readings" in page
    assert ">10:00<" in page
    assert not {">14:00<", ">15:00<", ">18:00<"} & set(re.findall(">[0-9:]+<", page))
    assert "until 12:00:01" in page
    assert not folder.report_path("2026-11-26").exists()


def test_a_large_raw_log_is_refused(tmp_path):
    """Above 2 GB there is no report of the day so far: the error says so, and leads to the pages of machines."""
    folder = Folder(tmp_path)
    path = folder.path("raw", "2026-11-26")
    path.parent.mkdir()
    path.touch()
    os.truncate(path, MAX_RAW_BYTES + 1)  # sparse
    head, report, _ = day_so_far(folder, "2026-11-26", at("26 12:00"))
    assert (head.status, report) == (503, None)
    assert "/machines/day" in head.error
    assert "2.1 GB" in head.error


def test_little_is_read_where_no_history_is_stored(until_noon, monkeypatch):
    """Without a stored history few days before are read again, and none where they are large."""
    folder, now = until_noon
    folder.history_path("2026-11-25").unlink()
    _, complete, _ = day_so_far(folder, "2026-11-26", now)
    lasting = [i for m in complete["machines"] for i in m["parameters"]["temperature"]["incidents"] if i.get("lasting")]
    assert len(lasting) == 1
    monkeypatch.setattr(answers, "MAX_HISTORY_BYTES", 1000)
    read: list[int] = []
    monkeypatch.setattr(Folder, "blocks", _counting(Folder.blocks, read))
    _, report, _ = day_so_far(folder, "2026-11-26", now)
    assert sum(read) <= folder.path("raw", "2026-11-26").stat().st_size
    assert all(not i.get("lasting") for m in report["machines"] for i in m["parameters"]["temperature"]["incidents"])


def _counting(blocks, read):
    def counted(*arguments, **options):
        for offset, block in blocks(*arguments, **options):
            read.append(len(block))
            yield offset, block

    return counted


def test_a_damaged_raw_log_is_an_error_and_no_traceback_for_the_client(tmp_path):
    """What cannot be read, or is gone, is an error with a sentence."""
    folder = Folder(tmp_path)
    assert day_so_far(folder, "2026-11-26", 0.0)[0].status == 404
    path = folder.packed_path("raw", "2026-11-26")
    path.parent.mkdir()
    path.write_bytes(b"\x1f\x8b\x08\x00damaged")
    head, *_ = day_so_far(folder, "2026-11-26", 0.0)
    assert head.status == 503
    assert "etl verify" in head.error


def test_a_full_directory_for_temporary_files_is_named(until_noon, monkeypatch):
    """Without space for temporary files the answer says where to make room, not that the log is damaged."""
    folder, now = until_noon
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(column_store, "TemporaryFile", lambda **_: full)
        head, *_ = day_so_far(folder, "2026-11-26", now)
    assert (head.status, "TMPDIR" in head.error, "etl verify" in head.error) == (503, True, False)


def test_summaries_count_what_each_report_says(week):
    """Each report has its counts, the newest first; an incident is listed once, with why."""
    answered = summaries(week)
    assert [report["date"] for report in answered["reports"]] == sorted(DAYS[:5], reverse=True)
    stored = [orjson.loads(week.report_path(day).read_bytes()) for day in sorted(DAYS[:5], reverse=True)]
    for summary, report in zip(answered["reports"], stored, strict=True):
        entries = [entry for machine in report["machines"] for entry in (machine, *machine["parameters"].values())]
        incidents = [incident for entry in entries for incident in entry["incidents"]]
        assert summary["lasting"] == sum(incident.get("lasting", False) for incident in incidents)
        assert summary["incidents"] + summary["lasting"] == len(incidents)
        assert summary["anomalies"] == sum(len(entry.get("anomalies", ())) for entry in entries)
        assert summary["readings"] == sum(machine["readings"] for machine in report["machines"])
        assert summary["expected"] == 6 * 8640
    named = [(each["source"], each["parameter"], each["lasting"]) for each in answered["incidents"]]
    assert named.count(("chiller", "temperature", True)) == 1
    assert set(named) >= {("mixer", None, False), ("fan", "speed", False), ("dryer", "temperature", False)}
    assert all(each["why"] and each["id"] == "1" and each["start"] <= each["end"] for each in answered["incidents"])
    dates = [each["date"] for each in answered["incidents"]]
    assert dates == sorted(dates, reverse=True)
    assert {each["date"] for each in summaries(week, "2026-11-26")["incidents"]} == {"2026-11-26"}


def test_only_the_newest_reports_are_read(week, monkeypatch):
    """Beyond a number of bytes reports have only their date; further incidents are counted."""
    size = week.report_path(DAYS[4]).stat().st_size
    monkeypatch.setattr(stored_reports, "MAX_REPORTS_BYTES", size)
    monkeypatch.setattr(stored_reports, "MAX_INCIDENTS", 1)
    answered = summaries(week)
    assert [len(report) for report in answered["reports"]] == [6, 1, 1, 1, 1]
    assert (len(answered["incidents"]), answered["more"]) == (1, 2)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"machines":[{"source":1}]}', b'{"machines":7}'])
def test_a_damaged_report_has_only_its_date(tmp_path, content):
    """A report that cannot be decoded, and a FIFO or a link to itself in its place, harm no other one."""
    folder = Folder(tmp_path)
    path = folder.path("raw", "2026-11-22")
    path.parent.mkdir()
    path.write_bytes(raw_line({"temperature": 1}, "m", at("22 10:00")))
    write_report(SettingsLog(folder, PLAIN), "2026-11-22")
    folder.report_path("2026-11-23").write_bytes(content)
    os.mkfifo(folder.report_path("2026-11-24"))
    Path(folder.report_path("2026-11-25")).symlink_to("/dev/zero")
    Path(folder.report_path("2026-11-26")).symlink_to(folder.report_path("2026-11-26"))
    answered = summaries(folder)["reports"]
    assert [len(report) for report in answered] == [1, 1, 1, 1, 6]
    assert answered[-1]["readings"] == 1
