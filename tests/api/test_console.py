"""The state of a running process: its routes, its reports and the files of its console."""

from __future__ import annotations

import errno
import json
import os
import re

import pytest

from tests.support.api import ALARM, EMPTY, PAGE, REPORT, SHOWN, client, console, is_error, made


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/averages", [{"source": "a", "id": 1}, {"source": "b", "id": None}]), ("/alarms", [json.loads(ALARM)]),
     ("/events", [{"event": "start"}]),
     ("/reports", ["2026-11-21", "2026-11-22"]), ("/reports/2026-11-22", json.loads(REPORT)),
     ("/healthz", {"status": "ok"}), ("/readyz", {"ready": True, "reasons": []})],
)  # fmt: skip
def test_the_state_of_a_running_process_is_served(path, shown):
    """The routes of the console return the data of the process."""
    answer = console().get(path)
    assert (answer.status_code, answer.mimetype, answer.json) == (200, "application/json", shown)


def test_a_report_is_served_as_it_was_written():
    """GET /reports/<date> returns the bytes of the file."""
    assert console().get("/reports/2026-11-22", headers={"Accept": "application/json"}).data == REPORT


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "content"),
    [(BROWSER, PAGE), ("text/html", PAGE), ("*/*", REPORT), ("application/json", REPORT), (None, REPORT),
     ("application/json, text/html;q=0.9", REPORT), ("text/plain", REPORT), (";;;,\xff", REPORT)],
)  # fmt: skip
def test_a_report_is_a_page_for_a_browser(accept, content):
    """A client that prefers HTML gets the page, which may load nothing; other clients get JSON."""
    answer = console().get("/reports/2026-11-22", headers={"Accept": accept} if accept else {})
    assert (answer.status_code, answer.data, answer.headers["Vary"]) == (200, content, "Accept")
    assert answer.mimetype == ("text/html" if content == PAGE else "application/json")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert ("script-src 'unsafe-inline'" in answer.headers["Content-Security-Policy"]) == (content == PAGE)
    assert "http" not in answer.headers["Content-Security-Policy"]


def test_a_page_without_its_report_is_not_shown():
    """A page without a report, which a crash can leave behind, is not served."""
    app = client(views=EMPTY._replace(report={}.get, report_page={"2026-11-22": PAGE}.get))
    assert is_error(app.get("/reports/2026-11-22", headers={"Accept": BROWSER}), 404)


def test_a_report_without_a_page_is_json_for_a_browser_too():
    """A report that has no page is served as JSON."""
    app = client(views=EMPTY._replace(report=lambda day: made(REPORT), report_page={}.get))
    assert app.get("/reports/2026-11-21", headers={"Accept": BROWSER}).data == REPORT


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/console.css", "text/css"), ("/console.js", "text/javascript"),
     ("/values.js", "text/javascript")],
)  # fmt: skip
def test_the_console_is_served_only_by_a_running_process(path, kind):
    """The console's files are small and load no other site; `python -m api` does not serve them."""
    answer = console().get(path)
    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert len(answer.data) < 100_000
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
    assert "unsafe" not in policy
    assert not re.findall(r"(?:href|src)=\"(?![\w/]+(?:\.\w+)?\"|data:image/svg)|url\(|import ", answer.text)
    assert not re.findall(r"<style|<script>|\son\w+=|\sstyle=|innerHTML|insertAdjacent|document\.write", answer.text)
    assert is_error(client().get(path), 404)


@pytest.mark.parametrize(("query", "mark"), [("", 0), ("?since=12", 12), ("?since=x", 0), (f"?since={'9' * 5000}", 0)])
def test_the_overview_starts_at_the_mark_of_the_query(query, mark):
    """The overview starts at the mark of the query; without a valid mark it starts at 0."""
    assert console().get(f"/console.json{query}").json == {"mark": mark}


def test_the_charts_of_a_machine_are_served():
    """The charts of a machine are served as the process drew them; an unknown machine is a 404, whatever its id is."""
    assert console().get("/console/machine?source=b&id=null").json == SHOWN
    for query in (
        "source=a&id=1",
        "source=b&id=[1]",
        "source=b&id={",
        "id=1",
        "source=b&id=1e999",
        "source=b&id=" + "[" * 5000,
        "source=b&id=" + "9" * 5000,
    ):
        assert console().get(f"/console/machine?{query}").status_code in (200, 404)
    assert is_error(console().get("/console/machine?source=a&id=1"), 404)


def test_a_machine_is_found_by_an_id_of_any_size():
    """The id in the query is JSON, and a number in it keeps its digits."""
    app = client(views=EMPTY._replace(machine=lambda source, key: {"key": str(key)}))
    for text in ("12345678901234567890123", "9007199254740993", "-18446744073709551617"):
        assert app.get(f"/console/machine?source=a&id={text}").json == {"key": text}


def test_a_process_that_is_not_ready_returns_the_reasons():
    """GET /readyz is 503 with the reasons, while /healthz remains 200."""
    app = console(["no reading was written for 3 intervals"])
    answer = app.get("/readyz")
    assert (answer.status_code, answer.json["ready"]) == (503, False)
    assert answer.json["reasons"] == ["no reading was written for 3 intervals"]
    assert app.get("/healthz").status_code == 200


def test_a_process_without_data_returns_empty_lists():
    """A process that has just started returns empty lists."""
    app = client(views=EMPTY)
    assert [app.get(path).json for path in ("/averages", "/alarms", "/events", "/reports")] == [[], [], [], []]


@pytest.mark.parametrize(
    "day",
    ["2026-11-23", "2026-1-1", "20261122", "2026-W47-7", "2026-02-30", "0000-00-00", "2026-11-22.json", "2026-11-22%00",
     "%20", "..", "../config.yaml", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..%5c..%5cwin.ini",
     "%252e%252e%252fpasswd", "/etc/passwd", "%2fetc%2fpasswd", "2026-11-22/../../settings.jsonl", "2026-11-22 ",
     "\u0662\u0660\u0662\u0666-11-22", "x" * 5000],
)  # fmt: skip
def test_only_a_date_names_a_report(day):
    """A path, another spelling of a date and a date without a report are a JSON 404."""
    requested = []
    app = client(views=EMPTY._replace(report=requested.append))
    assert is_error(app.get(f"/reports/{day}"), 404)
    assert requested in ([], ["2026-11-23"])


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ENOENT])
def test_a_file_that_cannot_be_read_is_a_503(number, caplog):
    """Without a descriptor, or on a disk that fails, a report is a JSON 503 and one line in the log, no traceback."""

    def report(day):
        raise OSError(number, os.strerror(number), f"/var/lib/{day}.json")

    answer = client(views=EMPTY._replace(report=report)).get("/reports/2026-11-23")
    assert is_error(answer, 503)
    assert os.strerror(number) in answer.text
    assert "/var/lib" not in answer.text
    assert [record.exc_info for record in caplog.records] == [None]


def test_metrics_have_the_content_type_of_prometheus():
    """The text format of Prometheus is named with its version and one charset: Prometheus 3 refuses two."""
    answer = console().get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
