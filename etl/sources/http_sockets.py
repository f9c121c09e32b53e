"""Sockets that keep the deadline of the poll they serve: in every wait, whatever requests and urllib3 would set."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NameResolutionError, NewConnectionError

from etl.readings.records import Failure
from etl.sources.contract import CAP, HEAD, TOO_LARGE


class FailedError(Exception):
    """A failure that is in words already."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


here = threading.local()
"""The `flight` a thread is busy with."""


class Flight:
    """A poll on its way: what bounds it, and the socket it waits on."""

    def __init__(self, timeout: float) -> None:
        self.deadline = time.monotonic() + timeout
        self.received = 0
        self.fresh = False
        self.sock: socket.socket | None = None

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            TimeoutError: there are none.

        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def cut(self) -> None:
        """Let it fail at once."""
        self.deadline = 0
        if self.sock:
            with suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


class Socket(socket.socket):
    """A socket whose every wait ends at its poll's deadline: an answer that drips gains no time."""

    def settimeout(self, _: float | None) -> None:
        """What requests and urllib3 would set is left out."""

    def _bound(self, share: int = 1) -> Flight:
        flight: Flight = here.flight
        flight.sock = self
        super().settimeout(flight.left() / share)
        return flight

    def reach(self, address: Any, share: int) -> None:
        """Connect within this share of the time that is left."""
        self._bound(share)
        self.connect(address)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        """Send, by the deadline."""
        self._bound()
        super().sendall(*args, **kwargs)

    def recv(self, *args: Any, **kwargs: Any) -> bytes:
        """Receive, by the deadline."""
        self._bound()
        return super().recv(*args, **kwargs)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Receive, by the deadline, no more in all than an answer may have."""
        flight = self._bound()
        count = super().recv_into(*args, **kwargs)
        if not count:
            flight.left()  # what looks like the end of an answer may be that of the poll
        flight.received += count
        if flight.received > CAP + HEAD:
            raise FailedError(TOO_LARGE)
        return count


class TLSSocket(Socket, ssl.SSLSocket):
    """The same over TLS."""

    def do_handshake(self, *args: Any, **kwargs: Any) -> None:
        """Agree on the keys, by the deadline."""
        self._bound()
        super().do_handshake(*args, **kwargs)


class Connection(HTTPConnection):
    """Connects by the deadline, however many addresses the name has."""

    def _new_conn(self) -> socket.socket:
        flight: Flight = here.flight
        flight.fresh = True
        try:
            addresses = _look_up(self._dns_host.strip("[]"), self.port or 0, flight.left)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        failed: OSError | None = None
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = Socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.reach(address, share=len(addresses) - tried)
                return sock
            except OSError as error:
                sock.close()
                failed = error
        raise NewConnectionError(self, str(failed)) from failed


class TLSConnection(Connection, HTTPSConnection):
    """The same over TLS."""


_asked: dict[tuple[str, int], Future[list[Any]]] = {}
_asking = threading.Lock()


def _look_up(host: str, port: int, left: Callable[[], float]) -> list[Any]:
    """Resolve a name on a thread of its own: the system's resolver knows no deadline, and may take a minute."""
    with suppress(OSError):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    with _asking:
        answer = _asked.get((host, port))
        if answer is None:
            answer = Future()
            threading.Thread(target=_ask, args=(host, port, answer), name="resolve", daemon=True).start()
            _asked[host, port] = answer
    return answer.result(left())


def _ask(host: str, port: int, answer: Future[list[Any]]) -> None:
    try:
        answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except Exception as error:
        answer.set_exception(error)
    finally:
        with _asking:
            del _asked[host, port]
