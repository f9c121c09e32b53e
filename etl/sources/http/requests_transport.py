"""HTTP over requests: the default transport. Each request is prepared once, and connections are kept."""

from __future__ import annotations

import http.client
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from etl.readings.records import Answer, Failure, Poll
from etl.sources.contract import MAX_BODY_BYTES, TOO_LARGE, Content, Deliver, Target
from etl.sources.http.answer import FailedError, decode, refusal, unreadable_certificates
from etl.sources.http.request import HttpRequest, environment_certificates, environment_proxies, prepare
from etl.sources.http.requests_connection import POOLS, current
from etl.sources.intake import BUSY, Intake, Lease
from etl.sources.poll_threads import PendingPoll, PollThreads

READ_BYTES = 64 << 10
"""Bytes of an answer that are read at a time."""
MAX_KEPT_CONNECTIONS = 32
"""Limit of idle connections to one address."""
_NO_TIMEOUT: Any = urllib3.Timeout()
"""Passed to requests, whose timeout bounds each wait but not the poll; PollThreads keeps the deadline."""

logging.getLogger("urllib3").setLevel(logging.ERROR)  # Its warnings name URLs, which may hold a secret.


class Requests:
    """Polls sources with requests, on threads."""

    def __init__(self, sources: Iterable[Target], clock: Callable[[], float], intake: Intake | None = None) -> None:
        self._intake = intake or Intake()
        self._sources = {source.name: source for source in sources}
        self._requests: dict[str, _Request] = {}
        self._proxies = environment_proxies()
        self._adapters: dict[str, _Adapter] = {}
        self._creating = threading.Lock()
        self._threads = PollThreads("poll", len(self._sources), self._read, _explain, clock)

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; `deliver` gets each result, from another thread, by the source's deadline."""
        self._threads.start([PendingPoll(name, self._sources[name].timeout, deliver) for name in names])

    def close(self) -> None:
        """Start no further poll, deliver those in flight as CLOSED, and close the connections."""
        self._threads.close()
        with self._creating:
            for adapter in self._adapters.values():
                adapter.close()

    def _read(self, poll: PendingPoll) -> Content:
        current.poll = poll
        request = self._requests.get(poll.name)
        if request is None:
            request = self._requests[poll.name] = self._request(self._sources[poll.name])
        while True:
            poll.seconds_left()
            poll.opened_connection = False
            request.headers.update(request.plain.login())
            try:
                response = request.adapter.send(
                    request.prepared, stream=True, timeout=_NO_TIMEOUT, proxies=request.proxies
                )
            except requests.ConnectionError as error:
                # A machine may close a kept connection just as it is used again: try the next one, or a new one.
                if poll.opened_connection or not _cause(error, ConnectionError, ssl.SSLEOFError):
                    raise
                continue
            with response:
                challenge = response.raw.headers.get("www-authenticate", "")
                if poll.challenged or response.status_code != 401 or not request.plain.accepts(challenge):
                    poll.lease = self._intake.lease()
                    return Content([Answer(_body(response, poll.lease))])
                poll.challenged = True

    def _request(self, source: Target) -> _Request:
        """The request of every poll of a source.

        It is sent by the adapter and not by a `requests.Session`, which would add logins from .netrc, keep cookies, and
        parse where a redirect leads.
        """
        plain = prepare(source, self._proxies)
        prepared = requests.Request(plain.method, plain.url, headers=plain.headers, data=source.body).prepare()
        prepared.url = plain.url
        return _Request(plain, prepared, prepared.headers, {"all": plain.proxy}, self._adapter(plain))

    def _adapter(self, request: HttpRequest) -> _Adapter:
        """The adapter for this request: one for each set of trusted certificates, and one for plain HTTP."""
        trusted = (request.trusted or DEFAULT_CA_BUNDLE_PATH) if request.url.startswith("https:") else ""
        with self._creating:
            if trusted not in self._adapters:
                context = _tls_context(trusted) if trusted else None
                self._adapters[trusted] = _Adapter(context, len(self._sources) + 1)
            return self._adapters[trusted]


def post(url: str, body: bytes, timeout: float) -> Failure | None:
    """POST a JSON document on a connection of its own, within `timeout` seconds; the failure unless it was accepted."""
    receiver = Target("", url, timeout, {"Content-Type": "application/json"}, body=body)
    results: SimpleQueue[Sequence[Poll]] = SimpleQueue()
    transport = Requests([receiver], time.time)
    transport.start([receiver.name], results.put)
    (poll,) = results.get()
    transport.close()
    return poll.failure


class _Request(NamedTuple):
    plain: HttpRequest
    prepared: requests.PreparedRequest
    headers: Any
    """Those of `prepared`, whose values may be bytes."""
    proxies: dict[str, str]
    adapter: _Adapter


class _Adapter(HTTPAdapter):
    """Uses one TLS context for all its connections, and connections that record their socket."""

    def __init__(self, context: ssl.SSLContext | None, addresses: int) -> None:
        self._context = context
        super().__init__(pool_connections=addresses, pool_maxsize=MAX_KEPT_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pools of direct connections."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """The pools of connections through this proxy, which itself must be trusted as the environment says."""
        if proxy not in self.proxy_manager:
            if proxy.lower().startswith("https:"):
                kwargs["proxy_ssl_context"] = _tls_context(environment_certificates() or DEFAULT_CA_BUNDLE_PATH)
            super().proxy_manager_for(proxy, ssl_context=self._context, **kwargs)
            self.proxy_manager[proxy].pool_classes_by_scheme = POOLS
        return self.proxy_manager[proxy]

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """The response without cookies, encoding and history, which no poll uses."""
        response = requests.Response()
        response.status_code, response.raw, response.request = resp.status, resp, req
        return response

    def close(self) -> None:
        """Close the idle connections now: a failed poll may have left its pool to the garbage collector."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in list(manager.pools.keys()):
                manager.pools[key].close()
        super().close()

    def cert_verify(self, *_: Any) -> None:
        """Load no further certificates: the TLS context verifies with those it was created with."""


def _tls_context(trusted: str) -> ssl.SSLContext:
    """A TLS context that trusts these certificates; with those that come with requests, the system's as well."""
    context = create_urllib3_context()
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        if trusted == DEFAULT_CA_BUNDLE_PATH:
            context.load_default_certs()
        context.load_verify_locations(**{"capath" if os.path.isdir(trusted) else "cafile": trusted})
    except OSError as error:
        raise FailedError(unreadable_certificates(trusted)) from error
    return context


def _body(response: requests.Response, lease: Lease) -> bytes:
    headers = response.raw.headers
    if refused := refusal(response.status_code, headers.get("location", "")):
        raise FailedError(refused)
    if response.request.method != "GET":
        return b""
    body = bytearray()
    for piece in response.raw.stream(READ_BYTES, decode_content=False):
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise FailedError(TOO_LARGE)
        if not lease.grow(len(piece)):
            raise FailedError(BUSY)
    decoded = decode(bytes(body), headers.get("content-encoding", ""))
    if len(decoded) > len(body) and not lease.grow(len(decoded) - len(body)):
        raise FailedError(BUSY)
    return decoded


_FAILURES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((TimeoutError,), "timeout", "no answer within {timeout:g} s"),
    ((urllib3.exceptions.ProxyError,), "proxy", "the proxy cannot be reached, or refuses"),
    ((socket.gaierror, UnicodeError), "dns", "the host's name cannot be resolved"),
    ((ssl.SSLCertVerificationError,), "tls", "the certificate is not trusted: {error.verify_message}"),
    ((ssl.SSLError,), "tls", "TLS failed: {error.reason}"),
    ((ConnectionRefusedError,), "refused", "connection refused"),
    ((ConnectionError, http.client.IncompleteRead), "reset", "the connection broke off"),
    ((urllib3.exceptions.DecodeError,), "encoding", "the answer's compression is broken"),
    ((OSError,), "network", "the network fails: {text}"),
    ((http.client.HTTPException, urllib3.exceptions.HTTPError), "protocol", "the answer is not proper HTTP"),
)
"""Errors, their stable code, and a sentence without the URL, which may hold a secret; the first match counts."""


def _explain(poll: PendingPoll, error: Exception) -> Failure:
    """The failure of a poll, from the most telling of the errors that requests and urllib3 wrap into each other."""
    explained = _cause(error, FailedError)
    if isinstance(explained, FailedError):
        return explained.failure
    for kinds, reason, sentence in _FAILURES:
        if cause := _cause(error, *kinds):
            return Failure(reason, sentence.format(error=cause, timeout=poll.timeout, text=_text(cause)))
    return Failure("failed", f"the request cannot be made: {type(error).__name__}")


def _text(error: BaseException) -> str:
    """The words of an error of the system, without its number."""
    return getattr(error, "strerror", None) or str(error)


def _cause(error: Exception, *kinds: type[BaseException]) -> BaseException | None:
    """The first error of these kinds among an error and its causes; None if there is none."""
    return next((cause for cause in _causes(error) if isinstance(cause, kinds)), None)


def _causes(error: Exception) -> Iterator[BaseException]:
    """An error and its causes, without the wrappers of requests, which are OSErrors themselves."""
    seen: list[BaseException] = []
    candidates: list[Any] = [error]
    while candidates:
        candidate = candidates.pop(0)
        if isinstance(candidate, BaseException) and candidate not in seen:
            seen.append(candidate)
            if not isinstance(candidate, requests.RequestException):
                yield candidate
            candidates += [getattr(candidate, "reason", None), candidate.__cause__, candidate.__context__]
            candidates += candidate.args
