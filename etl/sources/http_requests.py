"""Readings over HTTP with requests: a few threads, kept connections, polls that end by their deadline."""

from __future__ import annotations

import http.client
import logging
import os
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError
from urllib3.util.ssl_ import create_urllib3_context

from etl.readings.records import CLOSED, Answer, Failure, Poll
from etl.sources.http_sockets import Connection, FailedError, Flight, TLSConnection, TLSSocket, here
from etl.sources.contract import AGENT, CAP, TOO_LARGE, HttpSource, refusal
from etl.sources.workers import Workers

PIECE = 64 << 10
"""Bytes of an answer that are decoded at once."""
KEPT = 32
"""Connections to one address that are kept open, at most."""
ENVIRONMENT = {"http_proxy", "https_proxy", "all_proxy", "requests_ca_bundle", "curl_ca_bundle"}
"""What requests takes from the environment. Where none of it is set, it need not look there for each source."""
_NO_TIMEOUT = urllib3.Timeout()
"""For requests: its timeout is one of each wait, and no deadline."""


class Requests:
    """Polls over `requests`: each request is prepared once, connections are kept alive, threads are few."""

    def __init__(self, sources: Iterable[HttpSource], clock: Callable[[], float]) -> None:
        self._sources = {source.name: source for source in sources}
        self._clock = clock
        self._workers = Workers("poll")
        self._session = _Session(self._sources.values())
        self._requests: dict[str, tuple[requests.PreparedRequest, dict[str, Any]]] = {}
        self._flights: set[Flight] = set()
        self._closed = False

    def start(self, names: Iterable[str], deliver: Callable[[Poll], None]) -> None:
        """Begin one poll of each source; `deliver` gets each result, from another thread, by the source's deadline."""
        self._workers.run([partial(self._run, self._sources[name], deliver) for name in names])

    def _run(self, source: HttpSource, deliver: Callable[[Poll], None]) -> None:
        flight = here.flight = Flight(source.timeout)
        self._flights.add(flight)
        try:
            body = self._fetch(source, flight)
        except Exception as error:
            failure = CLOSED if self._closed else explain(error, source.timeout)
            poll = Poll(source.name, self._clock(), failure=failure)
        else:
            poll = Poll(source.name, self._clock(), (Answer(body),))
        self._flights.discard(flight)
        deliver(poll)

    def _fetch(self, source: HttpSource, flight: Flight) -> bytes:
        if source.name not in self._requests:
            self._requests[source.name] = self._session.prepare(source)
        request, how = self._requests[source.name]
        while not self._closed:
            flight.fresh = False
            try:
                response = self._session.send(request, **how)
            except requests.ConnectionError as error:
                # A machine may close a kept connection just as it is used again: that says nothing of the machine.
                if flight.fresh or not _find(error, ConnectionError, ssl.SSLEOFError):
                    raise
            else:
                with response:
                    return _body(response)
        raise FailedError(CLOSED)

    def close(self) -> None:
        """Begin no further poll, cut off those in flight (their failure is CLOSED), and let the connections go."""
        self._closed = True
        self._workers.close()
        for flight in self._flights.copy():
            flight.cut()
        self._session.close()


def post(url: str, body: bytes, timeout: float) -> Failure | None:
    """Post a JSON document, on a connection of its own and as polls do; why it was not taken, if it was not."""
    receiver = HttpSource("", url, timeout, {"Content-Type": "application/json"})
    here.flight = Flight(timeout)
    with _Session([receiver]) as session:
        try:
            request, how = session.prepare(receiver, body)
            with session.send(request, **how) as response:
                return refusal(response.status_code)
        except Exception as error:
            return explain(error, timeout)


def _body(response: requests.Response) -> bytes:
    if refused := refusal(response.status_code):
        raise FailedError(refused)
    body = bytearray()
    for piece in response.raw.stream(PIECE, decode_content=True):
        body += piece
        if len(body) > CAP:
            raise FailedError(TOO_LARGE)
    return bytes(body)


_KINDS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((TimeoutError,), "timeout", "no answer within {timeout:g} s"),
    ((urllib3.exceptions.ProxyError,), "proxy", "the proxy cannot be reached, or refuses"),
    ((NameResolutionError,), "dns", "the host's name cannot be resolved"),
    ((ssl.SSLCertVerificationError,), "tls", "the certificate is not trusted: {error.verify_message}"),
    ((ssl.SSLError,), "tls", "TLS failed: {error.reason}"),
    ((ConnectionRefusedError,), "refused", "connection refused"),
    ((ConnectionError, http.client.IncompleteRead), "reset", "the connection broke off"),
    ((urllib3.exceptions.DecodeError,), "encoding", "the answer's compression is broken"),
    ((OSError,), "network", "the network fails: {error}"),
    ((http.client.HTTPException, urllib3.exceptions.HTTPError), "protocol", "the answer is not proper HTTP"),
)
"""Each kind of error, its stable code, and a sentence without the URL, which may hold a secret; the first one holds."""


def explain(error: Exception, timeout: float) -> Failure:
    """Put a failed poll in words."""
    told = _find(error, FailedError)
    if isinstance(told, FailedError):
        return told.failure
    for kinds, reason, sentence in _KINDS:
        if found := _find(error, *kinds):
            return Failure(reason, sentence.format(error=found, timeout=timeout))
    return Failure("failed", f"the request cannot be made: {type(error).__name__}")


def _find(error: Exception, *kinds: type[BaseException]) -> BaseException | None:
    """The first error of these kinds among an error and what caused it; None if there is none."""
    return next((cause for cause in _causes(error) if isinstance(cause, kinds)), None)


def _causes(error: Exception) -> Iterator[BaseException]:
    """An error and what caused it: requests and urllib3 wrap the telling one several times."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        here = todo.pop(0)
        if isinstance(here, BaseException) and here not in seen:
            seen.append(here)
            if not isinstance(here, requests.RequestException):
                yield here
            todo += [getattr(here, "reason", None), here.__cause__, here.__context__, *here.args]


class _Pool(HTTPConnectionPool):
    ConnectionCls = Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = TLSConnection


_POOLS = {"http": _Pool, "https": _TLSPool}


class _Adapter(HTTPAdapter):
    """Finds the way to each source once, and leaves out of an answer what polls do not use."""

    def __init__(self, pool_connections: int, pool_maxsize: int) -> None:
        super().__init__(pool_connections, pool_maxsize)
        self.poolmanager.pool_classes_by_scheme = _POOLS
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._making = threading.Lock()
        self._ways: dict[requests.PreparedRequest, tuple[Any, str]] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        if request not in self._ways:
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            self._ways[request] = pool, super().request_url(request, proxies)
        return self._ways[request][0]

    def request_url(self, request: requests.PreparedRequest, _: Any) -> str:
        return self._ways[request][1]

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {"ssl_context": self._context(verify)} if host["scheme"] == "https" else {}

    def _context(self, verify: str | bool) -> ssl.SSLContext:
        trusted = DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
        with self._making:
            if trusted not in self._contexts:
                self._contexts[trusted] = _trusting(trusted)
            return self._contexts[trusted]

    def cert_verify(self, *_: Any) -> None:
        """Leave this to the TLS context, which always verifies."""

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("https:"):
            kwargs["proxy_ssl_context"] = self._context(os.environ.get("REQUESTS_CA_BUNDLE") or True)
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_response(self, _: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = resp.status
        response.raw = resp
        return response

    def close(self) -> None:
        """Close the connections that are kept; urllib3 would leave that to the garbage collector."""
        for pool, _ in list(self._ways.values()):
            pool.close()
        super().close()


class _Session(requests.Session):
    """Polls are independent of one another: nothing a machine sets is kept, and nobody is sent elsewhere."""

    def __init__(self, sources: Iterable[HttpSource]) -> None:
        super().__init__()
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # a failed poll is told as such, and without its URL
        self.headers.clear()
        self.headers.update({"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": AGENT})
        self.cookies = _NoCookies()
        self.trust_env = any(name.lower() in ENVIRONMENT for name in os.environ)
        shares = Counter(urlsplit(source.url).netloc for source in sources)
        kept = KEPT if self.trust_env else min(KEPT, max(shares.values(), default=1))
        adapter = _Adapter(pool_connections=shares.total() + 1, pool_maxsize=kept)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def prepare(self, source: HttpSource, body: bytes | None = None) -> tuple[requests.PreparedRequest, dict[str, Any]]:
        """The request for a source, or what posts it this body, and how to send it."""
        url = urlsplit(source.url)

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            """Credentials come from the config only: without this, requests would look into .netrc."""
            if url.username is not None:
                login = unquote(url.username).encode(), unquote(url.password or "").encode()
                requests.auth.HTTPBasicAuth(*login)(request)
            return request

        headers = {name: value.encode() for name, value in source.headers.items()}
        method = "GET" if body is None else "POST"
        request = self.prepare_request(requests.Request(method, source.url, headers=headers, data=body, auth=sign))
        how = self.merge_environment_settings(source.url, {}, True, source.ca_file, None)
        return request, {**how, "timeout": _NO_TIMEOUT, "allow_redirects": False}

    def resolve_redirects(self, *_: Any, **__: Any) -> Any:
        return iter(())


class _NoCookies(RequestsCookieJar):
    def extract_cookies(self, *_: Any) -> None:
        pass


def _trusting(trusted: str) -> ssl.SSLContext:
    """A TLS context that trusts these certificates; with those that come with requests, the system's as well."""
    context = create_urllib3_context()
    context.sslsocket_class = TLSSocket
    try:
        if trusted == DEFAULT_CA_BUNDLE_PATH:
            context.load_default_certs()
        context.load_verify_locations(**{"capath" if os.path.isdir(trusted) else "cafile": trusted})
    except OSError as error:
        raise FailedError(Failure("tls", f"the certificates in ca_file cannot be read: {error.strerror}")) from error
    return context
