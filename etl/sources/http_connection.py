"""Connections of urllib3 whose socket the poll in flight knows, and whose answers are limited in size."""

import http.client
import io
import socket
import threading
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from etl.readings.records import Failure
from etl.sources.contract import MAX_BODY_BYTES, MAX_OVERHEAD_BYTES, TOO_LARGE
from etl.sources.poll_threads import PendingPoll


class FailedError(Exception):
    """Carries a complete failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


class _Current(threading.local):
    poll: PendingPoll


current = _Current()
"""`current.poll` is the poll that the calling thread runs: urllib3 passes nothing of ours on to its connections."""


class _LimitedStream(io.RawIOBase):
    """The bytes of one answer as received; reading fails beyond the size limit.

    http.client and urllib3 bound neither the trailers, nor interim 100 answers, nor a chunk with a negative size.
    """

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self._bytes_left = MAX_BODY_BYTES + MAX_OVERHEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._stream.readinto(buffer)
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise FailedError(TOO_LARGE)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LimitedSocket:
    """Stands in for the socket of an http.client response, which only calls `makefile`."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_LimitedStream(self._sock.makefile(mode, buffering=0)))


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        limited: Any = _LimitedSocket(sock)
        super().__init__(limited, *args, **kwargs)


class _Connection(HTTPConnection):
    """Records the socket it is about to wait on in the poll of the calling thread, so that the watchdog can end it.

    Connecting is bounded by the poll's deadline, whatever the number of addresses; the TLS handshake by the timeout of
    the socket, which OpenSSL's wrapper applies to the handshake as a whole.
    """

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        poll = current.poll
        poll.opened_connection = True
        addresses = socket.getaddrinfo(self._dns_host.strip("[]"), self.port or 0, type=socket.SOCK_STREAM)
        failure: OSError = OSError("no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                poll.use(sock)
                sock.settimeout(poll.seconds_left() / (len(addresses) - tried))
                sock.connect(address)
                sock.settimeout(poll.seconds_left())
                return sock
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def send(self, data: Any) -> None:
        """Send, after recording the socket: each request of a kept connection, and each CONNECT, comes through here."""
        if self.sock:
            current.poll.use(getattr(self.sock, "socket", self.sock))  # TLS inside TLS wraps the proxy's socket
        super().send(data)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


POOLS = {"http": _Pool, "https": _TLSPool}
"""For `PoolManager.pool_classes_by_scheme`."""
