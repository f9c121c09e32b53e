"""Readings over HTTP with libcurl: one thread, hundreds of polls in flight. Needs the extra `fleet`."""

from __future__ import annotations

import errno
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from io import BytesIO
from itertools import takewhile
from typing import Any, NamedTuple

import pycurl

from etl.readings.records import CLOSED, Answer, Failure, Poll
from etl.sources.contract import AGENT, MAX_BODY_BYTES, TOO_LARGE, HttpSource, refusal, timed_out

WORKING = 48
"""Polls in flight that have just begun, at most: more of them cost memory and win nothing."""
SLOW = 0.02
"""Seconds after which a poll in flight holds up no other any more."""
IN_FLIGHT = 2048
"""Polls in flight, at most: more than hang at a time, or those that hang would hold up the others."""

_KINDS = {
    pycurl.E_COULDNT_RESOLVE_HOST: Failure("dns", "the host's name cannot be resolved"),
    pycurl.E_COULDNT_RESOLVE_PROXY: Failure("proxy", "the proxy cannot be reached, or refuses"),
    pycurl.E_GOT_NOTHING: Failure("reset", "the connection broke off"),
    pycurl.E_RECV_ERROR: Failure("reset", "the connection broke off"),
    pycurl.E_SEND_ERROR: Failure("reset", "the connection broke off"),
    pycurl.E_PARTIAL_FILE: Failure("reset", "the connection broke off"),
    pycurl.E_FILESIZE_EXCEEDED: TOO_LARGE,
    pycurl.E_BAD_CONTENT_ENCODING: Failure("encoding", "the answer's compression is broken"),
    pycurl.E_SSL_CACERT_BADFILE: Failure("tls", "the certificates in ca_file cannot be read"),
}
_DIED = {pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR}
_NOT_HTTP = Failure("protocol", "the answer is not proper HTTP")
_TLS = {pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_CIPHER}


class _Waiting(NamedTuple):
    source: HttpSource
    deadline: float
    deliver: Callable[[Poll], None]
    fresh: bool = False
    """Whether it must not go over a kept connection: the one it went over had been closed by the machine."""


class _Flight:
    """A poll on its way, on a handle that is used again for other sources."""

    def __init__(self, easy: Any) -> None:
        self.easy = easy
        self.body = BytesIO()
        self.headers: list[bytes] = []
        self.too_large = False
        self.waiting: _Waiting
        self.began = 0.0
        easy.setopt(pycurl.WRITEFUNCTION, self._take)

    def begin(self, waiting: _Waiting) -> None:
        self.body = BytesIO()
        self.too_large = False
        self.waiting = waiting
        self.began = time.monotonic()

    def _take(self, piece: bytes) -> int:
        self.too_large = self.body.tell() + len(piece) > MAX_BODY_BYTES
        return 0 if self.too_large else self.body.write(piece)


class Curl:
    """Polls over libcurl's multi interface, driven by epoll.

    Host names are resolved anew for each new connection (DNS cache 0): kept connections are used again, so that is
    rare, and libcurl's own cache costs more the more hosts it holds.
    """

    def __init__(self, sources: Iterable[HttpSource], clock: Callable[[], float]) -> None:
        self._sources = {source.name: source for source in sources}
        self._clock = clock
        shared: dict[tuple[bytes, ...], list[bytes]] = {}
        self._headers = {
            name: shared.setdefault(tuple(sent), sent)
            for name, sent in ((name, _headers(source.headers)) for name, source in self._sources.items())
        }
        self._asked: deque[_Waiting] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._idle: list[_Flight] = []
        self._flights: dict[Any, _Flight] = {}
        self._left: set[int] = set()
        self._slow = 0
        self._closed = False
        self._ending = threading.Lock()
        self._due: float | None = None
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, len(self._sources) + IN_FLIGHT)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._thread = threading.Thread(target=self._work, name="curl", daemon=True)
        self._thread.start()

    def start(self, names: Iterable[str], deliver: Callable[[Poll], None]) -> None:
        """Begin one poll of each source; `deliver` gets each result, from another thread, by the source's deadline."""
        now = time.monotonic()
        sources = [self._sources[name] for name in names]
        polls = [_Waiting(source, now + source.timeout, deliver) for source in sources]
        with self._ending:
            if not self._closed:
                self._asked.extend(polls)
                os.eventfd_write(self._wake, 1)
                return
        for poll in polls:
            self._deliver(poll, CLOSED)

    def close(self) -> None:
        """Begin no further poll, cut off those in flight (their failure is CLOSED), and let the connections go."""
        with self._ending:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join(1)

    def _work(self) -> None:
        while not self._closed:
            ready = self._epoll.poll(self._patience())
            for fd, happened in ready:
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                    self._waiting.extend(self._asked.popleft() for _ in range(len(self._asked)))
                elif fd in self._left:
                    self._leave(fd)
                else:
                    self._multi.socket_action(fd, _mask(happened))
            if self._due is not None and time.monotonic() >= self._due:
                self._due = None
                self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            self._land()
            self._launch()
        self._clear()

    def _patience(self) -> float:
        """Seconds until libcurl, or the first of the polls that wait for a handle, wants attention; -1 for none."""
        due = math.inf if self._due is None else self._due - time.monotonic()
        if self._waiting:
            due = min(due, SLOW)
        return max(0.0, due) if due < math.inf else -1

    def _set_timer(self, millis: int) -> None:
        self._due = None if millis < 0 else time.monotonic() + millis / 1000

    def _watch(self, event: int, fd: int, _multi: Any, _known: Any) -> None:
        if event == pycurl.POLL_REMOVE:
            # It is a kept connection, most likely, and soon watched again: that is one call into the system, not two.
            self._left.add(fd)
            return
        self._left.discard(fd)
        wanted = (select.EPOLLIN if event & pycurl.POLL_IN else 0) | (select.EPOLLOUT if event & pycurl.POLL_OUT else 0)
        try:
            self._epoll.modify(fd, wanted)
        except FileNotFoundError:
            self._epoll.register(fd, wanted)

    def _leave(self, fd: int) -> None:
        """Watch a socket no longer that libcurl has no interest in: its other end closed it."""
        self._left.discard(fd)
        with suppress(OSError):
            self._epoll.unregister(fd)

    def _launch(self) -> None:
        """Begin the polls that wait, as far as there is room; those whose deadline has passed fail."""
        while self._waiting and self._has_room():
            waiting = self._waiting.popleft()
            flight = self._idle.pop() if self._idle else self._new_flight()
            left = waiting.deadline - time.monotonic()
            if left <= 0:
                self._idle.append(flight)
                self._deliver(waiting, timed_out(waiting.source.timeout))
                continue
            flight.begin(waiting)
            easy, source = flight.easy, waiting.source
            easy.setopt(pycurl.URL, source.url.encode())
            headers = self._headers[source.name]
            if flight.headers is not headers:
                flight.headers = headers
                easy.setopt(pycurl.HTTPHEADER, headers)
            easy.setopt(pycurl.TIMEOUT_MS, max(1, int(left * 1000)))
            if source.ca_file:
                easy.setopt(pycurl.CAINFO, source.ca_file)
            if waiting.fresh:
                easy.setopt(pycurl.FRESH_CONNECT, 1)
            self._flights[easy] = flight
            self._multi.add_handle(easy)
        now = time.monotonic()
        while self._waiting and self._waiting[0].deadline <= now:
            waiting = self._waiting.popleft()
            self._deliver(waiting, timed_out(waiting.source.timeout))

    def _has_room(self) -> bool:
        """Whether another poll may begin: those in flight that are slow already do not count."""
        if len(self._flights) >= IN_FLIGHT:
            return False
        if len(self._flights) - self._slow < WORKING:
            return True
        late = time.monotonic() - SLOW
        # Flights stand in the order they began in.
        self._slow = sum(1 for _ in takewhile(lambda flight: flight.began < late, self._flights.values()))
        return len(self._flights) - self._slow < WORKING

    def _new_flight(self) -> _Flight:
        easy = pycurl.Curl()
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.FOLLOWLOCATION, 0)
        easy.setopt(pycurl.FAILONERROR, 1)  # an answer that is refused by its status is not worth its body
        easy.setopt(pycurl.ACCEPT_ENCODING, "gzip, deflate")
        easy.setopt(pycurl.USERAGENT, AGENT)
        easy.setopt(pycurl.MAXFILESIZE_LARGE, MAX_BODY_BYTES)
        easy.setopt(pycurl.DNS_CACHE_TIMEOUT, 0)
        easy.setopt(pycurl.TCP_NODELAY, 1)
        return _Flight(easy)

    def _land(self) -> None:
        """Deliver the polls that ended."""
        if not self._flights:
            return
        left = 1
        while left:
            left, done, failed = self._multi.info_read(256)
            for easy in done:
                flight = self._release(easy)
                failure = refusal(easy.getinfo(pycurl.RESPONSE_CODE))
                self._settle(flight, failure)
            for easy, code, message in failed:
                flight = self._release(easy)
                if code in _DIED and not easy.getinfo(pycurl.NUM_CONNECTS) and not flight.waiting.fresh:
                    # Its kept connection, and a few that libcurl tried after it, were closed: that says nothing of it.
                    self._waiting.appendleft(flight.waiting._replace(fresh=True))
                    self._free(flight)
                else:
                    self._settle(flight, self._explain(flight, code, message))

    def _release(self, easy: Any) -> _Flight:
        self._multi.remove_handle(easy)
        self._slow = max(0, self._slow - 1)
        return self._flights.pop(easy)

    def _settle(self, flight: _Flight, failure: Failure | None) -> None:
        waiting, body = flight.waiting, flight.body.getvalue()
        self._free(flight)
        self._deliver(waiting, failure, body)

    def _free(self, flight: _Flight) -> None:
        """Let a handle be used for another source."""
        flight.body = BytesIO()
        if flight.waiting.source.ca_file:
            flight.easy.unsetopt(pycurl.CAINFO)
        if flight.waiting.fresh:
            flight.easy.setopt(pycurl.FRESH_CONNECT, 0)
        self._idle.append(flight)

    def _deliver(self, waiting: _Waiting, failure: Failure | None, body: bytes = b"") -> None:
        at = self._clock()
        answers = () if failure else (Answer(body),)
        waiting.deliver(Poll(waiting.source.name, at, answers, failure))

    def _explain(self, flight: _Flight, code: int, message: str) -> Failure:
        easy = flight.easy
        unconnected = code == pycurl.E_COULDNT_CONNECT
        if easy.getinfo(pycurl.USED_PROXY) and (unconnected or easy.getinfo(pycurl.HTTP_CONNECTCODE) >= 300):
            return _KINDS[pycurl.E_COULDNT_RESOLVE_PROXY]
        refused = refusal(easy.getinfo(pycurl.RESPONSE_CODE))
        if refused or flight.too_large:
            return refused or TOO_LARGE
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return timed_out(flight.waiting.source.timeout)
        if unconnected:
            return _unconnected(easy.getinfo(pycurl.OS_ERRNO))
        if code in _TLS:
            return Failure("tls", f"TLS failed: {message.split(' (http', maxsplit=1)[0]}"[:200])
        broken = code != pycurl.E_RECV_ERROR or easy.getinfo(pycurl.OS_ERRNO) or "SSL" in message
        return _KINDS.get(code, _NOT_HTTP) if broken else _NOT_HTTP

    def _clear(self) -> None:
        """Fail what is under way, and let go of everything."""
        flights = list(self._flights.values())
        for flight in flights:
            self._multi.remove_handle(flight.easy)
        waiting = [flight.waiting for flight in flights]
        for poll in (*waiting, *self._waiting, *self._asked):
            self._deliver(poll, CLOSED)
        for flight in (*flights, *self._idle):
            flight.easy.close()
        self._multi.close()
        self._epoll.close()
        os.close(self._wake)


def _headers(given: Mapping[str, str]) -> list[bytes]:
    sent = {"Accept": "application/json", **given}
    return [(f"{name}: {value}" if value else f"{name};").encode() for name, value in sent.items()]


def _mask(happened: int) -> int:
    mask = pycurl.CSELECT_IN if happened & (select.EPOLLIN | select.EPOLLHUP) else 0
    mask |= pycurl.CSELECT_OUT if happened & select.EPOLLOUT else 0
    return mask | (pycurl.CSELECT_ERR if happened & select.EPOLLERR else 0)


def _unconnected(code: int) -> Failure:
    if code == errno.ECONNREFUSED:
        return Failure("refused", "connection refused")
    return Failure("network", f"the network fails: {os.strerror(code)}" if code else "the host cannot be reached")
