"""What any request gets: JSON errors, the security headers, and never a 500."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.console import Views
from tests.support.api import BODY, client, console, is_error, status_of


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


def test_the_cause_of_a_500_is_only_in_the_log(caplog):
    """An exception is a JSON 500 that does not show the cause; the log has it."""

    def broken():
        raise RuntimeError("secret")

    app = client(views=Views(*[broken] * len(Views._fields)))
    answer = app.get("/averages")
    assert is_error(answer, 500)
    assert "secret" not in answer.text
    assert "secret" in caplog.text


FUZZED = console()
"""One application for all examples, as building one takes longer than a request."""

HEADERS = ["HTTP_HOST", "HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_TRANSFER_ENCODING", "HTTP_ACCEPT", "HTTP_COOKIE",
           "HTTP_CONTENT_ENCODING", "HTTP_RANGE", "HTTP_IF_MODIFIED_SINCE", "HTTP_X_FORWARDED_HOST", "CONTENT_TYPE",
           "CONTENT_LENGTH", "QUERY_STRING"]  # fmt: skip

LATIN = st.text(st.characters(max_codepoint=255), max_size=30)

CONSOLE = ("", "console.css", "console.js", "values.js")

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
