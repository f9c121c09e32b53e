"""Over every HTTP transport, good answers are delivered as sent, and requests are plain GETs."""

from __future__ import annotations

import base64
import socket
import time
import zlib

import pytest

from api.app import create_app
from api.machines import Machines
from api.server import serve as serve_api
from etl.readings.records import Answer, Poll
from etl.sources.contract import MAX_BODY_BYTES
from etl.sources.http.requests_transport import post
from tests.support import servers
from tests.support.http_sources import (
    PATIENCE,
    SECRET,
    headers_of,
    machine,
    poll,
)
from tests.support.servers import READING, Server, answer, chunked, says, says_and_closes


def test_a_reading_is_delivered_as_it_was_sent(make, serve):
    """A good answer is delivered byte for byte, with the moment it was complete."""
    before = time.time()
    delivered = poll(make(machine(serve(servers.good).url)))
    assert delivered == Poll("machine", delivered.at, (Answer(READING),), lease=delivered.lease)
    assert before <= delivered.at <= time.time()


@pytest.fixture(scope="module")
def simulated() -> str:
    """The address of the simulated machine, served as it is in production."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    serve_api(create_app(Machines(1)), "127.0.0.1", port)
    return f"http://127.0.0.1:{port}/data"


def test_the_simulated_machine_is_a_source(simulated, make):
    """The Flask API's /data gives readings, also over a connection that is used again."""
    transport = make(machine(simulated))
    for _ in range(3):
        assert b'"temperature":' in poll(transport).answers[0].body


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(servers.gzipped(), headers="Content-Encoding: gzip\r\n"), id="gzip"),
        pytest.param(answer(zlib.compress(READING), headers="Content-Encoding: deflate\r\n"), id="deflate"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(READING[:9], READING[9:]), id="chunked"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
            + chunked(servers.gzipped()[:20], servers.gzipped()[20:]),
            id="chunked gzip",
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), id="100 first"),
        pytest.param(answer(status="203 Non-Authoritative Information"), id="203"),
        pytest.param(answer(headers="X-Odd: \xe9\r\nSet-Cookie: ;;=\r\n"), id="odd headers"),
    ],
)
def test_answers_come_in_many_forms(make, serve, data):
    """Compressed, chunked and oddly headed answers are readings like any other, twice in a row."""
    transport = make(machine(serve(says(data)).url))
    assert [poll(transport).answers for _ in range(2)] == [(Answer(READING),)] * 2


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.0 200\r\n\r\n"])
def test_an_answer_may_end_with_its_connection(make, serve, head):
    """A body without a length ends where the machine closes the connection."""
    transport = make(machine(serve(says_and_closes(head + READING)).url))
    assert [poll(transport).answers for _ in range(2)] == [(Answer(READING),)] * 2


@pytest.mark.parametrize("data", [answer(b""), b"HTTP/1.1 204 No Content\r\n\r\n"], ids=["empty", "204"])
def test_an_empty_answer_is_an_answer(make, serve, data):
    """An empty body is delivered: the transport does not judge answers."""
    assert poll(make(machine(serve(says(data)).url))).answers == (Answer(b""),)


def test_a_body_just_below_the_cap(make, serve):
    """A body of exactly the size limit is delivered."""
    body = b"7" * MAX_BODY_BYTES
    assert poll(make(machine(serve(says(answer(body))).url))).answers == (Answer(body),)


def test_ipv6(make, serve):
    """A machine may have an IPv6 address."""
    try:
        server = serve(servers.good, host="::1")
    except OSError:
        pytest.skip("this system has no IPv6 loopback address")
    assert poll(make(machine(server.url))).answers == (Answer(READING),)


def test_a_name_instead_of_an_address(make, serve):
    """A machine may have a name."""
    server = serve(servers.good)
    assert poll(make(machine(server.url.replace("127.0.0.1", "localhost")))).answers == (Answer(READING),)


def test_only_the_status_of_a_post_counts(serve):
    """The body of the answer to a notification is not read, whatever its form."""
    server = serve(says(answer(b"\x0b", headers="Content-Encoding: br\r\n")))
    assert post(server.url, b"{}", PATIENCE) is None
    refusing = serve(says(answer(status="500 No")))
    assert post(refusing.url, b"{}", PATIENCE).reason == "http_status"


# What is sent


def request_of(make, server: Server, url: str = "", **options) -> dict[str, str]:
    """The headers of one poll of a server that answers."""
    assert poll(make(machine(url or server.url, **options))).failure is None
    return headers_of(server.requests[-1])


def test_what_every_request_says(make, serve):
    """A request is a GET with our User-Agent that accepts JSON, gzip and deflate."""
    server = serve(servers.good)
    sent = request_of(make, server)
    assert server.requests[0].startswith(b"GET /data HTTP/1.1\r\n")
    assert sent["host"] == server.netloc
    assert "machine-telemetry-etl" in sent["user-agent"]
    assert "json" in sent["accept"]
    assert {coding.strip() for coding in sent["accept-encoding"].split(",")} == {"gzip", "deflate"}
    assert "authorization" not in sent


def test_headers_of_the_config_are_sent(make, serve):
    """Headers of the source are sent, and replace the default ones."""
    sent = request_of(make, serve(servers.good), headers={"X-Key": SECRET, "user-agent": "Łódź 7"})
    assert (sent["x-key"], sent["user-agent"].encode("latin-1").decode()) == (SECRET, "Łódź 7")


@pytest.mark.parametrize(
    ("login", "sent"), [("user:pass", "user:pass"), ("us%40er:p%3Ass", "us@er:p:ss"), ("user", "user:"), ("ł:ß", "ł:ß")]
)
def test_basic_auth_from_the_url(make, serve, login, sent):
    """A login in the URL is sent as basic auth, as UTF-8."""
    server = serve(servers.good)
    headers = request_of(make, server, server.url.replace("://", f"://{login}@"))
    assert headers["authorization"] == "Basic " + base64.b64encode(sent.encode()).decode()
    assert headers["host"] == server.netloc


def test_netrc_is_not_used(make, serve, tmp_path, monkeypatch):
    """A .netrc with a login for this machine changes nothing."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password pass\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # so that the environment is looked at
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert "authorization" not in request_of(make, serve(servers.good))


def test_cookies_are_not_kept(make, serve):
    """No source sends back a cookie that a machine has set."""
    server = serve(says(answer(headers="Set-Cookie: a=b; Path=/\r\n")))
    transport = make(machine(server.url, "one"), machine(server.url, "two"))
    for name in ("one", "one", "two"):
        poll(transport, name)
    assert not [request for request in server.requests if "cookie" in headers_of(request)]


@pytest.mark.parametrize("odd", [{"url": "http://*.example/"}, {"headers": {"X": "a\r\nb: c"}}], ids=["url", "header"])
def test_a_source_that_cannot_be_requested(make, odd):
    """A source with an invalid URL or header fails only its own polls."""
    failure = poll(make(machine(**({"url": "http://127.0.0.1/"} | odd)))).failure
    assert failure.reason == "failed"
