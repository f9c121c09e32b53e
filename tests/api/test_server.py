"""The WSGI server on a real port, and `python -m api`."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle

import pytest
from click.testing import CliRunner

from api.__main__ import main
from api.app import create_app
from api.machines import Machines
from api.server import serve
from tests.support.api import BODY


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


@pytest.mark.parametrize("host", ["203.0.113.1", "2001:db8::1", "a..b", "\u00e9" * 70])
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


def test_an_address_of_another_machine_is_not_blamed_on_the_port():
    """The hint is about --host; 203.0.113.1 belongs to nobody."""
    with command("--host", "203.0.113.1", "--insecure") as process:
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 74
    assert stderr.endswith("Choose another address with --host.\n")


def test_an_address_of_ipv6_is_printed_as_in_a_url():
    """In brackets."""
    with command("--host", "::1", "--port", "0") as process:
        assert process.stderr.readline().startswith("Serving 1 machine on http://[::1]:")
        process.terminate()


@pytest.mark.parametrize("arguments", [("--port", "http"), ("--port", "70000"), ("--machines", "0"), ("--colour",)])
def test_an_invalid_option_is_a_usage_error(arguments):
    """An invalid option is exit code 2."""
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output[:7]) == (2, "Usage: ")
