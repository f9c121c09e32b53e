"""Readings over HTTP: polls that end by their deadline whatever the other side does."""

from __future__ import annotations

import http.client
import http.cookiejar
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection
from urllib3.util.ssl_ import create_urllib3_context

from etl.records import Answer, Failure, Poll
from etl.workers import Workers

CAP = 5 << 20
"""Bytes of one answer, decoded, at most."""


class HttpSource(NamedTuple):
    """One machine's URL, read within `timeout` seconds; `ca_file` replaces the system's trusted certificates."""

    name: str
    url: str
    timeout: float
    headers: Mapping[str, str]
    ca_file: str | None = None


_poll = threading.local()
"""The poll a thread is busy with: `deadline`, in seconds of the monotonic clock."""


def _left() -> float:
    left: float = _poll.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Socket(socket.socket):
    """A socket whose every wait ends at its poll's deadline: a dripping answer gains no time."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left())
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_left())
        super().sendall(*args, **kwargs)


class _TLSSocket(ssl.SSLSocket):
    """The same over TLS."""

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(_left())
        return super().recv_into(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(_left())
        super().sendall(*args, **kwargs)


class _Connection(HTTPConnection):
    """Connects within the poll's deadline, however many addresses the name has."""

    def _new_conn(self) -> socket.socket:
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        failed: OSError = OSError("the name has no address")
        for *_, address in addresses:
            try:
                sock = create_connection(
                    (str(address[0]), self.port), _left(), self.source_address, self.socket_options
                )
                return _Socket(fileno=sock.detach())
            except TimeoutError as error:
                raise ConnectTimeoutError(self, "timed out") from error
            except OSError as error:
                failed = error
        raise NewConnectionError(self, str(failed)) from failed


class _TLSConnection(_Connection, HTTPSConnection):
    def connect(self) -> None:
        self.ssl_context = _context(self.ca_certs, self.ca_cert_dir)
        super().connect()


@lru_cache
def _context(ca_certs: str | None, ca_cert_dir: str | None) -> ssl.SSLContext:
    context = create_urllib3_context()
    context.load_verify_locations(ca_certs, ca_cert_dir)
    context.sslsocket_class = _TLSSocket
    return context


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
        return manager


class _Prepared(NamedTuple):
    name: str
    request: requests.PreparedRequest
    timeout: float
    settings: dict[str, Any]


class Requests:
    """Polls over `requests`: each request is prepared once, connections are kept alive, threads are few."""

    def __init__(self, sources: Iterable[HttpSource], clock: Callable[[], float]) -> None:
        sources = list(sources)
        hosts = Counter(urlsplit(source.url).netloc for source in sources)
        self._clock = clock
        self._workers = Workers("poll")
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"
        self._session.cookies.set_policy(_NoCookies())
        adapter = _Adapter(pool_connections=len(hosts) + 1, pool_maxsize=min(32, max(hosts.values(), default=1)))
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._prepared = {source.name: self._prepare(source) for source in sources}

    def _prepare(self, source: HttpSource) -> _Prepared:
        auth = get_auth_from_url(source.url)
        request = requests.Request(
            "GET", source.url, headers=dict(source.headers), auth=auth if any(auth) else _no_netrc
        )
        prepared = self._session.prepare_request(request)
        settings = self._session.merge_environment_settings(source.url, {}, True, source.ca_file, None)
        return _Prepared(source.name, prepared, source.timeout, dict(settings))

    def start(self, names: Iterable[str], deliver: Callable[[Poll], None]) -> None:
        """Begin one poll of each source; `deliver` gets each result, from another thread, by the source's deadline."""
        self._workers.run([partial(self._run, self._prepared[name], deliver) for name in names])

    def _run(self, source: _Prepared, deliver: Callable[[Poll], None]) -> None:
        _poll.deadline = time.monotonic() + source.timeout
        try:
            body = self._fetch(source)
        except Exception as error:
            deliver(Poll(source.name, self._clock(), failure=explain(error, source.timeout)))
        else:
            deliver(Poll(source.name, self._clock(), (Answer(body),)))

    def _fetch(self, source: _Prepared) -> bytes:
        try:
            response = self._send(source)
        except requests.ConnectionError as error:
            # A machine may close a kept connection just as it is used again: that says nothing of the machine.
            if not any(isinstance(e, http.client.RemoteDisconnected) for e in _chain(error)):
                raise
            response = self._send(source)
        with response:
            if response.status_code >= 300:
                raise _BadStatusError(response.status_code)
            body: bytes = response.raw.read(CAP + 1, decode_content=True)
        if len(body) > CAP:
            raise _TooLargeError
        return body

    def _send(self, source: _Prepared) -> requests.Response:
        return self._session.send(
            source.request, allow_redirects=False, timeout=_left(), **{**source.settings, "stream": True}
        )

    def close(self) -> None:
        """Begin no further poll and let the connections go."""
        self._workers.close()
        self._session.close()


class _NoCookies(http.cookiejar.DefaultCookiePolicy):
    """Polls are independent of one another: nothing a machine sets is kept."""

    def set_ok(self, *_: Any) -> bool:
        return False


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Credentials come from the config only."""
    return request


class _BadStatusError(Exception):
    pass


class _TooLargeError(Exception):
    pass


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it: requests and urllib3 wrap the telling one several times."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        here = todo.pop()
        if isinstance(here, BaseException) and here not in seen:
            seen.append(here)
            yield here
            todo += [getattr(here, "reason", None), here.__cause__, here.__context__, *here.args]


def explain(error: BaseException, timeout: float) -> Failure:
    """Put a failed poll in words: a stable code and a sentence without the URL, which may hold a secret."""
    causes = list(_chain(error))

    def first(*kinds: type[BaseException]) -> Any:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if status := first(_BadStatusError):
        code = status.args[0]
        if code < 400:
            return Failure("redirect", f"HTTP {code}: redirects are not followed")
        return Failure("http_status", f"HTTP {code} {http.client.responses.get(code, '')}".rstrip())
    if first(_TooLargeError):
        return Failure("too_large", f"the answer is larger than {CAP >> 20} MiB")
    if first(TimeoutError, urllib3.exceptions.TimeoutError):
        return Failure("timeout", f"no answer within {timeout:g} s")
    if first(socket.gaierror, NameResolutionError):
        return Failure("dns", "the host's name does not resolve")
    if tls := first(ssl.SSLCertVerificationError):
        return Failure("tls", f"the certificate is not trusted: {tls.verify_message}")
    if tls := first(ssl.SSLError):
        return Failure("tls", f"TLS failed: {tls.reason or tls}")
    if first(ConnectionRefusedError):
        return Failure("refused", "connection refused")
    if first(ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected, http.client.IncompleteRead):
        return Failure("reset", "the connection broke off")
    if first(urllib3.exceptions.DecodeError):
        return Failure("encoding", "the answer's compression is broken")
    if system := first(OSError):
        return Failure("network", system.strerror or type(causes[-1]).__name__)
    return Failure("failed", f"{type(error).__name__}: {error}"[:200])
