"""The units behind one address: their polls leave in turn over one connection, which is kept and opened again."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from ipaddress import ip_address

from etl.readings.records import CLOSED, Failure
from etl.sources.contract import Deliver, timed_out
from etl.sources.modbus.connection import Connection, ExceptionAnswerError, ProtocolError
from etl.sources.modbus.registers import Field, blocks_of, body_of, split

PATIENCE_TIMEOUTS = 1.5
"""A poll waits for its turn for so many times the longest timeout behind its address: a unit that hangs takes one."""
TIMEOUTS_PER_CONNECTION = 2
"""After so many requests in a row without an answer, a connection that several units share is given up."""

log = logging.getLogger("etl")


class Unit:
    """A source as it is polled."""

    def __init__(self, name: str, number: int, timeout: float, fields: Sequence[Field]) -> None:
        self.name = name
        self.number = number
        self.timeout = timeout
        self.fields = fields
        self.blocks = blocks_of(fields)
        self.is_silent = False
        """Whether its last request had no answer: the next one leaves after those of the other units."""


class PendingPoll:
    """A poll that was started and not delivered yet."""

    def __init__(self, unit: Unit, deliver: Deliver, started: float) -> None:
        self.unit = unit
        self.deliver = deliver
        self.started = started


Finish = Callable[[PendingPoll, bytes | Failure], None]
"""Delivers the reading of a poll, or its failure."""


class UnreachableError(Exception):
    """No connection can be made, for any unit."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


class Gateway:
    """Polls units in turn. It belongs to the thread of its event loop.

    The deadline of a poll counts from the moment its first request leaves, so that no unit times another one out.
    """

    def __init__(self, endpoint: tuple[str, int], units: Sequence[Unit], executor: Executor, finish: Finish) -> None:
        self._host, self._port = endpoint
        self._executor = executor
        self._finish = finish
        self._patience = PATIENCE_TIMEOUTS * max(unit.timeout for unit in units)
        self._max_timeouts = min(TIMEOUTS_PER_CONNECTION, len(units))
        self._timeouts = 0
        self._prompt: deque[PendingPoll] = deque()
        self._silent: deque[PendingPoll] = deque()
        self._current: PendingPoll | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._lookup: asyncio.Future[list[str]] | None = None

    def add(self, poll: PendingPoll) -> None:
        """Let a poll leave when its turn comes."""
        (self._silent if poll.unit.is_silent else self._prompt).append(poll)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def close(self) -> None:
        """Deliver each poll as CLOSED, and close the connection."""
        if self._task:
            self._task.cancel()
        if self._lookup:
            self._lookup.cancel()
        if self._connection:
            self._connection.abort()
        for poll in [*([self._current] if self._current else []), *self._waiting()]:
            self._finish(poll, CLOSED)

    def _waiting(self) -> Iterator[PendingPoll]:
        """Take the polls that wait, those of silent units last."""
        while self._prompt or self._silent:
            yield (self._prompt or self._silent).popleft()

    async def _serve(self) -> None:
        """Poll the units that wait, until none does."""
        loop = asyncio.get_running_loop()
        for poll in self._waiting():
            if loop.time() - poll.started > self._patience:
                poll.unit.is_silent = False
                why = f"other units behind this address took more than {self._patience:g} s"
                self._finish(poll, Failure("busy", why))
                continue
            self._current = poll
            try:
                result = await self._poll(poll.unit)
            except UnreachableError as error:
                result = error.failure
                for other in self._waiting():
                    self._finish(other, result)
            self._current = None
            self._finish(poll, result)
        self._task = None

    async def _poll(self, unit: Unit) -> bytes | Failure:
        """The reading of a unit, or why there is none.

        Raises:
            UnreachableError: the other units cannot be polled either.

        """
        try:
            async with asyncio.timeout(unit.timeout):
                body = await self._read(unit)
        except TimeoutError:
            return self._time_out(unit)
        except ExceptionAnswerError as error:
            result: bytes | Failure = Failure("exception", f"unit {unit.number} answers {error}")
        except ProtocolError as error:
            result = Failure("protocol", f"the answer is not proper Modbus TCP: {error}")
        except ConnectionError:
            return Failure("reset", "the connection broke off")
        except UnreachableError:
            raise
        except Exception as error:
            log.exception("The poll of %s failed", unit.name, extra={"source": unit.name})
            result = Failure("failed", f"the unit cannot be read: {type(error).__name__}")
        else:
            result = body
        self._timeouts = 0
        unit.is_silent = False
        return result

    def _time_out(self, unit: Unit) -> Failure:
        """The failure of a unit that does not answer.

        The connection is kept for the others, unless it seems to be lost: then the next poll makes a new one.
        """
        if self._connection is None or not self._connection.is_open:
            why = f"no connection to {self._host}, port {self._port}, within {unit.timeout:g} s"
            raise UnreachableError(Failure("timeout", why))
        unit.is_silent = True
        self._timeouts += 1
        if self._timeouts >= self._max_timeouts:
            self._timeouts = 0
            self._connection.abort()
        return timed_out(unit.timeout)

    async def _read(self, unit: Unit) -> bytes:
        """The reading of a unit; a kept connection that the other end has closed is made again, once."""
        is_kept = self._connection is not None and self._connection.is_open
        try:
            return await self._reading(unit)
        except ConnectionError:
            if not is_kept:
                raise
        return await self._reading(unit)

    async def _reading(self, unit: Unit) -> bytes:
        connection = await self._open()
        contents: dict[str, Sequence[int]] = {}
        for block in unit.blocks:
            try:
                words = await connection.read(unit.number, block)
            except ExceptionAnswerError as error:
                if error.is_about_address and any(field.size < block.size for field in block.fields):
                    unit.blocks = [part for each in unit.blocks for part in (split(each) if each is block else [each])]
                    return await self._reading(unit)
                raise
            for field in block.fields:
                start = field.address - block.address
                contents[field.name] = words[start : start + field.size]
        return body_of(unit.fields, contents)

    async def _open(self) -> Connection:
        """The connection, made if there is none.

        Raises:
            UnreachableError: it cannot be made.

        """
        if self._connection and self._connection.is_open:
            return self._connection
        failure = Failure("dns", "the host's name cannot be resolved")
        try:
            for host in await self._addresses():
                try:
                    _, self._connection = await asyncio.get_running_loop().create_connection(
                        Connection, host, self._port
                    )
                    return self._connection
                except OSError as error:
                    failure = _explain(error)
        except (socket.gaierror, UnicodeError):
            pass
        raise UnreachableError(failure)

    async def _addresses(self) -> list[str]:
        """The addresses of the host.

        A lookup may block its thread far beyond a deadline: the next poll waits for it instead of blocking another.
        """
        try:
            return [str(ip_address(self._host))]
        except ValueError:
            pass
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.get_running_loop().run_in_executor(self._executor, _resolve, self._host)
            self._lookup.add_done_callback(lambda lookup: lookup.cancelled() or lookup.exception())
        return await asyncio.shield(self._lookup)


def _resolve(host: str) -> list[str]:
    """The addresses of a host, in the order of the system."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _explain(error: OSError) -> Failure:
    """Why a connection cannot be made."""
    if isinstance(error, ConnectionRefusedError):
        return Failure("refused", "connection refused")
    if isinstance(error, ConnectionError):
        return Failure("reset", "the connection broke off")
    return Failure("network", f"the network fails: {error.strerror or error}")
