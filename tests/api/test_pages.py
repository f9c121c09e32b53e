"""Reports and the pages of machines over HTTP: what is asked for, errors, files as answers."""

from __future__ import annotations

import http.client
import os
import socket
from contextlib import closing
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from api import connections
from api.app import create_app
from api.console import Body
from api.machines import Machines
from api.server import serve
from tests.support.api import EMPTY, PAGE, REPORT, client, console, is_error, made
from tests.support.process import HANG_S, until

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
MIB = 1 << 20


@pytest.mark.parametrize(("headers", "content"), [(BROWSER, PAGE), ({}, REPORT), ({"Accept": "*/*"}, REPORT)])
def test_the_day_so_far_is_json_unless_a_browser_asks(headers, content):
    """`/reports/today` answers like every report: its page for a browser, else its JSON."""
    answer = console().get("/reports/today", headers=headers)
    assert (answer.status_code, answer.data, answer.headers["Vary"]) == (200, content, "Accept")
    assert answer.content_length == len(content)
    assert answer.mimetype == ("text/html" if content == PAGE else "application/json")
    assert ("script-src" in answer.headers["Content-Security-Policy"]) == (content == PAGE)


@pytest.mark.parametrize(
    ("query", "asked"),
    [("source=a&id=7", "a 7 today"), ("source=a&id=%227%22&date=2026-11-22", 'a "7" 2026-11-22'),
     ("source=%3Cb%3E%20%C3%BC&date=today", "<b> ü null today"), ("source=a%00&id=" + "9" * 5000, "a\0 9")],
)  # fmt: skip
def test_a_page_is_made_for_what_the_query_names(query, asked):
    """Source, id and date reach the page as they were sent; without a date it is today's."""
    answer = console().get(f"/machines/day?{query}", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.text.startswith(asked)


@pytest.mark.parametrize(("query", "status"), [("", 400), ("source=", 400), ("id=7", 400), ("source=a&date=22", 404),
                                               ("source=a&date=2026-02-30", 404), ("source=a&date=../x", 404),
                                               ("source=a&date=2026-11-22%00", 404)])  # fmt: skip
def test_a_query_that_names_no_machine_or_day_is_refused(query, status):
    """Without a source the query is wrong; another spelling of a day is not found. Nothing is made."""
    app = client(views=EMPTY._replace(machine_day=lambda *_: pytest.fail("made")))
    assert is_error(app.get(f"/machines/day?{query}"), status)


@pytest.mark.parametrize("path", ["/reports/today", "/machines/day?source=a", "/console/machine?source=a&hours=1",
                                  "/console/reports"])  # fmt: skip
def test_what_cannot_be_made_now_is_a_503_that_says_when_to_try_again(path):
    """An error has its sentence as JSON, also for a browser, and `Retry-After` where it helps."""
    busy = Body(status=503, error="This is still being made", retry_s=5)
    gone = Body(status=404, error="There is no raw log of 2026-11-01")
    for failure in (busy, gone):
        views = EMPTY._replace(day_so_far=lambda _, failure=failure: failure,
                               machine_day=lambda *_, failure=failure: failure,
                               machine_hours=lambda *_, failure=failure: failure,
                               summaries=lambda failure=failure: failure)  # fmt: skip
        answer = client(views=views).get(path, headers=BROWSER)
        assert is_error(answer, failure.status)
        assert answer.json["error"] == failure.error
        assert answer.headers.get("Retry-After") == ("5" if failure is busy else None)


@pytest.mark.parametrize("hours", ["0", "7", "-1", "24.0", "x", "1" * 5000])
def test_other_ranges_are_refused(hours):
    """The console's charts have 1 or 24 hours."""
    assert is_error(console().get(f"/console/machine?source=b&hours={hours}"), 400)


def test_the_last_hours_of_a_machine_come_from_the_files():
    """With `hours` the charts are those of the day files, for the same machine."""
    asked = []
    views = EMPTY._replace(machine_hours=lambda *machine: asked.append(machine) or made(b'{"charts":{}}'))
    assert client(views=views).get("/console/machine?source=a&id=7.0&hours=24").json == {"charts": {}}
    assert asked == [("a", "7.0", 24)]


def test_head_has_the_length_alone():
    """HEAD answers with the headers of GET, and without the file."""
    answer = console().head("/reports/today")
    assert (answer.content_length, answer.data) == (len(REPORT), b"")


def serve_file(size: int) -> int:
    """The port of a server whose report of today is a file of this size."""
    content = TemporaryFile()  # noqa: SIM115  the server reads it to the end of the test
    content.truncate(size)

    def day_so_far(_: bool) -> Body:
        return Body(os.fdopen(os.open(f"/proc/self/fd/{content.fileno()}", os.O_RDONLY), "rb"), size)

    return serve(create_app(Machines(), EMPTY._replace(day_so_far=day_so_far)), "127.0.0.1", 0)


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def test_a_large_report_takes_no_memory_of_the_server(monkeypatch):
    """Five clients that leave 100 MiB each untaken are no memory: none is cut off, and each gets all of it."""
    monkeypatch.setattr(connections, "MAX_UNSENT_BYTES", 10 * MIB)
    size = 100 * MIB
    port = serve_file(size)
    before = resident_mib()
    clients = [socket.create_connection(("127.0.0.1", port), HANG_S) for _ in range(5)]
    for each in clients:
        each.sendall(b"GET /reports/today HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    for each in clients:
        assert each.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    with closing(link):
        link.request("GET", "/data")
        assert link.getresponse().status == 200
    assert resident_mib() - before < 20
    for each in clients:
        received = 12
        while data := each.recv(1 << 20):
            received += len(data)
        assert size < received < size + 1000
        each.close()
    assert resident_mib() - before < 20


def test_a_file_is_closed_once_its_client_has_it_or_is_gone():
    """No descriptor stays open: after the answer, after HEAD, and after a client that went away."""
    port = serve_file(5 * MIB)

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for method in ("GET", "HEAD", "GET"):
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
        link.request(method, "/reports/today")
        answer = link.getresponse()
        assert len(answer.read()) == (5 * MIB if method == "GET" else 0)
        answer.close()
        link.close()
    leaving = socket.create_connection(("127.0.0.1", port), HANG_S)
    leaving.sendall(b"GET /reports/today HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert leaving.recv(12)
    leaving.close()
    until(lambda: descriptors() <= before)


def test_a_content_in_memory_is_answered_too():
    """What needs no file, such as the charts of a few hours, is answered in the same way."""
    app = client(views=EMPTY._replace(summaries=lambda: Body(BytesIO(b"{}"), 2)))
    assert app.get("/console/reports").json == {}
