"""What the tests of every HTTP transport share: a receiver of polls, and machines that hang or send garbage."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from etl.readings.records import Poll
from etl.sources.contract import MAX_BODY_BYTES, Target
from etl.sources.http.requests_transport import Requests
from tests.support import servers
from tests.support.servers import READING, Server, Talk, answer, chunked, says, says_and_closes

try:
    from etl.sources.http.curl_transport import Curl
except ImportError:  # the extra `fleet` is not installed
    Curl = None

TRANSPORTS = [Requests, Curl] if Curl else [Requests]
DEADLINE = 0.3
"""Seconds for a machine that hangs."""
PATIENCE = 60.0
"""Seconds after which a test that hangs fails; nothing is expected to take that long."""
SECRET = "s3cret"


class Inbox:
    """Receives what a transport delivers, with the seconds each source took."""

    def __init__(self) -> None:
        self.polls: list[Poll] = []
        self.took: dict[str, float] = {}
        self._started = time.monotonic()
        self._changed = threading.Condition()

    def __call__(self, polls: Iterable[Poll]) -> None:
        with self._changed:
            for poll in polls:
                self.polls.append(poll)
                self.took[poll.source] = time.monotonic() - self._started
            self._changed.notify_all()

    def wait(self, names: Iterable[str], patience: float = PATIENCE) -> None:
        """Wait until these sources are delivered."""
        expected = set(names)
        with self._changed:
            complete = self._changed.wait_for(lambda: expected <= self.took.keys(), patience)
        assert complete, f"not delivered: {sorted(expected - self.took.keys())}"

    def of(self, name: str) -> Poll:
        (poll,) = (poll for poll in self.polls if poll.source == name)
        return poll

    def first(self, name: str) -> Poll:
        """The first result of a source, which may send further ones on its own."""
        return next(poll for poll in self.polls if poll.source == name)


def machine(url: str, name: str = "machine", timeout: float = PATIENCE, **options) -> Target:
    return Target(name, url, timeout, options.pop("headers", {}), **options)


def poll_all(transport, names: Iterable[str]) -> Inbox:
    """One poll of each source, delivered."""
    names = list(names)
    inbox = Inbox()
    transport.start(names, inbox)
    inbox.wait(names)
    return inbox


def poll(transport, name: str = "machine") -> Poll:
    return poll_all(transport, [name]).of(name)


def headers_of(request: bytes) -> dict[str, str]:
    lines = request.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def open_resources() -> tuple[int, int]:
    """The number of threads and of descriptors of this process."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class Fault(NamedTuple):
    """The behaviour of a machine, and the reason of its failure."""

    talk: Talk | None
    reason: str
    scheme: str = "http"
    headers: dict[str, str] = {}  # noqa: RUF012  never changed


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HANGS = {
    "never accepts": Fault(None, "timeout"),
    "never answers": Fault(servers.waits, "timeout"),
    "never reads a large request": Fault(None, "timeout", headers={"X-Large": "x" * (6 << 20)}),
    "never finishes the TLS handshake": Fault(servers.waits, "timeout", "https"),
    "drips the TLS handshake": Fault(servers.drips(b"", b"\x16\x03\x03\x40\x00" + bytes(100)), "timeout", "https"),
    "stops in its status line": Fault(says(b"HTTP/1.1 2"), "timeout"),
    "drips its headers": Fault(servers.drips(b"", answer()), "timeout"),
    "drips its body": Fault(servers.drips(HEAD), "timeout"),
    "drips chunks": Fault(servers.drips(CHUNKED, chunked(*[b"x"] * 100)), "timeout"),
    "drips gzip": Fault(servers.drips(HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n", servers.gzipped()), "timeout"),
    "drips without an end": Fault(servers.drips(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 100), "timeout"),
    "stops before a body without an end": Fault(says(b"HTTP/1.0 200 OK\r\n\r\n"), "timeout"),
    "stops in its body": Fault(says(HEAD + READING), "timeout"),
}


def open_all(kind, faults: dict[str, Fault], stack: ExitStack, timeout: float):
    """A transport of this kind, and a server for each of its sources."""
    sources = []
    for name, fault in faults.items():
        server = Server(fault.talk, scheme=fault.scheme)
        stack.callback(server.close)
        url = server.url.replace("://", f"://user:{SECRET}@") + f"?token={SECRET}"
        sources.append(Target(name, url, timeout, fault.headers))
    transport = kind(sources, time.time)
    stack.callback(transport.close)
    return transport


LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
FAULTS = {
    "500": Fault(says(answer(status="500 Internal Server Error")), "http_status"),
    "502": Fault(says(answer(status="502 Bad Gateway")), "http_status"),
    "429": Fault(says(answer(status="429 Too Many Requests", headers="Retry-After: 3600\r\n")), "http_status"),
    "404": Fault(says(answer(status="404 Not Found")), "http_status"),
    "401": Fault(says(answer(status="401 Unauthorized", headers="WWW-Authenticate: Basic\r\n")), "http_status"),
    "304": Fault(says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "http_status"),
    "an unknown status": Fault(says(answer(status="599 What")), "http_status"),
    "a redirect without a target": Fault(says(answer(status="302 Found")), "redirect"),
    "an endless error": Fault(servers.floods(b"HTTP/1.1 500 No\r\n\r\n", bytes(1 << 16)), "http_status"),
    "an endless redirect": Fault(
        servers.floods(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", bytes(1 << 16)), "redirect"
    ),
    "closes": Fault(lambda connection: None, "reset"),
    "resets": Fault(servers.breaks_off(), "reset"),
    "closes after the request": Fault(says_and_closes(b""), "reset"),
    "breaks off in the head": Fault(servers.breaks_off(HEAD[:20]), "reset"),
    "breaks off in the body": Fault(servers.breaks_off(HEAD + READING), "reset"),
    "ends in the body": Fault(says_and_closes(HEAD + READING), "reset"),
    "ends in a chunk": Fault(says_and_closes(CHUNKED + b"ff\r\n" + READING), "reset"),
    "ends between chunks": Fault(says_and_closes(CHUNKED + chunked(READING, end=b"")), "reset"),
    "a large body": Fault(servers.floods(LARGE, bytes(1 << 16), 1 << 14), "too_large"),
    "an endless body": Fault(servers.floods(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 16)), "too_large"),
    "endless chunks": Fault(servers.floods(CHUNKED, chunked(bytes(1 << 16), end=b"")), "too_large"),
    "a body just above the cap": Fault(says(answer(bytes(MAX_BODY_BYTES + 1))), "too_large"),
    "a gzip bomb": Fault(says(answer(servers.gzip_bomb(100), headers="Content-Encoding: gzip\r\n")), "too_large"),
    "a chunk of negative size": Fault(servers.floods(CHUNKED + b"-1\r\n", bytes(1 << 16)), "protocol"),
    "a chunk without a size": Fault(servers.floods(CHUNKED + b"what\r\n", bytes(1 << 16), 1), "protocol"),
    "endless trailers": Fault(servers.floods(CHUNKED + b"0\r\n", b"X: y\r\n" * 999), "too_large"),
    "endless headers": Fault(servers.floods(HEAD[:-2], b"X: y\r\n" * 999), "too_large"),
    "an endless header": Fault(servers.floods(HEAD[:-2] + b"X: ", b"x" * (1 << 16)), "too_large"),
    "an endless status line": Fault(servers.floods(b"HTTP/1.1 200 ", b"x" * (1 << 16)), "too_large"),
    "100 for ever": Fault(servers.floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 999), "too_large"),
    "broken gzip": Fault(says(answer(b"\x1f\x8b" + READING, headers="Content-Encoding: gzip\r\n")), "encoding"),
    "text for gzip": Fault(says(answer(READING, headers="Content-Encoding: gzip\r\n")), "encoding"),
    "six codings": Fault(says(answer(headers="Content-Encoding: " + ", ".join(["gzip"] * 6) + "\r\n")), "encoding"),
    "a garbage status line": Fault(says(b"what is this\r\n\r\n"), "protocol"),
    "a garbage status": Fault(says_and_closes(b"HTTP/1.1 abc OK\r\n\r\n"), "protocol"),
    "SSH": Fault(says(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol"),
    "noise": Fault(servers.blurts(bytes(range(256)) * 99), "protocol"),
    "two lengths": Fault(says(answer(headers="Content-Length: 7\r\n")), "protocol"),
    "TLS, and the other side does not speak it": Fault(servers.blurts(b"\x15\x03\x01\x00\x02\x02\x46"), "protocol"),
    "no TLS, where it is expected": Fault(servers.blurts(answer()), "tls", "https"),
}
