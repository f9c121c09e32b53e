"""Connections of urllib3 whose socket the poll in flight knows, and whose answers `requests_response` reads."""

import socket
import threading
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from etl.sources.http.request import closes_connection
from etl.sources.http.requests_response import LastResponse, Response
from etl.sources.poll_threads import PendingPoll


class _Current(threading.local):
    poll: PendingPoll


current = _Current()
"""`current.poll` is the poll that the calling thread runs: urllib3 passes nothing of ours on to its connections."""


class _Connection(HTTPConnection):
    """Records the socket it is about to wait on in the poll of the calling thread, so that the watchdog can end it.

    Connecting is bounded by the poll's deadline, whatever the number of addresses; the TLS handshake by the timeout of
    the socket, which OpenSSL's wrapper applies to the handshake as a whole.
    """

    response_class = Response

    def _new_conn(self) -> socket.socket:
        poll = current.poll
        poll.opened_connection = True
        host = self._dns_host.strip("[]").replace("%25", "%")
        addresses = socket.getaddrinfo(host, self.port or 0, type=socket.SOCK_STREAM)
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

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Send a request; one with `Connection: close` has the connection closed after the answer, by this side too."""
        self.response_class = LastResponse if closes_connection(headers or {}) else Response
        super().request(method, url, body, headers, **options)

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
