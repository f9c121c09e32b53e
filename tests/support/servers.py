"""Servers on loopback ports that do what machines should do, and what they should not."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.process import HANG_S

READING = (
    b'{"id":1,"temperature":30.21,"fan_speed":811.62,"status":"COMPLETED","timestamp":"2026-11-22T10:00:00+00:00"}'
)
DROP = 0.05
"""Seconds between two bytes of a server that drips."""


class Connection:
    """A server's end of one connection."""

    def __init__(self, sock: socket.socket, server: Server) -> None:
        self.sock = sock
        self.server = server
        self._rest = b""

    def request(self) -> bytes | None:
        """The next request, which the server keeps; None if the client is gone."""
        while b"\r\n\r\n" not in self._rest:
            more = self.sock.recv(65536)
            if not more:
                return None
            self._rest += more
        request, _, self._rest = self._rest.partition(b"\r\n\r\n")
        self.server.requests.append(request)
        return request

    def requests(self) -> Iterator[bytes]:
        while (request := self.request()) is not None:
            yield request

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """Send a byte now and then."""
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(DROP)

    def wait(self) -> None:
        """Say nothing until the client is gone."""
        while self.sock.recv(65536):
            pass

    def reset(self) -> None:
        """Break the connection off."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Talk = Callable[[Connection], None]


class Server:
    """Hands each connection to `talk`, on a thread of its own; without `talk`, connections are never accepted."""

    def __init__(
        self, talk: Talk | None, tls: ssl.SSLContext | None = None, scheme: str = "", host: str = "", port: int = 0
    ) -> None:
        self._talk = talk
        self._tls = tls
        self._scheme = scheme or ("https" if tls else "http")
        self._host = host or "127.0.0.1"
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, port), family=family, backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.requests: list[bytes] = []
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)] if talk else []
        for thread in self._threads:
            thread.start()

    @property
    def netloc(self) -> str:
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.netloc}/data"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.add(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock, self._secured(sock) as secured:
            assert self._talk
            self._talk(Connection(secured, self))
        self._open.discard(sock)

    def _secured(self, sock: socket.socket) -> socket.socket:
        return self._tls.wrap_socket(sock.dup(), server_side=True) if self._tls else sock

    def wait_until_idle(self, patience: float = 60.0) -> None:
        """Wait until no connection is open."""
        deadline = time.monotonic() + patience
        while self._open:
            assert time.monotonic() < deadline, f"{len(self._open)} connections are open"
            time.sleep(0.005)

    def close(self) -> None:
        """Close the port and every connection, and wait for the threads."""
        for sock in [self._listener, *self._open.copy()]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(HANG_S)
            assert not thread.is_alive()


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """A port where connections are neither taken nor refused: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# What servers say


def answer(body: bytes = READING, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    """One response; `length` is what it says its body's length is."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n{headers}\r\n"
    return head.encode() + body


def says(data: bytes) -> Talk:
    """Answers every request with these bytes, and keeps the connection open."""

    def talk(connection: Connection) -> None:
        for _ in connection.requests():
            connection.send(data)

    return talk


def says_and_closes(data: bytes) -> Talk:
    """Answers one request with these bytes, and closes the connection."""

    def talk(connection: Connection) -> None:
        if connection.request() is not None:
            connection.send(data)
            connection.sock.shutdown(socket.SHUT_WR)
            connection.wait()

    return talk


def blurts(data: bytes) -> Talk:
    """Sends these bytes whatever it is sent first, and closes the connection."""

    def talk(connection: Connection) -> None:
        connection.sock.recv(65536)
        connection.send(data)
        connection.sock.shutdown(socket.SHUT_WR)
        connection.wait()

    return talk


def drips(head: bytes, body: bytes = READING) -> Talk:
    """Sends `head` at once, and `body` by the byte."""

    def talk(connection: Connection) -> None:
        for _ in connection.requests():
            connection.send(head)
            connection.drip(body)

    return talk


def breaks_off(data: bytes = b"") -> Talk:
    """Sends these bytes, and resets the connection."""

    def talk(connection: Connection) -> None:
        connection.request()
        connection.send(data)
        connection.reset()

    return talk


def floods(head: bytes, piece: bytes, times: int | None = None) -> Talk:
    """Sends `head`, then `piece` again and again."""

    def talk(connection: Connection) -> None:
        connection.request()
        connection.send(head)
        for _ in itertools.repeat(None, times) if times else itertools.repeat(None):
            connection.send(piece)

    return talk


def leaves_at_second_request(leave: Callable[[Connection], None]) -> Talk:
    """Answers once on each connection; `leave` is what it does with the second request there."""

    def talk(connection: Connection) -> None:
        connection.request()
        connection.send(answer())
        if connection.request() is not None:
            leave(connection)

    return talk


def waits(connection: Connection) -> None:
    """Takes what comes, and never answers."""
    connection.wait()


def good(connection: Connection) -> None:
    """Answers every request with a reading."""
    says(answer())(connection)


def proxies(connection: Connection) -> None:
    """A proxy: carries CONNECT through, and answers everything else itself."""
    request = connection.request()
    while request is not None:
        method, target, _ = request.split(b" ", 2)
        if method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            with socket.create_connection((host, int(port))) as onward:
                connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_carry, args=(onward, connection.sock), daemon=True)
                back.start()
                _carry(connection.sock, onward)
                back.join(HANG_S)
            return
        connection.send(answer(b'{"id":"through the proxy"}'))
        request = connection.request()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def gzip_bomb(mebibytes: int) -> bytes:
    """So many MiB of zeros, in a thousandth of the size."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(mebibytes)) + packer.flush()


def gzipped(body: bytes = READING) -> bytes:
    return gzip.compress(body)


# Certificates


class Certificates(NamedTuple):
    """Files: `ca` is who signs; each other one holds a server's certificate and key."""

    ca: Path
    good: Path
    wrong_host: Path
    expired: Path
    self_signed: Path


def make_certificates(folder: Path) -> Certificates:
    """Sign certificates for 127.0.0.1, with the `openssl` command."""

    def run(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True, timeout=HANG_S)

    def key(name: str, host: str) -> None:
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        (folder / f"{name}.ext").write_text(f"subjectAltName={host}\n")

    def sign(name: str, days: int, *by: str) -> None:
        run(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-days",
            f"{days}",
            "-extfile",
            f"{name}.ext",
            "-out",
            f"{name}.crt",
            *by,
        )
        both = (folder / f"{name}.crt").read_bytes() + (folder / f"{name}.key").read_bytes()
        (folder / f"{name}.pem").write_bytes(both)

    here = "IP:127.0.0.1,DNS:localhost"
    run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
        "-out", "ca.crt", "-subj", "/CN=ca")  # fmt: skip
    for name, host, days in (("good", here, 30), ("wrong_host", "DNS:elsewhere.example", 30), ("expired", here, -1)):
        key(name, host)
        sign(name, days, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
    key("self_signed", here)
    sign("self_signed", 30, "-signkey", "self_signed.key")
    return Certificates(folder / "ca.crt", *(folder / f"{name}.pem" for name in Certificates._fields[1:]))


def tls(certificate: Path) -> ssl.SSLContext:
    """What a server needs to speak TLS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
