"""Polls OPC UA servers over asyncua, in one event loop on one thread. Needs asyncua (the extra `opcua`)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from asyncua import ua

from etl.config.sources.opcua import DEFAULT_PORT, Node, OpcUaSource
from etl.readings import exact
from etl.readings.records import CLOSED, Answer, Failure, Poll
from etl.sources.contract import MAX_BODY_BYTES, TOO_LARGE, Context, Deliver
from etl.sources.intake import BUSY
from etl.sources.opcua.failures import explain
from etl.sources.opcua.server import Server
from etl.sources.opcua.session import Access
from etl.sources.opcua.values import reading

MAX_LOOKUPS = 1000
"""Upper limit of threads that resolve hosts; they are created on demand, and each server occupies one at most."""
CLOSE_S = 1.0
"""How long closing waits for the servers to confirm the end of their sessions."""

log = logging.getLogger("etl")
logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # it logs each failure, which is an event here


class _Polled(NamedTuple):
    """A source as it is polled."""

    server: Server
    timeout: float
    nodes: Mapping[str, Node]
    parameters: ua.ReadParameters


class _PendingPoll(NamedTuple):
    name: str
    deadline: float
    deliver: Deliver


class OpcUaTransport:
    """Polls OPC UA servers; sources with the same server, login and certificates share a session."""

    def __init__(self, sources: Sequence[OpcUaSource], context: Context) -> None:
        self._clock = context.clock
        self._intake = context.intake
        servers: dict[Access, Server] = {}
        self._executor = ThreadPoolExecutor(min(len(sources), MAX_LOOKUPS), thread_name_prefix="opcua-lookup")
        self._sources: dict[str, _Polled] = {}
        for source in sources:
            access = access_of(source, context)
            server = servers.setdefault(access, Server(access, self._executor))
            self._sources[source.name] = _Polled(
                server, context.timeout(source), source.fields, _parameters(source.fields.values())
            )
        self._servers = servers.values()
        self._polls: dict[asyncio.Task[bytes], _PendingPoll] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._end = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="opcua", daemon=True)
        self._thread.start()

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; `deliver` gets each result, from another thread, by the source's deadline."""
        now = time.monotonic()
        polls = [_PendingPoll(name, now + self._sources[name].timeout, deliver) for name in names]
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._launch, polls)
                return
        for poll in polls:
            self._deliver(poll, CLOSED)

    def close(self) -> None:
        """Start no further poll, deliver those in flight as CLOSED, and end the sessions."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._loop.call_soon_threadsafe(self._end.set)
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        """Run until `close`."""
        await self._end.wait()
        for task in [*self._polls]:
            task.cancel()
        if self._polls:
            await asyncio.wait([*self._polls])
        await asyncio.gather(*(server.close() for server in self._servers))

    def _launch(self, polls: Iterable[_PendingPoll]) -> None:
        for poll in polls:
            task = self._loop.create_task(self._read(poll))
            self._polls[task] = poll
            task.add_done_callback(self._finish)

    async def _read(self, poll: _PendingPoll) -> bytes:
        """The reading of a source, as JSON."""
        source = self._sources[poll.name]
        async with asyncio.timeout_at(poll.deadline):
            results = await source.server.read(source.parameters)
        return memoryview(exact.dumps(reading(source.nodes, results))).tobytes()

    def _finish(self, task: asyncio.Task[bytes]) -> None:
        """Deliver the result of a poll."""
        poll = self._polls.pop(task)
        if task.cancelled():
            self._deliver(poll, CLOSED)
        elif error := task.exception():
            failure = explain(error, self._sources[poll.name].timeout)
            if failure.reason == "failed":
                log.error("The poll of %s failed", poll.name, exc_info=error, extra={"source": poll.name})
            self._deliver(poll, failure)
        else:
            self._deliver(poll, None, task.result())

    def _deliver(self, poll: _PendingPoll, failure: Failure | None, body: bytes = b"") -> None:
        lease = None
        if not failure:
            lease = self._intake.lease()
            failure = TOO_LARGE if len(body) > MAX_BODY_BYTES else None if lease.grow(len(body)) else BUSY
        answers = () if failure else (Answer(body),)
        try:
            poll.deliver([Poll(poll.name, self._clock(), answers, failure, lease=None if failure else lease)])
        except Exception:  # the event loop would hide it
            log.exception("The poll of %s was lost: its receiver failed", poll.name, extra={"source": poll.name})


def access_of(source: OpcUaSource, context: Context) -> Access:
    """How the server of a source is reached. In the address a login is percent-encoded."""
    parts = urlsplit(source.opcua)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    shown_host = f"[{host}]" if ":" in host else host
    query = f"?{parts.query}" if parts.query else ""
    return Access(
        f"opc.tcp://{shown_host}:{port}{parts.path}{query}",
        host,
        port,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        *(str(context.folder / path) if path else "" for path in _certificate_paths(source)),
    )


def _certificate_paths(source: OpcUaSource) -> tuple[str | None, ...]:
    return source.certificate, source.private_key, source.server_certificate


def _parameters(nodes: Iterable[Node]) -> ua.ReadParameters:
    """One Read call for these nodes, with values that the server takes from the machine now."""
    to_read = [ua.ReadValueId(ua.NodeId.from_string(node.node), ua.AttributeIds.Value) for node in nodes]
    return ua.ReadParameters(MaxAge=0, TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=to_read)
