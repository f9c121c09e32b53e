"""Waitress' server, bounded so that no client can use up its connections, descriptors, memory or disk.

Waitress does not accept connections while its limit is reached, looks for idle ones every 30 seconds, takes any byte
for activity, and writes long bodies and answers to temporary files. Here a connection gives way to a newer one.
"""

import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any

import orjson
from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.receiver import ChunkedReceiver
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import BadRequest

from api.app import HEADERS, MAX_BODY_BYTES

REQUEST_S = 30.0
"""A request must be complete so many seconds after the connection was opened, or after the request's first byte."""
IDLE_S = 120.0
"""An idle connection is closed after so many seconds, as is one whose client takes no byte of an answer; longer than
the usual minute between two scrapes."""
MAX_UNSENT_BYTES = 64 << 20
"""What all clients together have not taken of their answers. Beyond it those that hold most for longest are cut off."""
SEND_BYTES = 64 << 10
"""Sent at once, at most. Waitress takes as much as the socket's buffer holds, some MiB, in each thread that answers."""
MAX_CHUNK_LINE_BYTES = 4 << 10
"""The length of a chunk, or the trailer after the last one: waitress reads these without a limit of its own."""
SPARE_DESCRIPTORS = 2
"""Kept open to be closed when the process has no descriptor left: the health check can then still connect."""
RETRY_S = 1.0
"""Pause after a connection could not be accepted."""
WARNING_PERIOD_S = 60.0
"""Seconds between two warnings, at least: clients may cause thousands of refusals a second."""
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

log = logging.getLogger("api")


class Body:
    """The body of a request, in memory. What is too long to be accepted is counted, not kept."""

    def __init__(self) -> None:
        self._kept = BytesIO()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, data: bytes) -> None:
        """Add the next bytes."""
        self._kept.write(data[: max(0, MAX_BODY_BYTES - self._length)])
        self._length += len(data)

    def getfile(self) -> BytesIO:
        """The kept bytes, to be read from their start."""
        self._kept.seek(0)
        return self._kept

    def close(self) -> None:
        """Release the memory."""
        self._kept.close()


class Request(HTTPRequestParser):  # type: ignore[misc]
    """A request as it arrives. Its memory is bounded by the limits of its headers and of its body."""

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the headers; the body that follows goes to a Body."""
        super().parse_header(header_plus)
        if self.body_rcv is not None:
            self.body_rcv.buf = Body()

    def received(self, data: bytes) -> int:
        """Take the next bytes; how many of them belong to this request."""
        consumed: int = super().received(data)
        body = self.body_rcv
        if isinstance(body, ChunkedReceiver) and len(body.control_line) + len(body.trailer) > MAX_CHUNK_LINE_BYTES:
            self.error = BadRequest("A line between two chunks of the body is too long")
            self.completed = True
        return consumed


class Task(WSGITask):  # type: ignore[misc]
    """Answers a request. The application can ask how much of its answer waits for the client, and wait too."""

    def get_environment(self) -> dict[str, Any]:
        """The environment of the request."""
        return {**super().get_environment(), "api.unsent": lambda: self.channel.total_outbufs_len}


class Refusal(ErrorTask):  # type: ignore[misc]
    """Answers a request that the application never sees: it is too long, or not HTTP."""

    def execute(self) -> None:
        """Write the answer, as JSON like every error."""
        error = self.request.error
        body = orjson.dumps({"error": f"{error.reason}: {error.body}"})
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", "application/json"), *HEADERS.items()]
        self.content_length = len(body)
        self.set_close_on_finish()
        self.channel.refused = True
        self.write(body)


class Connection(HTTPChannel):  # type: ignore[misc]
    """A connection, which knows since when it waits for its client."""

    parser_class = Request
    task_class = Task
    error_task_class = Refusal
    close_when_flushed: bool
    sendbuf_len: int

    def __init__(self, *args: Any, **options: Any) -> None:
        self.waiting_since = time.monotonic()
        self.answered = self.refused = False
        super().__init__(*args, **options)
        self.sendbuf_len = min(self.sendbuf_len, SEND_BYTES)

    @property
    def waiting(self) -> bool:
        """Whether the client is to act next: to send a request, or to take the answer."""
        return not self.requests or self.total_outbufs_len > 0

    @property
    def unsent_bytes(self) -> int:
        """The memory that the answers take which the client has not taken; files are read as it takes them."""
        return sum(len(part) for part in list(self.outbufs) if not isinstance(part, ReadOnlyFileBasedBuffer))

    @property
    def has_unread(self) -> bool:
        """Whether bytes have arrived that were not taken: a client whose connection is closed then sees a reset."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    @property
    def deadline(self) -> float:
        """When to close the connection if it still waits then."""
        idle = self.answered and self.request is None and not self.refused
        return self.waiting_since + (IDLE_S if idle or self.total_outbufs_len else REQUEST_S)

    def received(self, data: bytes) -> bool:
        """Take bytes from the client; only the first ones of a request are what was waited for."""
        if self.refused:
            return False
        if self.answered and self.request is None:
            self.waiting_since = time.monotonic()
        return bool(super().received(data))

    def handle_write(self) -> None:
        """Send what the client takes."""
        if self.refused and self.close_when_flushed and not self.total_outbufs_len:
            # A client that still sends its body reads the answer at the end of it, unless the connection is reset.
            self.close_when_flushed = False
            self.socket.shutdown(socket.SHUT_WR)
            return
        unsent = self.total_outbufs_len
        super().handle_write()
        if self.total_outbufs_len < unsent:
            self.waiting_since = time.monotonic()

    def handle_expt(self) -> None:
        """Close a connection that sends urgent data: nobody reads it, so poll() would report it without end."""
        self.handle_close()

    def service(self) -> None:
        """Answer a request; runs in a thread of its own.

        An answer is what a client waits for, unless it has not taken its last one yet.
        """
        stalls = self.total_outbufs_len > 0
        if not stalls:
            self.waiting_since = time.monotonic()
        self.answered = True
        super().service()
        if not stalls:
            self.waiting_since = time.monotonic()


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Accepts connections; `connection_limit` of them stay open, and a new one replaces the one that waits longest.

    Connections whose request is being answered are never replaced. While all are, new ones wait in the backlog.
    """

    channel_class = Connection

    def __init__(self, *args: Any, **options: Any) -> None:
        self._spare_descriptors: list[int] = []
        self._freed_descriptor = False
        self._accept_after = self._warn_after = 0.0
        super().__init__(*args, **options)
        self._open_spare_descriptors()

    def run(self) -> None:
        """Serve until the process ends; without a connection nothing wakes up."""
        while self._map:
            try:
                self.asyncore.loop(timeout=self._seconds_to_deadline(), map=self._map, use_poll=True, count=1)
            except OSError as error:  # the limit of descriptors was lowered: poll() takes only so many
                if not self._free_descriptor():
                    time.sleep(RETRY_S)
                self._warn(f"Cannot wait for all connections: {error.strerror}; raise the limit of descriptors")
            self._close_connections(time.monotonic())
            if not self._freed_descriptor:
                self._open_spare_descriptors()

    def readable(self) -> bool:
        """Whether to accept a connection: there is room for it, or one more shows that room must be made."""
        return len(self.active_channels) <= self.adj.connection_limit and time.monotonic() >= self._accept_after

    def handle_accept(self) -> None:
        """Accept a connection. If there is no descriptor for it, free one; the next event accepts the connection.

        Not at once: the new connection could have the number of the closed one, whose events may be due in this round.
        """
        self._freed_descriptor = False
        try:
            accepted = self.accept()
            if accepted:
                self.set_socket_options(accepted[0])
        except OSError as error:
            self._freed_descriptor = error.errno in _OUT_OF_DESCRIPTORS and self._free_descriptor()
            if not self._freed_descriptor:
                self._accept_after = time.monotonic() + RETRY_S
            self._warn(f"Cannot accept all connections: {error.strerror}; raise the limit of descriptors (LimitNOFILE)")
            return
        if accepted:
            self.channel_class(self, *accepted, self.adj, map=self._map)

    def _free_descriptor(self) -> bool:
        """Close the connection that waits longest, else a spare descriptor; whether there was one."""
        if waiting := self._waiting():
            waiting[0].handle_close()
        elif self._spare_descriptors:
            os.close(self._spare_descriptors.pop())
        else:
            return False
        return True

    def _open_spare_descriptors(self) -> None:
        with suppress(OSError):  # tried again after the next event
            while len(self._spare_descriptors) < SPARE_DESCRIPTORS:
                self._spare_descriptors.append(os.open(os.devnull, os.O_RDONLY))

    def _waiting(self) -> list[Connection]:
        """The connections that wait for their clients, the longest waiting first."""
        waiting = (connection for connection in self.active_channels.values() if connection.waiting)
        return sorted(waiting, key=attrgetter("waiting_since"))

    def _seconds_to_deadline(self) -> float | None:
        """The seconds until a connection must be closed, or accepted again; None without either."""
        times = [connection.deadline for connection in self._waiting()]
        if self._accept_after:
            times.append(self._accept_after)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _close_connections(self, now: float) -> None:
        """Close the connections that are past their deadline, beyond the limit, or hold too much that is not sent."""
        if now >= self._accept_after:
            self._accept_after = 0.0
        for connection in [connection for connection in self._waiting() if now >= connection.deadline]:
            connection.handle_close()
        for connection in [*self._beyond_limit(), *self._beyond_memory(now)]:
            self._warn(
                f"Too many clients wait or do not take their answers ({len(self.active_channels)} connections): "
                "those that wait longest are closed"
            )
            connection.handle_close()

    def _beyond_limit(self) -> Iterator[Connection]:
        """The connections that wait longest, as many as are beyond the limit; never the newest."""
        excess = len(self.active_channels) - self.adj.connection_limit
        if excess > 0:
            yield from islice((connection for connection in self._waiting()[:-1] if not connection.has_unread), excess)

    def _beyond_memory(self, now: float) -> Iterator[Connection]:
        """The connections that hold most for longest, until the others hold little enough; never the last."""
        waiting = ((connection, connection.unsent_bytes) for connection in self._waiting())
        unsent = sorted(
            ((size * (now - connection.waiting_since), size, connection) for connection, size in waiting if size),
            key=itemgetter(0),
        )
        while len(unsent) > 1 and sum(size for _, size, _ in unsent) > MAX_UNSENT_BYTES:
            yield unsent.pop()[2]

    def _warn(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._warn_after:
            self._warn_after = now + WARNING_PERIOD_S
            log.warning(message)
