"""HTTP over libcurl: one thread with up to 2,048 polls in flight, for fleets. Needs pycurl (the extra `fleet`)."""

import os
import select
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain, takewhile
from math import inf
from typing import Any

import pycurl

from etl.readings.records import CLOSED, Answer, Failure, Poll
from etl.sources.contract import Deliver, Target
from etl.sources.http.answer import FailedError
from etl.sources.http.curl_transfer import Request, Transfer, request_of
from etl.sources.http.request import environment_proxies, prepare
from etl.sources.intake import Intake
from etl.sources.poll_threads import PendingPoll

MAX_NEW_POLLS = 48
"""Polls that may be in their first SLOW_S seconds at a time, so 2,400 a second of machines that take SLOW_S. More would
cost connections and memory, which beside other work no longer fits the processor's cache."""
SLOW_S = 0.02
"""Age at which a poll in flight stops counting against MAX_NEW_POLLS, so that machines that hang delay no other."""
MAX_IN_FLIGHT = 2048
"""Limit of polls in flight. While that many machines hang at the same time, the others wait, or are busy."""

_BROKE_OFF = {pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR}
_EVENTS = {pycurl.POLL_IN: select.EPOLLIN, pycurl.POLL_OUT: select.EPOLLOUT}
_EVENTS[pycurl.POLL_INOUT] = select.EPOLLIN | select.EPOLLOUT


class Curl:
    """Polls sources over libcurl's multi interface, driven by epoll; the results of one round are delivered together.

    The DNS cache is off: connections are kept, so that lookups are rare, and the cost of a lookup in libcurl's cache
    grows with the number of hosts.
    """

    def __init__(self, sources: Iterable[Target], clock: Callable[[], float], intake: Intake | None = None) -> None:
        self._intake = intake or Intake()
        self._sources = {source.name: source for source in sources}
        self._clock = clock
        self._requests: dict[str, Request] = {}
        self._proxies = environment_proxies()
        self._started: deque[PendingPoll] = deque()
        self._queue: deque[PendingPoll] = deque()
        self._idle: defaultdict[str | None, list[Transfer]] = defaultdict(list)  # by their trusted certificates
        self._new: dict[Any, Transfer] = {}  # by their handle, in the order of their start
        self._slow: dict[Any, Transfer] = {}
        self._results: defaultdict[Deliver, list[Poll]] = defaultdict(list)
        self._unused_sockets: set[int] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN | select.EPOLLET)  # each write is an event: it is never read
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, len(self._sources) + MAX_IN_FLIGHT)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._thread = threading.Thread(target=self._run, name="curl", daemon=True)
        self._thread.start()

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; `deliver` gets the results from another thread."""
        polls = [PendingPoll(name, self._sources[name].timeout, deliver) for name in names]
        with self._lock:
            if not self._closed:
                self._started.extend(polls)
                os.eventfd_write(self._wake, 1)
                return
        deliver([Poll(poll.name, self._clock(), failure=CLOSED) for poll in polls])

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
            for fd, events in self._epoll.poll(self._seconds_to_next()):
                if fd in self._unused_sockets:
                    self._end_unused(fd, events)
                elif fd == self._wake:  # whatever unused sockets received before these polls were started is seen, too
                    self._queue.extend(self._started.popleft() for _ in range(len(self._started)))
                else:
                    self._multi.socket_action(fd, 0)
            self._launch()
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            self._collect()
            self._hand_over()
        self._shut_down()

    def _seconds_to_next(self) -> float:
        """Seconds until the timer of libcurl, or until queued polls may start or are overdue; -1 if there are none."""
        millis = self._multi.timeout()
        due = inf if millis < 0 else millis / 1000
        if self._queue:
            due = 0.0 if self._has_room() else min(due, SLOW_S, self._queue[0].deadline - time.monotonic())
        return max(0.0, due) if due < inf else -1

    def _watch(self, event: int, fd: int, _multi: Any, _data: Any) -> None:
        """Register what libcurl waits for on a socket."""
        if event == pycurl.POLL_REMOVE:
            # Most likely a connection that is kept and used again soon: leaving it registered saves a system call.
            self._unused_sockets.add(fd)
            return
        self._unused_sockets.discard(fd)
        try:
            self._epoll.modify(fd, _EVENTS[event])
        except FileNotFoundError:
            self._epoll.register(fd, _EVENTS[event])

    def _end_unused(self, fd: int, events: int) -> None:
        """Shut down a socket that libcurl does not use, if the other end closed it or sent something.

        libcurl looks at unused connections once a second only, and would take what was sent for the next answer.
        """
        with suppress(OSError):
            if events == select.EPOLLOUT:  # its answer was complete before libcurl had to wait for it
                self._epoll.modify(fd, select.EPOLLIN)
                if not _has_input(fd):
                    return
            self._unused_sockets.discard(fd)
            self._epoll.unregister(fd)
            with socket.socket(fileno=os.dup(fd)) as unused:
                unused.shutdown(socket.SHUT_RDWR)

    def _launch(self) -> None:
        """Start queued polls while there is room; of the others, those that wait too long fail."""
        while self._queue and self._has_room():
            poll = self._queue.popleft()
            poll.leave()
            try:
                self._begin(poll)
            except FailedError as error:
                self._deliver(poll, error.failure)
        now = time.monotonic()
        while self._queue and self._queue[0].deadline <= now:
            poll = self._queue.popleft()
            self._deliver(poll, poll.overdue())

    def _begin(self, poll: PendingPoll) -> None:
        """Send the request of a poll; FailedError if it cannot be made."""
        request = self._requests.get(poll.name)
        if request is None:
            request = self._requests[poll.name] = request_of(prepare(self._sources[poll.name], self._proxies))
        idle = self._idle[request.trusted]
        transfer = idle.pop() if idle else Transfer(request.trusted)
        transfer.begin(poll, request, self._intake.lease())
        self._new[transfer.easy] = transfer
        self._multi.add_handle(transfer.easy)

    def _has_room(self) -> bool:
        """Whether another poll may start."""
        if len(self._new) >= MAX_NEW_POLLS:
            slow = time.monotonic() - SLOW_S
            for easy in [*takewhile(lambda easy: self._new[easy].started < slow, self._new)]:
                self._slow[easy] = self._new.pop(easy)
        return len(self._new) < MAX_NEW_POLLS and len(self._new) + len(self._slow) < MAX_IN_FLIGHT

    def _collect(self) -> None:
        """Take the results of the transfers that ended."""
        messages_left = len(self._new) + len(self._slow)
        while messages_left:
            messages_left, done, failed = self._multi.info_read(256)
            for easy in done:
                self._finish(self._release(easy), None)
            for easy, code, message in failed:
                self._fail(self._release(easy), code, message)

    def _release(self, easy: Any) -> Transfer:
        self._multi.remove_handle(easy)
        return self._new.pop(easy, None) or self._slow.pop(easy)

    def _fail(self, transfer: Transfer, code: int, message: str) -> None:
        """Take the failure of a transfer, or poll again where that is no failure yet."""
        poll, head, login = transfer.poll, transfer.head, self._requests[transfer.poll.name].digest
        kept_connection = not transfer.easy.getinfo(pycurl.NUM_CONNECTS) and not poll.opened_connection
        failure = None if transfer.is_complete(code, message) else transfer.failure(code, message)
        if failure and code in _BROKE_OFF and kept_connection and head is None:
            poll.opened_connection = True  # the kept one, and those that libcurl tried after it, had been closed
        elif (
            head
            and head.status == 401
            and login
            and not poll.challenged
            and login.accepts(head.field("www-authenticate"))
        ):
            poll.challenged = True
        else:
            self._finish(transfer, failure)
            return
        self._free(transfer)
        self._queue.appendleft(poll)

    def _finish(self, transfer: Transfer, failure: Failure | None) -> None:
        answers: tuple[Answer, ...] = ()
        try:
            if failure is None:
                answers, transfer.poll.lease = (Answer(transfer.body()),), transfer.lease
        except FailedError as error:
            failure = error.failure
        self._free(transfer)
        self._deliver(transfer.poll, failure, answers)

    def _free(self, transfer: Transfer) -> None:
        """Make a handle available for another source."""
        transfer.clear()
        self._idle[transfer.trusted].append(transfer)

    def _deliver(self, poll: PendingPoll, failure: Failure | None, answers: tuple[Answer, ...] = ()) -> None:
        """Add the result of a poll to those of this round."""
        lease, poll.lease = poll.lease, None  # its handle refers to a poll until the next one
        self._results[poll.deliver].append(Poll(poll.name, self._clock(), answers, failure, lease=lease))

    def _hand_over(self) -> None:
        """Deliver the results of this round."""
        while self._results:
            deliver, polls = self._results.popitem()
            deliver(polls)

    def _shut_down(self) -> None:
        """Deliver every poll as CLOSED, and close all handles and descriptors."""
        transfers = [*self._new.values(), *self._slow.values()]
        for transfer in transfers:
            self._multi.remove_handle(transfer.easy)
        for poll in (*(transfer.poll for transfer in transfers), *self._queue, *self._started):
            self._deliver(poll, CLOSED)
        self._hand_over()
        for transfer in (*transfers, *chain.from_iterable(self._idle.values())):
            transfer.easy.close()
        self._multi.close()
        self._epoll.close()
        with self._lock:  # `close` may not have written to it yet
            os.close(self._wake)


def _has_input(fd: int) -> bool:
    """Whether a read of this descriptor would return at once."""
    readable = select.poll()  # unlike select.select, for any number of descriptors
    readable.register(fd, select.POLLIN)
    return bool(readable.poll(0))
