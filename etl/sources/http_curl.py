"""HTTP over libcurl: one thread with up to 2,048 polls in flight, for fleets. Needs pycurl (the extra `fleet`)."""

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
from etl.sources.intake import BUSY, Intake, Lease

MAX_NEW_POLLS = 48
"""Polls that may be in their first SLOW_S seconds at a time; more would cost memory and save no time."""
SLOW_S = 0.02
"""Age at which a poll in flight stops counting against MAX_NEW_POLLS, so that machines that hang delay no other."""
MAX_IN_FLIGHT = 2048
"""Limit of polls in flight. While that many machines hang at the same time, the others wait for their deadlines."""

_FAILURES = {
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
_BROKE_OFF = {pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR}
_NOT_HTTP = Failure("protocol", "the answer is not proper HTTP")
_TLS_ERRORS = {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER,
}


class _PendingPoll(NamedTuple):
    source: HttpSource
    deadline: float
    deliver: Callable[[Poll], None]
    new_connection: bool = False
    """Whether a kept connection must not be used: this is the retry after the machine had closed one."""


class _Transfer:
    """A libcurl handle and the poll that it runs; the handle is reused for other sources."""

    def __init__(self, easy: Any, intake: Intake) -> None:
        self.easy = easy
        self.lease: Lease | None = None
        self._intake = intake
        self.body = BytesIO()
        self.headers: list[bytes] = []
        self.failure: Failure | None = None
        self.poll: _PendingPoll
        self.started = 0.0
        easy.setopt(pycurl.WRITEFUNCTION, self._write)

    def start(self, poll: _PendingPoll) -> None:
        self.body = BytesIO()
        self.lease = self._intake.lease()
        self.failure = None
        self.poll = poll
        self.started = time.monotonic()

    def _write(self, chunk: bytes) -> int:
        if self.body.tell() + len(chunk) > MAX_BODY_BYTES:
            self.failure = TOO_LARGE
        elif self.lease and not self.lease.grow(len(chunk)):
            self.failure = BUSY
        return 0 if self.failure else self.body.write(chunk)


class Curl:
    """Polls sources over libcurl's multi interface, driven by epoll.

    The DNS cache is off: connections are kept, so that lookups are rare, and the cost of a lookup in libcurl's cache
    grows with the number of hosts.
    """

    def __init__(self, sources: Iterable[HttpSource], clock: Callable[[], float], intake: Intake | None = None) -> None:
        self._intake = intake or Intake()
        self._sources = {source.name: source for source in sources}
        self._clock = clock
        distinct: dict[tuple[bytes, ...], list[bytes]] = {}  # sources with equal headers share one list
        self._headers: dict[str, list[bytes]] = {}
        for source in self._sources.values():
            lines = _header_lines(source.headers)
            self._headers[source.name] = distinct.setdefault(tuple(lines), lines)
        self._started: deque[_PendingPoll] = deque()
        self._queue: deque[_PendingPoll] = deque()
        self._idle: list[_Transfer] = []
        self._in_flight: dict[Any, _Transfer] = {}
        self._unused_sockets: set[int] = set()
        self._slow_count = 0
        self._closed = False
        self._lock = threading.Lock()
        self._timer_at: float | None = None
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, len(self._sources) + MAX_IN_FLIGHT)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._thread = threading.Thread(target=self._run, name="curl", daemon=True)
        self._thread.start()

    def start(self, names: Iterable[str], deliver: Callable[[Poll], None]) -> None:
        """Start one poll of each source; `deliver` gets each result, from another thread, by the source's deadline."""
        now = time.monotonic()
        sources = [self._sources[name] for name in names]
        polls = [_PendingPoll(source, now + source.timeout, deliver) for source in sources]
        with self._lock:
            if not self._closed:
                self._started.extend(polls)
                os.eventfd_write(self._wake, 1)
                return
        for poll in polls:
            self._deliver(poll, CLOSED)

    def close(self) -> None:
        """Start no further poll, deliver those in flight as CLOSED, and close the connections."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join(1)

    def _run(self) -> None:
        while not self._closed:
            ready = self._epoll.poll(self._seconds_to_next())
            for fd, events in ready:
                if fd == self._wake:
                    os.eventfd_read(self._wake)
                    self._queue.extend(self._started.popleft() for _ in range(len(self._started)))
                elif fd in self._unused_sockets:
                    self._stop_watching(fd)
                else:
                    self._multi.socket_action(fd, _curl_mask(events))
            if self._timer_at is not None and time.monotonic() >= self._timer_at:
                self._timer_at = None
                self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            self._collect()
            self._launch()
        self._shut_down()

    def _seconds_to_next(self) -> float:
        """Seconds until the timer of libcurl, or until queued polls may start; -1 if there are none."""
        due = math.inf if self._timer_at is None else self._timer_at - time.monotonic()
        if self._queue:
            due = min(due, SLOW_S)
        return max(0.0, due) if due < math.inf else -1

    def _set_timer(self, millis: int) -> None:
        self._timer_at = None if millis < 0 else time.monotonic() + millis / 1000

    def _watch(self, event: int, fd: int, _multi: Any, _data: Any) -> None:
        """Register what libcurl waits for on a socket."""
        if event == pycurl.POLL_REMOVE:
            # Most likely a connection that is kept and used again soon: leaving it registered saves a system call.
            self._unused_sockets.add(fd)
            return
        self._unused_sockets.discard(fd)
        mask = (select.EPOLLIN if event & pycurl.POLL_IN else 0) | (select.EPOLLOUT if event & pycurl.POLL_OUT else 0)
        try:
            self._epoll.modify(fd, mask)
        except FileNotFoundError:
            self._epoll.register(fd, mask)

    def _stop_watching(self, fd: int) -> None:
        """Unregister a socket that libcurl does not use and whose other end closed it."""
        self._unused_sockets.discard(fd)
        with suppress(OSError):
            self._epoll.unregister(fd)

    def _launch(self) -> None:
        """Start queued polls while there is room; those whose deadline has passed fail."""
        while self._queue and self._has_room():
            poll = self._queue.popleft()
            transfer = self._idle.pop() if self._idle else self._new_transfer()
            seconds_left = poll.deadline - time.monotonic()
            if seconds_left <= 0:
                self._idle.append(transfer)
                self._deliver(poll, timed_out(poll.source.timeout))
                continue
            transfer.start(poll)
            easy, source = transfer.easy, poll.source
            easy.setopt(pycurl.URL, source.url.encode())
            headers = self._headers[source.name]
            if transfer.headers is not headers:
                transfer.headers = headers
                easy.setopt(pycurl.HTTPHEADER, headers)
            easy.setopt(pycurl.TIMEOUT_MS, max(1, int(seconds_left * 1000)))
            if source.ca_file:
                easy.setopt(pycurl.CAINFO, source.ca_file)
            if poll.new_connection:
                easy.setopt(pycurl.FRESH_CONNECT, 1)
            self._in_flight[easy] = transfer
            self._multi.add_handle(easy)
        now = time.monotonic()
        while self._queue and self._queue[0].deadline <= now:
            poll = self._queue.popleft()
            self._deliver(poll, timed_out(poll.source.timeout))

    def _has_room(self) -> bool:
        """Whether another poll may start."""
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            return False
        if len(self._in_flight) - self._slow_count < MAX_NEW_POLLS:
            return True
        slow = time.monotonic() - SLOW_S
        # The transfers are in the order of their start.
        self._slow_count = sum(1 for _ in takewhile(lambda transfer: transfer.started < slow, self._in_flight.values()))
        return len(self._in_flight) - self._slow_count < MAX_NEW_POLLS

    def _new_transfer(self) -> _Transfer:
        easy = pycurl.Curl()
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.FOLLOWLOCATION, 0)
        easy.setopt(pycurl.FAILONERROR, 1)  # do not read the body of an error
        easy.setopt(pycurl.ACCEPT_ENCODING, "gzip, deflate")
        easy.setopt(pycurl.USERAGENT, AGENT)
        easy.setopt(pycurl.MAXFILESIZE_LARGE, MAX_BODY_BYTES)
        easy.setopt(pycurl.DNS_CACHE_TIMEOUT, 0)
        easy.setopt(pycurl.TCP_NODELAY, 1)
        return _Transfer(easy, self._intake)

    def _collect(self) -> None:
        """Deliver the polls whose transfers ended."""
        if not self._in_flight:
            return
        messages_left = 1
        while messages_left:
            messages_left, done, failed = self._multi.info_read(256)
            for easy in done:
                transfer = self._release(easy)
                failure = refusal(easy.getinfo(pycurl.RESPONSE_CODE))
                self._finish(transfer, failure)
            for easy, code, message in failed:
                transfer = self._release(easy)
                if code in _BROKE_OFF and not easy.getinfo(pycurl.NUM_CONNECTS) and not transfer.poll.new_connection:
                    # The kept connection, and those that libcurl tried after it, had been closed: no failure yet.
                    self._queue.appendleft(transfer.poll._replace(new_connection=True))
                    self._free(transfer)
                else:
                    self._finish(transfer, self._explain(transfer, code, message))

    def _release(self, easy: Any) -> _Transfer:
        self._multi.remove_handle(easy)
        self._slow_count = max(0, self._slow_count - 1)
        return self._in_flight.pop(easy)

    def _finish(self, transfer: _Transfer, failure: Failure | None) -> None:
        poll, body, lease = transfer.poll, transfer.body.getvalue(), transfer.lease
        self._free(transfer)
        self._deliver(poll, failure, body, lease)

    def _free(self, transfer: _Transfer) -> None:
        """Make a handle available for another source."""
        transfer.body = BytesIO()
        transfer.lease = None
        if transfer.poll.source.ca_file:
            transfer.easy.unsetopt(pycurl.CAINFO)
        if transfer.poll.new_connection:
            transfer.easy.setopt(pycurl.FRESH_CONNECT, 0)
        self._idle.append(transfer)

    def _deliver(
        self, poll: _PendingPoll, failure: Failure | None, body: bytes = b"", lease: Lease | None = None
    ) -> None:
        at = self._clock()
        answers = () if failure else (Answer(body),)
        poll.deliver(Poll(poll.source.name, at, answers, failure, lease=None if failure else lease))

    def _explain(self, transfer: _Transfer, code: int, message: str) -> Failure:
        easy = transfer.easy
        not_connected = code == pycurl.E_COULDNT_CONNECT
        if easy.getinfo(pycurl.USED_PROXY) and (not_connected or easy.getinfo(pycurl.HTTP_CONNECTCODE) >= 300):
            return _FAILURES[pycurl.E_COULDNT_RESOLVE_PROXY]
        if failure := refusal(easy.getinfo(pycurl.RESPONSE_CODE)) or transfer.failure:
            return failure
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return timed_out(transfer.poll.source.timeout)
        if not_connected:
            return _connect_failure(easy.getinfo(pycurl.OS_ERRNO))
        if code in _TLS_ERRORS:
            return Failure("tls", f"TLS failed: {message.split(' (http', maxsplit=1)[0]}"[:200])
        # libcurl also reports a malformed answer as a failed receive.
        malformed = code == pycurl.E_RECV_ERROR and not easy.getinfo(pycurl.OS_ERRNO) and "SSL" not in message
        return _NOT_HTTP if malformed else _FAILURES.get(code, _NOT_HTTP)

    def _shut_down(self) -> None:
        """Deliver every poll as CLOSED, and close all handles and descriptors."""
        transfers = list(self._in_flight.values())
        for transfer in transfers:
            self._multi.remove_handle(transfer.easy)
        polls = [transfer.poll for transfer in transfers]
        for poll in (*polls, *self._queue, *self._started):
            self._deliver(poll, CLOSED)
        for transfer in (*transfers, *self._idle):
            transfer.easy.close()
        self._multi.close()
        self._epoll.close()
        os.close(self._wake)


def _header_lines(configured: Mapping[str, str]) -> list[bytes]:
    """Headers as libcurl takes them: "name;" sends an empty one, where "name:" would remove it."""
    headers = {"Accept": "application/json", **configured}
    return [(f"{name}: {value}" if value else f"{name};").encode() for name, value in headers.items()]


def _curl_mask(events: int) -> int:
    """The events of epoll in libcurl's terms."""
    mask = pycurl.CSELECT_IN if events & (select.EPOLLIN | select.EPOLLHUP) else 0
    mask |= pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
    return mask | (pycurl.CSELECT_ERR if events & select.EPOLLERR else 0)


def _connect_failure(os_errno: int) -> Failure:
    if os_errno == errno.ECONNREFUSED:
        return Failure("refused", "connection refused")
    return Failure(
        "network", f"the network fails: {os.strerror(os_errno)}" if os_errno else "the host cannot be reached"
    )
