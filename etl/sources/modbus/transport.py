"""Polls Modbus TCP devices and gateways, in one event loop on one thread. Needs pymodbus (the extra `modbus`)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from etl.config.sources.modbus import ModbusSource
from etl.readings.records import CLOSED, Answer, Failure, Poll
from etl.sources.contract import MAX_BODY_BYTES, TOO_LARGE, Context, Deliver
from etl.sources.intake import BUSY
from etl.sources.modbus.gateway import Gateway, PendingPoll, Unit
from etl.sources.modbus.registers import fields_of

MAX_LOOKUPS = 1000
"""Upper limit of threads that resolve hosts; they are created on demand, and each address occupies one at most."""

log = logging.getLogger("etl")
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it logs each answer that is no reading, an event here


class ModbusTransport:
    """Polls units; sources with the same host and port share a connection."""

    def __init__(self, sources: Sequence[ModbusSource], context: Context) -> None:
        self._clock = context.clock
        self._intake = context.intake
        self._units: dict[str, Unit] = {}
        units: defaultdict[tuple[str, int], list[Unit]] = defaultdict(list)
        for source in sources:
            assert isinstance(source.unit, int)  # noqa: S101 - `Source.expand` has replaced a template
            unit = Unit(source.name, source.unit, context.timeout(source), fields_of(source.registers))
            self._units[source.name] = unit
            units[source.endpoint].append(unit)
        self._executor = ThreadPoolExecutor(min(len(units), MAX_LOOKUPS), thread_name_prefix="modbus-lookup")
        gateways = {
            endpoint: Gateway(endpoint, group, self._executor, self._deliver) for endpoint, group in units.items()
        }
        self._gateways = {source.name: gateways[source.endpoint] for source in sources}
        self._lock = threading.Lock()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="modbus", daemon=True)
        self._thread.start()

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; `deliver` gets each result, from another thread."""
        now = self._loop.time()
        polls = [PendingPoll(self._units[name], deliver, now) for name in names]
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._launch, polls)
                return
        for poll in polls:
            self._deliver(poll, CLOSED)

    def close(self) -> None:
        """Start no further poll, deliver those in flight as CLOSED, and close the connections."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._loop.call_soon_threadsafe(self._end)
        if self._thread is not threading.current_thread():
            self._thread.join(1)

    def _run(self) -> None:
        self._loop.run_forever()
        ending = asyncio.all_tasks(self._loop)
        self._loop.run_until_complete(asyncio.wait([*ending, self._loop.create_task(asyncio.sleep(0))]))
        self._loop.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _launch(self, polls: Iterable[PendingPoll]) -> None:
        for poll in polls:
            self._gateways[poll.unit.name].add(poll)

    def _end(self) -> None:
        for gateway in set(self._gateways.values()):
            gateway.close()
        self._loop.stop()

    def _deliver(self, poll: PendingPoll, result: bytes | Failure) -> None:
        answers: tuple[Answer, ...] = ()
        lease = self._intake.lease()
        if isinstance(result, bytes):
            if len(result) > MAX_BODY_BYTES:
                result = TOO_LARGE
            elif not lease.grow(len(result)):
                result = BUSY
            else:
                answers = (Answer(result),)
        failure = result if isinstance(result, Failure) else None
        try:
            poll.deliver([Poll(poll.unit.name, self._clock(), answers, failure, lease=lease)])
        except Exception:  # the event loop would hide it, and the other polls must go on
            log.exception(
                "The poll of %s was lost: its receiver failed", poll.unit.name, extra={"source": poll.unit.name}
            )
