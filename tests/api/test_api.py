"""The API: its answers, its refusals, and that no request causes a 500."""

from __future__ import annotations

import http.client
import json
import random
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import cycle

import orjson
import pytest
from click.testing import CliRunner
from freezegun import freeze_time
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.__main__ import main
from api.app import create_app
from api.console import Views
from api.machines import STATUSES, Machines
from api.server import serve
from tests.support.api import EMPTY, NOW, PAGE, REPORT, SHOWN, client, console, is_error, status_of

KEYS = ["description", "fan_speed", "id", "name", "status", "temperature", "timestamp"]
MISSING = {"error": "Missing 'status' field in request data"}
BODY = 16 * 1024
INVALID = {"error": "Invalid status. Allowed statuses: STARTED, ERROR, IDLE, COMPLETED"}


def test_data_is_the_reading_of_the_first_machine():
    """GET /data has the keys of the contract in their order, and the time to the microsecond."""
    answer = client().get("/data")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert list(answer.json) == KEYS
    reading = answer.json
    assert (reading["description"], reading["name"], reading["id"]) == ("Machine for processing ", "DELL G450", 1)
    assert (reading["status"], reading["timestamp"]) == ("IDLE", "2024-11-03T13:40:45.015069+00:00")


def test_readings_stay_in_their_ranges_and_vary():
    """Temperatures are 20 to 100 °C and fan speeds 0 to 1000 rpm at any hour, each with two decimals at most."""
    machines = Machines(1, random.Random(7))
    readings = [machines.reading(1, NOW + timedelta(minutes=minute)) for minute in range(2880)]
    for key, low, high in (("temperature", 20, 100), ("fan_speed", 0, 1000)):
        values = [reading[key] for reading in readings]
        assert low <= min(values) < max(values) <= high
        assert all(isinstance(value, float) and value == round(value, 2) for value in values)
        assert len(set(values)) > 500


@freeze_time("2026-11-22T10:00:00.250Z")
def test_the_timestamp_of_a_reading_is_the_current_time():
    """By default the application reads the system's clock, and a timestamp is in UTC."""
    answer = create_app(Machines()).test_client().get("/data")
    assert answer.json["timestamp"] == "2026-11-22T10:00:00.250000+00:00"


def test_machines_are_listed_in_order():
    """GET /machines has one reading of each machine."""
    readings = client().get("/machines").json
    assert [list(reading) for reading in readings] == [KEYS] * 3
    assert [reading["id"] for reading in readings] == [1, 2, 3]


@pytest.mark.parametrize("path", ["/status", "/machines/1/status", "/machines/3/status"])
@pytest.mark.parametrize("status", [*STATUSES, "completed", "Started", "eRRoR"])
def test_a_posted_status_is_shown_until_the_next(path, status):
    """POST of a status in any case answers as in the contract, and that machine alone shows it."""
    app = client()
    answer = app.post(path, json={"status": status})
    assert (answer.status_code, answer.json) == (200, {"message": "Status updated"})
    assert list(answer.json) == ["message"]
    shown = ["IDLE"] * 3
    shown[2 if "3" in path else 0] = status.upper()
    for _ in range(2):
        assert [reading["status"] for reading in app.get("/machines").json] == shown


def test_machine_1_is_data():
    """/data and /status are the first machine, without a redirect either way."""
    app = client()
    app.post("/status", json={"status": "ERROR"})
    assert status_of(app) == app.get("/data").json["status"] == "ERROR"


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
     "application/json; charset=utf-16", "image/png", ";;;"],
)  # fmt: skip
def test_the_body_is_json_whatever_its_type_says(content_type):
    """The content type and other keys are ignored, and the last of two equal keys counts."""
    app = client()
    body = b' {"a": [1], "status": "IDLE", "status": "COMPLETED", "": null}\n'
    answer = app.post("/status", data=body, content_type=content_type)
    assert (answer.status_code, status_of(app)) == (200, "COMPLETED")


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"null", b"{}", b'{"status": null}', b'{"status": ""}', b'{"Status": "IDLE"}', b'{"status": "IDLE"',
     b"[]", b'["status"]', b'"IDLE"', b"IDLE", b"status=IDLE", b"7", b"true", b"NaN", b'{"status": NaN}',
     b'{"status": "IDLE"}x', b"\xff", b"\x00", b'\xef\xbb\xbf{"status": "IDLE"}', '{"status": "IDLE"}'.encode("utf-16"),
     b'{"status": "\xff"}', b'{"status": "\\ud800"}', b"{'status': 'IDLE'}", b'{"status": 1e999}', b"[" * 10_000,
     b'{"status":' * 1_500],
)  # fmt: skip
def test_a_body_without_a_status_is_refused(body):
    """A status that is missing, null or empty, or a body that is no JSON object, is the contract's 400."""
    app = client()
    app.post("/status", json={"status": "ERROR"})
    answer = app.post("/status", data=body)
    assert (answer.status_code, answer.mimetype, answer.json) == (400, "application/json", MISSING)
    assert status_of(app) == "ERROR"


@pytest.mark.parametrize(
    "status",
    [0, 7, -1.5, True, False, [], ["IDLE"], {}, {"status": "IDLE"}, "BROKEN", " IDLE", "IDLE\n", "IDLE\0", "<script>",
     "\u0131dle", "\u017ftarted", "\u0399DLE", "\uff29\uff24\uff2c\uff25", "\u200bIDLE", "\U0001f525", "IDLE" * 1000],
)  # fmt: skip
def test_an_invalid_status_is_refused(status):
    """A number, a list, another word or a look-alike is the contract's 400, and the status does not change."""
    app = client()
    app.post("/status", json={"status": "ERROR"})
    answer = app.post("/status", data=orjson.dumps({"status": status}))
    assert (answer.status_code, answer.mimetype, answer.json) == (400, "application/json", INVALID)
    assert status_of(app) == "ERROR"


@pytest.mark.parametrize(
    "number", ["0", "4", "-1", "01", "1.0", "one", "\u0663", "1" * 5000, " 1", "%00", "1;2", "None"]
)
def test_an_unknown_machine_is_404(number):
    """Only the decimal numbers 1 to N name a machine."""
    app = client()
    assert is_error(app.get(f"/machines/{number}/data"), 404)
    assert is_error(app.post(f"/machines/{number}/status", json={"status": "ERROR"}), 404)
    assert {reading["status"] for reading in app.get("/machines").json} == {"IDLE"}


@pytest.mark.parametrize(
    "path",
    ["/", "/favicon.ico", "/data/", "//data", "/machines/", "/machines/1", "/averages", "/reports/2026-11-22", "/%ff"],
)
def test_an_unknown_path_is_a_json_404(path):
    """An unknown path is a JSON 404 without a redirect, as is the console where only machines are served."""
    assert is_error(client().get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/data", {"GET", "HEAD"}), ("GET", "/status", {"POST"}), ("DELETE", "/machines", {"GET", "HEAD"}),
     ("PUT", "/machines/1/status", {"POST"}), ("OPTIONS", "/status", {"POST"}), ("BREW", "/data", {"GET", "HEAD"})],
)  # fmt: skip
def test_a_wrong_method_is_a_405_with_the_allowed_ones(method, path, allowed):
    """An unsupported method is a JSON 405 with an Allow header."""
    answer = client().open(path, method=method)
    assert is_error(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == allowed


def test_head_has_no_body():
    """HEAD has the status and headers of GET, without the body."""
    answer = client().head("/data")
    assert (answer.status_code, answer.mimetype, answer.data) == (200, "application/json", b"")


def test_a_body_over_16_kib_is_413():
    """A body of 16 KiB is read; one byte more is refused in JSON and changes nothing."""
    app = client()
    body = b'{"status": "ERROR"}'
    assert is_error(app.post("/status", data=body.ljust(BODY + 1)), 413)
    assert status_of(app) == "IDLE"
    assert app.post("/status", data=body.ljust(BODY)).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://["},
     {"Origin": "http://localhost:5001"}, {"Origin": "http://localhost.evil.example"}, {"Origin": "localhost"}],
)  # fmt: skip
def test_a_request_from_another_site_is_refused(method, headers):
    """A request that a browser marks as coming from another site is a 403 and changes nothing."""
    app = client()
    assert is_error(app.open("/status", method=method, headers=headers, json={"status": "ERROR"}), 403)
    assert status_of(app) == "IDLE"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin", "Origin": "http://machine:5000"}, {"Sec-Fetch-Site": "none"},
     {"Origin": "https://machine:5000"}],
)  # fmt: skip
def test_a_request_from_this_site_is_served(headers):
    """Requests of a program, of the console's own page and of the address bar are served."""
    answer = client().post("/status", base_url="http://machine:5000", headers=headers, json={"status": "ERROR"})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/data", "/nothing", "/machines"])
def test_every_response_has_the_security_headers(path):
    """No response may be cached, sniffed, framed or run as a script."""
    headers = client().get(path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/averages", [{"source": "a", "id": 1}, {"source": "b", "id": None}]), ("/events", [{"event": "start"}]),
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
    """A client that prefers HTML gets the page, under a policy that allows no script; other clients get JSON."""
    answer = console().get("/reports/2026-11-22", headers={"Accept": accept} if accept else {})
    assert (answer.status_code, answer.data, answer.headers["Vary"]) == (200, content, "Accept")
    assert answer.mimetype == ("text/html" if content == PAGE else "application/json")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "script" not in answer.headers["Content-Security-Policy"]


def test_a_page_without_its_report_is_not_shown():
    """A page without a report, which a crash can leave behind, is not served."""
    app = client(views=EMPTY._replace(report={}.get, report_page={"2026-11-22": PAGE}.get))
    assert is_error(app.get("/reports/2026-11-22", headers={"Accept": BROWSER}), 404)


def test_a_report_without_a_page_is_json_for_a_browser_too():
    """A report that has no page is served as JSON."""
    app = client(views=EMPTY._replace(report={"2026-11-21": REPORT}.get, report_page={}.get))
    assert app.get("/reports/2026-11-21", headers={"Accept": BROWSER}).data == REPORT


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/console.css", "text/css"), ("/console.js", "text/javascript")]
)
def test_the_console_is_served_only_by_a_running_process(path, kind):
    """The console's files are small and load no other site; `python -m api` does not serve them."""
    answer = console().get(path)
    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert len(answer.data) < 100_000
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
    assert "unsafe" not in policy
    assert not re.findall(r"(?:href|src)=\"(?!console[._]|data:image/svg)|url\(|import ", answer.text)
    assert is_error(client().get(path), 404)


@pytest.mark.parametrize(("query", "mark"), [("", 0), ("?since=12", 12), ("?since=x", 0), (f"?since={'9' * 5000}", 0)])
def test_the_overview_starts_at_the_mark_of_the_query(query, mark):
    """The overview starts at the mark of the query; without a valid mark it starts at 0."""
    assert console().get(f"/console.json{query}").json == {"mark": mark}


def test_the_charts_of_a_machine_are_served():
    """The charts of a machine are served as the process drew them; an unknown machine is a 404, whatever its id is."""
    assert console().get("/console/machine?source=b&id=null").json == SHOWN
    for query in ("source=a&id=1", "source=b&id=[1]", "source=b&id={", "id=1", "source=b&id=1e999"):
        assert console().get(f"/console/machine?{query}").status_code in (200, 404)
    assert is_error(console().get("/console/machine?source=a&id=1"), 404)


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
    assert [app.get(path).json for path in ("/averages", "/events", "/reports")] == [[], [], []]


def test_the_cause_of_a_500_is_only_in_the_log(caplog):
    """An exception is a JSON 500 that does not show the cause; the log has it."""

    def broken():
        raise RuntimeError("secret")

    app = client(views=Views(*[broken] * len(Views._fields)))
    answer = app.get("/averages")
    assert is_error(answer, 500)
    assert "secret" not in answer.text
    assert "secret" in caplog.text


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


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("status"), inner, max_size=3),
    max_leaves=8,
)
SPELLINGS = [spelling for status in STATUSES for spelling in (status, status.lower(), status.title())]
WORDS = st.sampled_from([*SPELLINGS, "\u0131dle", "IDLE "]) | st.text() | JSON
FUZZED = console()
"""One application for all examples, as building one takes longer than a request."""


@given(body=st.fixed_dictionaries({}, optional={"status": WORDS, "other": JSON}) | JSON)
@settings(max_examples=150, deadline=None)
def test_any_json_is_a_status_or_refused(body):
    """Every POST gets one of the three answers of the contract, and only the first changes the status."""
    status = body.get("status") if isinstance(body, dict) else None
    before = status_of(FUZZED)
    answer = FUZZED.post("/status", data=json.dumps(body))
    if isinstance(status, str) and status in SPELLINGS:
        assert (answer.status_code, answer.json) == (200, {"message": "Status updated"})
        assert status_of(FUZZED) == status.upper()
    else:
        assert answer.status_code == 400
        assert answer.json in (MISSING, INVALID)
        assert status_of(FUZZED) == before


HEADERS = ["HTTP_HOST", "HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_TRANSFER_ENCODING", "HTTP_ACCEPT", "HTTP_COOKIE",
           "HTTP_CONTENT_ENCODING", "HTTP_RANGE", "HTTP_IF_MODIFIED_SINCE", "HTTP_X_FORWARDED_HOST", "CONTENT_TYPE",
           "CONTENT_LENGTH", "QUERY_STRING"]  # fmt: skip
LATIN = st.text(st.characters(max_codepoint=255), max_size=30)
CONSOLE = ("", "console.css", "console.js", "console_table.js")
PATHS = st.sampled_from(
    [*CONSOLE, "data", "status", "machines", "machines/2/status", "reports", "reports/2026-11-21", "averages",
     "console.json", "console/machine"]
)  # fmt: skip


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    path=PATHS | LATIN | st.builds("{}/{}".format, PATHS, LATIN),
    headers=st.dictionaries(st.sampled_from(HEADERS), LATIN, max_size=4),
    body=st.binary(max_size=100),
)
@example(method="POST", path="status", headers={"CONTENT_LENGTH": "-1"}, body=b"{}")
@example(method="GET", path="data", headers={"HTTP_ORIGIN": "http://["}, body=b"")
@example(method="GET", path="console/machine", headers={"QUERY_STRING": "source=\x80&id=\xff"}, body=b"")
@settings(max_examples=200, deadline=None)
def test_no_request_causes_a_500(method, path, headers, body):
    """Any method, path, headers and body get JSON or the console, with a status below 500 and no redirect."""
    answer = FUZZED.open(method=method, data=body, environ_overrides={"PATH_INFO": f"/{path}", **headers})
    assert answer.status_code < 300 or 400 <= answer.status_code < 500
    if path.lstrip("/") in CONSOLE and answer.status_code == 200:
        return
    assert answer.mimetype == "application/json"
    if method != "HEAD":
        assert orjson.loads(answer.data) is not None


@pytest.fixture(scope="module")
def port():
    """The port of a real server of two machines."""
    return serve(create_app(Machines(2)), "127.0.0.1", 0)


@contextmanager
def connection(port):
    """A connection to a server on this machine."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        yield link
    finally:
        link.close()


def send(connection, method, path, body=None, **options):
    """Send a request; the status, the JSON and the headers of the response."""
    connection.request(method, path, body, **options)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read()), answer.headers


def test_a_connection_serves_many_requests(port):
    """Connections are kept alive, and no header names the server software."""
    with connection(port) as link:
        _, _, headers = send(link, "GET", "/data")
        sock = link.sock
        for status in ("COMPLETED", "IDLE"):
            assert send(link, "POST", "/status", json.dumps({"status": status}))[0] == 200
            assert send(link, "GET", "/data")[1]["status"] == status
        assert link.sock is sock
    assert "Server" not in headers


def test_a_huge_body_is_413_and_the_connection_stays_open(port):
    """A body of 10 MB is refused in JSON, and the next request on the same connection is served."""
    with connection(port) as link:
        code, answer, _ = send(link, "POST", "/status", b" " * 10_000_000)
        sock = link.sock
        assert (code, list(answer)) == (413, ["error"])
        assert send(link, "GET", "/data")[0] == 200
        assert link.sock is sock


def test_a_chunked_body_is_read(port):
    """A chunked body is read like any other, and over 16 KiB it is refused like any other."""
    with connection(port) as link:
        assert (
            send(
                link,
                "POST",
                "/machines/2/status",
                iter([b'{"stat', b'us": "error"}']),
                encode_chunked=True,
            )[0]
            == 200
        )
        assert send(link, "GET", "/machines/2/data")[1]["status"] == "ERROR"
        code, answer, _ = send(link, "POST", "/machines/2/status", iter([b" " * 1000] * 100), encode_chunked=True)
        assert (code, list(answer)) == (413, ["error"])
        assert send(link, "GET", "/machines/2/data")[1]["status"] == "ERROR"


def test_a_path_traversal_is_404(port):
    """A path with `..`, sent without a client's normalization, is a JSON 404."""
    for path in (
        "/reports/../../../etc/passwd",
        "/../config.yaml",
        "/reports/..%2f..%2fconfig.yaml",
        "/%2e%2e/%2e%2e/",
    ):
        with connection(port) as link:
            code, answer, _ = send(link, "GET", path)
            assert (code, list(answer)) == (404, ["error"])


def test_concurrent_requests_are_all_answered(port):
    """500 requests over 20 connections, valid and invalid in turn, each get the right answer."""
    bodies = {b'{"status": "IDLE"}': 200, b'{"status": "BROKEN"}': 400, b"": 400, b" " * (BODY + 1): 413}

    def send_all(_):
        with connection(port) as link:
            turns = zip(range(25), cycle(bodies), strict=False)
            return all(send(link, "POST", "/status", body)[0] == bodies[body] for _, body in turns)

    with ThreadPoolExecutor(20) as clients:
        assert all(clients.map(send_all, range(20)))
    with connection(port) as link:
        assert send(link, "GET", "/data")[1]["status"] == "IDLE"


def test_a_stalled_client_does_not_block_the_others(port):
    """With more half-sent requests than threads, the next request is still answered."""
    stalled = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(20)]
    try:
        for client_socket in stalled:
            client_socket.sendall(b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        with connection(port) as link:
            assert send(link, "GET", "/data")[0] == 200
    finally:
        for client_socket in stalled:
            client_socket.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "a..b", "\u00e9" * 70])
def test_a_foreign_or_invalid_address_is_an_error(host):
    """To listen on the address of another machine, or on no address, is an OSError with a readable message."""
    with pytest.raises(OSError, match=r"address") as error:
        serve(create_app(Machines()), host, 0)
    assert "address" in error.value.strerror


@contextmanager
def command(*arguments):
    """`python -m api` as a process of its own."""
    with subprocess.Popen([sys.executable, "-m", "api", *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_command_serves_until_it_is_stopped():
    """`python -m api` prints its URL, serves there, and exits with 0 on SIGTERM or Ctrl-C."""
    with command("--port", "0", "--machines", "2") as first, command("--port", "0", "--machines", "2") as second:
        for process, stop_signal in ((first, signal.SIGTERM), (second, signal.SIGINT)):
            line = process.stderr.readline()
            assert line.startswith("Serving 2 machines on http://127.0.0.1:")
            with connection(int(re.search(r"http://127\.0\.0\.1:(\d+)/data", line)[1])) as link:
                assert len(send(link, "GET", "/machines")[1]) == 2
                process.send_signal(stop_signal)
                assert process.wait(60) == 0
            assert process.stderr.read() == ""


def test_a_port_in_use_is_exit_code_74(port):
    """A port in use is exit code 74, with the cause and a hint in one line."""
    with command("--port", str(port)) as process:
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 74
    assert stderr == f"Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another port with --port.\n"


@pytest.mark.parametrize("arguments", [("--port", "http"), ("--port", "70000"), ("--machines", "0"), ("--colour",)])
def test_an_invalid_option_is_a_usage_error(arguments):
    """An invalid option is exit code 2."""
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output[:7]) == (2, "Usage: ")


def test_metrics_have_the_content_type_of_prometheus():
    """The text format of Prometheus is named with its version and one charset: Prometheus 3 refuses two."""
    answer = console().get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
