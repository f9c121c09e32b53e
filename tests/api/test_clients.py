"""Clients that send nothing, too slowly or too much: they take nothing from the others."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import resource
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from api import connections
from api.app import create_app
from api.machines import Machines
from api.server import MAX_CONNECTIONS, MAX_REQUEST_BYTES, serve
from tests.support.api import EMPTY
from tests.support.process import HANG_S, Site, caused_by_load, end, not_refused, until

SILENT = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\r\n\r\n", id="blank lines"),
    pytest.param(b"GET /da", id="half a request line"),
    pytest.param(b"GET /data HTTP/1.1\r\nHost: a\r\nX: ", id="half a header"),
    pytest.param(b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{", id="half a body"),
    pytest.param(b"POST /status HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", id="half a chunk"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
]
"""What a client sends before it falls silent."""
DESCRIPTORS = 128
"""The limit of a process in these tests; each connection is one."""


def start(machines=1, views=None):
    """The port of a server in this process."""
    return serve(create_app(Machines(machines), views), "127.0.0.1", 0)


def connect(port, sent=b""):
    """A connection on which these bytes were sent."""
    client = socket.create_connection(("127.0.0.1", port), HANG_S)
    client.sendall(sent)
    return client


def get(port, path="/data"):
    """The status of an answer on a new connection."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    with contextlib.closing(link):
        link.request("GET", path)
        return link.getresponse().status


def is_closed(client):
    """Whether the server has closed a connection; what it sent is dropped."""
    client.settimeout(0.001)
    try:
        return client.recv(1 << 16) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        client.settimeout(HANG_S)


def answer_of(client):
    """The status, headers and JSON of an answer."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, response.headers, json.loads(response.read())


@contextmanager
def many(port, count, sent=b""):
    """So many connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(port, sent)) for _ in range(count)]


class Served(NamedTuple):
    """`python -m api` in a process of its own, with few descriptors and a folder for temporary files."""

    process: subprocess.Popen
    port: int
    temporary: Path

    def descriptors(self) -> list[str]:
        """What the process has open."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        return [os.readlink(path) for path in folder.iterdir() if path.is_symlink()]


@pytest.fixture
def served(tmp_path):
    with subprocess.Popen(
        ["sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh", sys.executable, "-m", "api", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "API_TOKEN": "hunter2-hunter2"},
    ) as process:
        try:
            port = int(re.search(r":(\d+)/data", process.stderr.readline())[1])
            yield Served(process, port, tmp_path)
        finally:
            process.kill()


def log_of(served):
    """What a process has logged until now; it is killed, as Python needs a descriptor to end."""
    served.process.kill()
    return served.process.stderr.read()


@pytest.mark.parametrize("sent", SILENT)
def test_silent_clients_keep_nobody_from_an_answer(served, sent):
    """With more silent clients than connections and descriptors, a new client is answered and one line is logged."""
    with many(served.port, 2 * DESCRIPTORS, sent) as clients:
        assert get(served.port) == 200
        assert any(map(is_closed, clients))
        assert len(served.descriptors()) < DESCRIPTORS / 2
    assert log_of(served).count("\n") == 1


def test_a_client_that_was_answered_may_stay(served):
    """Of the connections, the one that has waited longest is closed first: not the one that was just used."""
    with many(served.port, DESCRIPTORS // 4 - 1) as silent, connect(served.port) as used:
        for _ in range(3):
            used.sendall(b"GET /data HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer_of(used)[0] == 200
            with many(served.port, 5):
                assert get(served.port) == 200
        assert not is_closed(used)
        assert is_closed(silent[0])


def test_without_a_descriptor_a_client_is_answered(served):
    """When the process has no descriptor left, a spare one serves a client, and the log has one line."""
    count = len(served.descriptors())
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (count, count))
    with many(served.port, 10):
        assert get(served.port) == 200
        assert get(served.port) == 200
    log = log_of(served)
    assert "LimitNOFILE" in log
    assert log.count("\n") == 1


def test_a_lower_limit_of_descriptors_closes_connections(served):
    """If the limit is lowered below what is open, connections are closed and new clients are answered."""
    with many(served.port, 20) as clients:
        until(lambda: len(served.descriptors()) > 25)
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (14, DESCRIPTORS))
        assert get(served.port) == 200
        assert any(map(is_closed, clients))
    assert log_of(served).count("\n") == 1


def test_without_any_descriptor_the_server_waits(served):
    """Without a descriptor and a spare one the server tries again later, and answers once there is one."""
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (3, DESCRIPTORS))
    with connect(served.port, b"GET /data HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        assert "Cannot accept" in served.process.stderr.readline()
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        assert answer_of(client)[0] == 200
    assert log_of(served) == ""


@pytest.mark.parametrize("sent", SILENT)
def test_a_request_that_does_not_become_complete_is_closed(sent, monkeypatch):
    """A client that sends a byte now and then does not extend the time that a request has."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)
    with connect(start(), sent) as client:

        def closed():
            with contextlib.suppress(OSError):
                client.send(b"1" if sent.strip() else sent)
            return is_closed(client)

        until(closed)


def test_an_idle_client_stays_longer_than_an_incomplete_request(monkeypatch):
    """A connection that was answered stays open for the next request, which then has the time of a request."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)
    with connect(port := start()) as client, connect(port) as silent:
        for _ in range(2):
            client.sendall(b"GET /data HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer_of(client)[0] == 200
            until(lambda: is_closed(silent))
            assert not is_closed(client)
        client.sendall(b"GET /data HTTP/1.1\r\n")
        until(lambda: is_closed(client))


def test_an_idle_client_is_closed_in_the_end(monkeypatch):
    """A connection without a further request is closed."""
    monkeypatch.setattr(connections, "IDLE_S", 0.1)
    with connect(start(), b"GET /data HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        until(lambda: is_closed(client))


def test_urgent_data_closes_the_connection(caplog):
    """A byte of urgent data, which no HTTP client sends, ends the connection without a line in the log."""
    with connect(port := start()) as client:
        client.send(b"G", socket.MSG_OOB)
        until(lambda: is_closed(client))
    assert get(port) == 200
    assert caplog.records == []


def test_bodies_are_not_kept_in_files(served):
    """Twelve uploads without the token, each as long as the server takes, leave nothing in the temporary folder."""
    head = b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (MAX_REQUEST_BYTES - 1)
    with many(served.port, 12, head) as clients:
        for client in clients:
            client.sendall(bytes(MAX_REQUEST_BYTES - 2))
        assert get(served.port) == 200
        assert not [path for path in served.descriptors() if path.startswith(str(served.temporary))]
        for client in clients:
            client.sendall(b"x")
            assert answer_of(client)[0] == 401
            client.sendall(b"GET /data HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer_of(client)[0] == 200


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        (b"Content-Length: %d" % MAX_REQUEST_BYTES, b"", 413),
        (b"Content-Length: %d" % 10**30, b"", 413),
        (b"Transfer-Encoding: chunked", b"1000000\r\n" + bytes(MAX_REQUEST_BYTES), 413),
        (b"Transfer-Encoding: chunked", b"1;" + b"x" * 10_000, 400),
        (b"Transfer-Encoding: chunked", b"0" * 10_000, 400),
        (b"Transfer-Encoding: chunked", b"1\r\nx\r\n0\r\nA: " + b"x" * 10_000, 400),
        (b"Transfer-Encoding: chunked", b"x\r\n", 400),
        (b"Transfer-Encoding: odd", b"", 501),
        (b"Content-Length: x", b"", 400),
        (b"X: " + b"x" * 40_000, b"", 431),
    ],
)
def test_a_request_the_server_does_not_read_is_refused_as_json(head, body, status):
    """A request that is too long or not HTTP is answered in JSON with the security headers, and closed."""
    with connect(start(), b"POST /status HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n" + body) as client:
        code, headers, content = answer_of(client)
        assert (code, list(content)) == (status, ["error"])
        assert headers.get_content_type() == "application/json"
        assert headers["X-Content-Type-Options"] == "nosniff"
        until(lambda: is_closed(client))


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_60_mib_reads_its_refusal(chunked):
    """The answer reaches a client that sends a whole body, however long, before it reads: a JSON 413."""
    body = [bytes(1 << 20)] * 60
    headers = {} if chunked else {"Content-Length": str(60 << 20)}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", start(), timeout=HANG_S)) as link:
        link.request("POST", "/status", iter(body), headers, encode_chunked=chunked)
        response = link.getresponse()
        assert (response.status, list(json.loads(response.read()))) == (413, ["error"])


def test_a_refused_client_cannot_send_for_ever(monkeypatch):
    """After its refusal a client has the time of a request to finish."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)
    with connect(start(), b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % 10**12) as client:

        def cut_off():
            try:
                client.sendall(bytes(1000))
            except ConnectionError:
                return True
            return False

        until(cut_off)


def test_clients_that_do_not_read_hold_no_thread(monkeypatch):
    """More clients than threads take nothing of their long answers: another one is answered, the first are cut off."""
    monkeypatch.setattr(connections, "MAX_UNSENT_BYTES", 32 << 20)
    report = b"[" + b" " * (8 << 20) + b"]"
    port = start(views=EMPTY._replace(averages=lambda: [report]))
    request = b"GET /averages HTTP/1.1\r\nHost: a\r\n\r\n"
    with many(port, 10, 4 * request) as clients:
        assert get(port) == 200
        with connect(port, request) as reader:
            assert answer_of(reader)[2] == [[]]
        until(lambda: sum(map(is_closed, clients)) > 5)


def test_a_client_that_stops_reading_is_closed(monkeypatch):
    """A client that takes no byte of its answer any more is closed, although nothing can be sent to it."""
    monkeypatch.setattr(connections, "IDLE_S", 0.2)
    report = b"[" + b" " * (16 << 20) + b"]"
    port = start(views=EMPTY._replace(averages=lambda: [report]))
    with connect(port, b"GET /averages HTTP/1.0\r\n\r\n") as client:
        until(lambda: _peer_is_gone(client))


def _peer_is_gone(client):
    """Whether the server has closed a connection that has bytes to read: its socket is no longer established."""
    port = client.getsockname()[1]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return not any(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_many_machines_polled_at_once_are_no_warning(caplog):
    """300 requests at the same moment wait for a thread without a line in the log."""
    port = start(machines=300)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(100) as clients:
        paths = [f"/machines/{number}/data" for number in range(1, 301)]
        assert set(clients.map(lambda path: get(port, path), paths)) == {200}
    assert caplog.records == []


def test_silent_clients_do_not_disturb_polling(tmp_path):
    """Beside more silent clients than connections, `etl run` is healthy and polls its machine."""
    site = Site(tmp_path)
    site.save()
    with site.running() as process:
        until(lambda: site.lines("averages") and not_refused(site))
        with many(site.port, 300), many(site.port, 300, b"POST /status HTTP/1.1\r\nContent-Length: 9\r\n\r\n"):
            assert site.ask("/healthz") == {"status": "ok"}
            count = len(site.lines("raw"))
            until(lambda: len(site.lines("raw")) > count + 10)
            assert site.ask("/healthz") == {"status": "ok"}
        assert [event for event in site.events("source_down") if not caused_by_load(event)] == []
        end(process)
    assert MAX_CONNECTIONS < 600
