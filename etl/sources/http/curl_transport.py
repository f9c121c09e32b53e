"""HTTP over libcurl: one thread with up to 2,048 polls in flight, for fleets. Needs pycurl (the extra `fleet`)."""

import math
import os
import select
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain, takewhile
from typing import Any, NamedTuple

import pycurl

from etl.readings.records import CLOSED, Answer, Failure, Poll
from etl.sources.contract import HttpSource, no_place, timed_out
from etl.sources.http.answer import FailedError
from etl.sources.http.curl_transfer import Transfer, header_lines
from etl.sources.http.request import HttpRequest, environment_proxies, prepare
from etl.sources.intake import Intake, Lease

MAX_NEW_POLLS = 48
"""Polls that may be in their first SLOW_S seconds at a time; more would cost memory and save no time."""
SLOW_S = 0.02
"""Age at which a poll in flight stops counting against MAX_NEW_POLLS, so that machines that hang delay no other."""
MAX_IN_FLIGHT = 2048
"""Limit of polls in flight. While that many machines hang at the same time, the others wait, or are busy."""

_BROKE_OFF = {pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR}


class _PendingPoll(NamedTuple):
    source: HttpSource
    deadline: float
    """When it must have left; once it has, when its answer must be complete."""
    deliver: Callable[[Poll], None]
    new_connection: bool = False
    """Whether a kept connection must not be used: this is the retry after the machine had closed one."""
    challenged: bool = False
    """Whether this is the retry with a login by digest, after the machine had sent a challenge."""

    def is_retry(self) -> bool:
        """Whether it left once already."""
        return self.new_connection or self.challenged

    def overdue(self) -> Failure:
        """Its failure if it waits beyond its deadline."""
        return (timed_out if self.is_retry() else no_place)(self.source.timeout)


class _Request(NamedTuple):
    plain: HttpRequest
    headers: list[bytes]

    def header_lines(self) -> list[bytes]:
        """The headers of one poll: a list that many sources share, unless there is a login by digest."""
        return self.headers if self.plain.digest is None else [*self.headers, *header_lines(self.plain.login())]


class _Transfer(Transfer):
    poll: _PendingPoll


class Curl:
    """Polls sources over libcurl's multi interface, driven by epoll.

    The DNS cache is off: connections are kept, so that lookups are rare, and the cost of a lookup in libcurl's cache
    grows with the number of hosts.
    """

    def __init__(self, sources: Iterable[HttpSource], clock: Callable[[], float], intake: Intake | None = None) -> None:
        self._intake = intake or Intake()
        self._sources = {source.name: source for source in sources}
        self._clock = clock
        self._requests: dict[str, _Request] = {}
        self._distinct_headers: dict[tuple[bytes, ...], tuple[dict[str, bytes], list[bytes]]] = {}
        self._proxies = environment_proxies()
        self._started: deque[_PendingPoll] = deque()
        self._queue: deque[_PendingPoll] = deque()
        self._idle: defaultdict[str | None, list[_Transfer]] = defaultdict(list)  # by their trusted certificates
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
                    self._end_unused(fd, events)
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
            due = min(due, SLOW_S, self._queue[0].deadline - time.monotonic())
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

    def _end_unused(self, fd: int, events: int) -> None:
        """Shut down a socket that libcurl does not use, if the other end closed it or sent something.

        libcurl looks at unused connections once a second only, and would take what was sent for the next answer.
        """
        with suppress(OSError):
            if events == select.EPOLLOUT:
                self._epoll.modify(fd, select.EPOLLIN)
                return
            self._unused_sockets.discard(fd)
            self._epoll.unregister(fd)
            with socket.socket(fileno=os.dup(fd)) as unused:
                unused.shutdown(socket.SHUT_RDWR)

    def _launch(self) -> None:
        """Start queued polls while there is room; those that wait too long fail."""
        while self._queue and self._has_room():
            poll = self._queue.popleft()
            now = time.monotonic()
            if poll.deadline <= now:
                self._deliver(poll, poll.overdue())
                continue
            if not poll.is_retry():
                poll = poll._replace(deadline=now + poll.source.timeout)
            try:
                request = self._request(poll.source)
            except FailedError as error:
                self._deliver(poll, error.failure)
                continue
            idle = self._idle[request.plain.trusted]
            transfer = idle.pop() if idle else _Transfer(request.plain.trusted)
            transfer.poll, transfer.started = poll, now
            transfer.use(request.plain, request.header_lines(), self._intake.lease())
            easy = transfer.easy
            easy.setopt(pycurl.TIMEOUT_MS, max(1, int((poll.deadline - now) * 1000)))
            if poll.new_connection:
                easy.setopt(pycurl.FRESH_CONNECT, 1)
            self._in_flight[easy] = transfer
            self._multi.add_handle(easy)
        now = time.monotonic()
        while self._queue and self._queue[0].deadline <= now:
            poll = self._queue.popleft()
            self._deliver(poll, poll.overdue())

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

    def _request(self, source: HttpSource) -> _Request:
        """The request of every poll of a source; sources with equal headers share them."""
        if source.name not in self._requests:
            plain = prepare(source, self._proxies)
            lines = header_lines(plain.headers)
            headers, lines = self._distinct_headers.setdefault(tuple(lines), (plain.headers, lines))
            self._requests[source.name] = _Request(plain._replace(headers=headers), lines)
        return self._requests[source.name]

    def _collect(self) -> None:
        """Deliver the polls whose transfers ended."""
        if not self._in_flight:
            return
        messages_left = 1
        while messages_left:
            messages_left, done, failed = self._multi.info_read(256)
            for easy in done:
                self._finish(self._release(easy), None)
            for easy, code, message in failed:
                self._fail(self._release(easy), code, message)

    def _fail(self, transfer: _Transfer, code: int, message: str) -> None:
        """Deliver the failure of a transfer, or poll again where that is no failure yet."""
        poll, head = transfer.poll, transfer.head
        request = self._requests[poll.source.name].plain
        kept_connection = not transfer.easy.getinfo(pycurl.NUM_CONNECTS) and not poll.new_connection
        if transfer.is_complete(code, message):
            self._finish(transfer, None)
        elif code in _BROKE_OFF and kept_connection and head is None:
            # The kept connection, and those that libcurl tried after it, had been closed.
            self._repeat(transfer, poll._replace(new_connection=True))
        elif head and head.status == 401 and not poll.challenged and request.accepts(head.field("www-authenticate")):
            self._repeat(transfer, poll._replace(challenged=True))
        elif code == pycurl.E_OPERATION_TIMEDOUT:
            self._finish(transfer, timed_out(poll.source.timeout))
        else:
            self._finish(transfer, transfer.failure(code, message))

    def _repeat(self, transfer: _Transfer, poll: _PendingPoll) -> None:
        self._free(transfer)
        self._queue.appendleft(poll)

    def _release(self, easy: Any) -> _Transfer:
        self._multi.remove_handle(easy)
        self._slow_count = max(0, self._slow_count - 1)
        return self._in_flight.pop(easy)

    def _finish(self, transfer: _Transfer, failure: Failure | None) -> None:
        poll, lease, body = transfer.poll, transfer.lease, b""
        try:
            body = b"" if failure else transfer.body()
        except FailedError as error:
            failure = error.failure
        self._free(transfer)
        self._deliver(poll, failure, body, lease)

    def _free(self, transfer: _Transfer) -> None:
        """Make a handle available for another source."""
        transfer.clear()
        if transfer.poll.new_connection:
            transfer.easy.setopt(pycurl.FRESH_CONNECT, 0)
        self._idle[transfer.trusted].append(transfer)

    def _deliver(
        self, poll: _PendingPoll, failure: Failure | None, body: bytes = b"", lease: Lease | None = None
    ) -> None:
        at = self._clock()
        answers = () if failure else (Answer(body),)
        poll.deliver(Poll(poll.source.name, at, answers, failure, lease=None if failure else lease))

    def _shut_down(self) -> None:
        """Deliver every poll as CLOSED, and close all handles and descriptors."""
        transfers = list(self._in_flight.values())
        for transfer in transfers:
            self._multi.remove_handle(transfer.easy)
        polls = [transfer.poll for transfer in transfers]
        for poll in (*polls, *self._queue, *self._started):
            self._deliver(poll, CLOSED)
        for transfer in (*transfers, *chain.from_iterable(self._idle.values())):
            transfer.easy.close()
        self._multi.close()
        self._epoll.close()
        with self._lock:  # `close` may not have written to it yet
            os.close(self._wake)


def _curl_mask(events: int) -> int:
    """The events of epoll in libcurl's terms."""
    mask = pycurl.CSELECT_IN if events & (select.EPOLLIN | select.EPOLLHUP) else 0
    mask |= pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
    return mask | (pycurl.CSELECT_ERR if events & select.EPOLLERR else 0)
