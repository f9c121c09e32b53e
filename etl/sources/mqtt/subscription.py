"""The subscription of one source, on a thread of its own: polls, messages, one connection after the other."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from math import inf

from paho.mqtt.client import topic_matches_sub
from paho.mqtt.enums import MQTTProtocolVersion

from etl.config.sources.mqtt import MqttSource, subscribed
from etl.readings.records import CLOSED, Failure, Poll
from etl.sources.contract import Context, Deliver, timed_out
from etl.sources.mqtt.connection import BROKEN, Connection
from etl.sources.mqtt.session import MAX_TOPICS, Session

FIRST_DELAY_S, MAX_DELAY_S = 0.5, 30.0
"""Pauses before another attempt to connect: doubled each time, up to the longest."""
STABLE_S = 60.0
"""After a connection that lasted so long the pauses start over: two clients with one id end each other's sooner."""
TAKEN_OVER_AFTER = 2
"""Connections in a row that the broker accepted and soon ended, without a reason: some name none to an old client."""
CLOSE_S = 3.0
"""After `close`, what was delivered gets this long to be written and acknowledged: the writer ends within 2 s."""

log = logging.getLogger("etl")


class _Waiting:
    """A poll that waits until it is known whether the connection stands."""

    def __init__(self, deliver: Deliver, timeout: float, expire: Callable[[_Waiting], None]) -> None:
        self.deliver = deliver
        self.timer = threading.Timer(timeout, expire, (self,))
        self.timer.daemon = True
        self.timer.start()


class Subscription:
    """A source's client of its broker. `owner` is the transport that closes it.

    Only its thread waits for the network, the broker and name resolution. A poll that is started before the first
    connection stands or fails ends then, with the first message if there is one, or at its deadline.
    """

    def __init__(
        self, owner: object, source: MqttSource, context: Context, before: Iterable[Subscription] = ()
    ) -> None:
        self.owner = owner
        self.source = source
        self.context = context
        self.session = Session(self._wake)
        self.is_closing = False
        self.close_at = inf
        """When to wait no longer for what is not written (monotonic)."""
        self.wakes, self._wake_writer = socket.socketpair()
        self.wakes.setblocking(False)
        self._wake_writer.setblocking(False)
        self._before = list(before)
        self._lock = threading.Lock()
        self._deliver: Deliver = lambda _: None
        self._waiting: list[_Waiting] = []
        self._standing: Failure | None = None
        self._is_settled = False
        self._connections = 0
        self._thread: threading.Thread | None = None
        self.topic_id = self._topic_ids()

    @property
    def timeout(self) -> float:
        """The deadline of a poll, and of an attempt to connect, in seconds."""
        return self.context.timeout(self.source)

    def continues(self, source: MqttSource, context: Context) -> bool:
        """Whether this subscription serves a source after a reload; if so, with its other keys from now on."""
        old = self.source
        if self.is_closing or (old.mqtt, old.session, old.ca_file) != (source.mqtt, source.session, source.ca_file):
            return False
        self.source, self.context = source, context
        self.topic_id = self._topic_ids()
        return True

    def _topic_ids(self) -> Callable[[str], tuple[bool, str | None]]:
        """Whether a topic matches the filter, and the id that its readings get."""
        topic_filter, id_of = subscribed(self.source.target.topic), self.source.id_of
        return lru_cache(MAX_TOPICS)(lambda topic: (topic_matches_sub(topic_filter, topic), id_of(topic)))

    def poll(self, deliver: Deliver) -> None:
        """Start a poll; the first one starts the thread."""
        with self._lock:
            self._deliver = deliver
            if not self._is_settled and not self.is_closing:
                self._waiting.append(_Waiting(deliver, self.timeout, self._expire))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=f"mqtt {self.source.name}", daemon=True)
                    self._thread.start()
                return
            # Under the lock: a failure must not arrive behind the first message of the next connection.
            self._answer(deliver, CLOSED if self.is_closing else self._standing)

    def _answer(self, deliver: Deliver, failure: Failure | None) -> None:
        self._hand_over(deliver, Poll(self.source.name, self.context.clock(), failure=failure))

    def deliver(self, poll: Poll) -> None:
        """Hand messages over, as the result of a poll that waits, else unasked."""
        with self._lock:
            waiting = self._waiting.pop(0) if self._waiting else None
        if waiting:
            waiting.timer.cancel()
        self._hand_over(waiting.deliver if waiting else self._deliver, poll)

    def _hand_over(self, deliver: Deliver, poll: Poll) -> None:
        try:
            deliver([poll])
        except Exception:  # the thread must survive it
            log.exception("The poll of %s was lost: its receiver failed", poll.source, extra={"source": poll.source})

    def _expire(self, waiting: _Waiting) -> None:
        """The deadline of a poll that waits: without a failure if the connection stands and only no message came."""
        with self._lock:
            if waiting not in self._waiting:
                return
            self._waiting.remove(waiting)
            stands = self._is_settled
        self._answer(waiting.deliver, None if stands else timed_out(self.timeout))

    def stands(self, *, was_kept: bool) -> None:
        """The broker accepted the subscription; whether it had kept the session."""
        self._connections += 1
        with self._lock:
            self._standing, self._is_settled = None, True
        if self._connections > 1 and not was_kept:
            message = "%s: the broker did not keep the session %s: what was published meanwhile is lost"
            log.warning(message, self.source.name, self.source.session, extra={"source": self.source.name})

    def settle(self, failure: Failure | None) -> None:
        """The result of the polls that wait, and with a failure of later ones."""
        with self._lock:
            self._standing, self._is_settled = failure, True
            waiting, self._waiting = self._waiting, []
        for poll in waiting:
            poll.timer.cancel()
            self._answer(poll.deliver, failure)

    @property
    def has_waiting(self) -> bool:
        """Whether a poll waits."""
        return bool(self._waiting)

    def close(self) -> None:
        """Deliver no further message; acknowledge what is written within CLOSE_S, then disconnect."""
        with self._lock:
            if self.is_closing:
                return
            self.close_at = -inf if self.context.is_trial else time.monotonic() + CLOSE_S
            self.is_closing = True
            if self._thread is None:
                self._release()
        self.settle(CLOSED)
        self._wake()

    def end(self) -> None:
        """Wait no longer for what is not written."""
        self.close_at = -inf
        self._wake()

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, up to so many seconds."""
        if self._thread:
            self._thread.join(seconds)

    def _wake(self) -> None:
        with suppress(OSError):  # full: it is awake; closed: it has ended
            self._wake_writer.send(b"\0")

    def _release(self) -> None:
        self.wakes.close()
        self._wake_writer.close()

    def _run(self) -> None:
        for old in self._before:
            old.close()
            old.join(2 * CLOSE_S)
        self._before.clear()
        delay, version, cut_off = FIRST_DELAY_S, MQTTProtocolVersion.MQTTv5, 0
        while not self.is_closing:
            began = time.monotonic()
            connection = Connection(self, version)
            failure = connection.run()
            is_older = failure.reason in ("protocol", "reset") and not connection.is_accepted
            if is_older and version == MQTTProtocolVersion.MQTTv5:
                version = MQTTProtocolVersion.MQTTv311  # an older broker refuses, or just disconnects
                if failure.reason == "protocol":
                    continue
            else:
                version = MQTTProtocolVersion.MQTTv5
            is_stable = time.monotonic() - began > STABLE_S
            cut_off = cut_off + 1 if connection.is_accepted and failure == BROKEN and not is_stable else 0
            if cut_off >= TAKEN_OVER_AFTER:
                failure = Failure(
                    "taken_over", f"the broker keeps ending it: another client uses {self.source.session}"
                )
            if not self.is_closing:
                self.settle(failure)
                delay = FIRST_DELAY_S if is_stable else delay
                self._pause(delay)
                delay = min(delay * 2, MAX_DELAY_S)
        self._release()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        wait = select.poll()
        wait.register(self.wakes, select.POLLIN)
        while not self.is_closing and (left := until - time.monotonic()) > 0:
            if wait.poll(left * 1000):
                self.drain_wakes()

    def drain_wakes(self) -> None:
        """Take what woke the thread."""
        with suppress(BlockingIOError):
            self.wakes.recv(65_536)
