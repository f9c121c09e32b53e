"""One connection to a broker, from its first packet to its end."""

from __future__ import annotations

import logging
import select
import ssl
import time
from math import inf
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTProtocolVersion

from etl.readings.records import Answer, Failure, Poll, RejectedError
from etl.sources.contract import MAX_BODY_BYTES, TOO_LARGE, timed_out
from etl.sources.intake import SMALL_BYTES
from etl.sources.mqtt.client import MAX_IN_FLIGHT, FailedError, connect, explain, new_client, refusal, subscribe
from etl.sources.mqtt.session import Message, Receipt

if TYPE_CHECKING:
    from etl.sources.mqtt.subscription import Subscription

MAX_BATCH = 200
MAX_BATCH_BYTES = 256 << 10
"""Messages that are read before they are delivered together, and their bytes, about."""
QUIET_S = 0.3
"""The first poll waits this long for what the broker has: a message is its result, as `etl once` needs it."""
FAREWELL_S = 1.0
"""The broker gets this long to confirm that it has read the last acknowledgements."""
IDLE_S, BUSY_S = 5.0, 0.05
"""Seconds between two looks at the clock: of a connection that stands, and of one that waits for something."""
FAREWELL_TOPIC = "etl/farewell"
"""Nobody subscribes to it: the answer to unsubscribing from it says that everything sent before was read."""
BROKEN = Failure("reset", "the connection broke off")

log = logging.getLogger("etl")


class Connection:
    """Reads messages, and acknowledges those that are written; used by the subscription's thread alone.

    Messages that were read together are delivered together, at the moment they were read. While the answers of all
    sources that wait to be written take too much memory, nothing is read: the broker keeps what it cannot send.
    """

    def __init__(self, subscription: Subscription, version: MQTTProtocolVersion) -> None:
        self.is_accepted = False
        """Whether the broker accepted the connection."""
        self._subscription = subscription
        self._source = subscription.source
        self._session = subscription.session
        self._version = version
        self._failure: Failure | None = None
        self._was_kept = self._is_confirmed = False
        self._connect_until = self._quiet_at = self._farewell_until = inf
        self._count = 0
        self._answers: list[Answer] = []
        self._rejections: list[RejectedError] = []
        self._messages: list[Message] = []
        self._lease = subscription.context.intake.lease()
        self._has_other_topics = False

    def run(self) -> Failure:
        """Connect and serve until the connection ends; why it ended."""
        client, context = None, self._subscription.context
        timeout = self._subscription.timeout
        try:
            client = new_client(self._source, context.folder, self._version, context.is_trial)
            client.on_connect = self._on_connect
            client.on_subscribe = self._on_subscribe
            client.on_unsubscribe = self._on_unsubscribe
            client.on_disconnect = self._on_disconnect
            client.on_message = self._on_message
            self._connect_until = time.monotonic() + timeout
            connect(client, self._source, timeout, context.is_trial)
            self._serve(client)
            return self._failure or BROKEN
        except Exception as error:
            failure = explain(error, timeout)
            if failure.reason == "failed":
                log.exception("The connection of %s failed", self._source.name, extra={"source": self._source.name})
            return failure
        finally:
            if client and (sock := client.socket()):
                sock.close()

    def _serve(self, client: Client) -> None:
        wait = select.poll()
        wakes = self._subscription.wakes
        wait.register(wakes, select.POLLIN)
        look_at = 0.0
        while sock := client.socket():
            now = time.monotonic()
            self._acknowledge(client)
            if self._is_over(client, now):
                return
            can_read = self._deliver() and self._session.in_flight <= MAX_IN_FLIGHT
            wait.register(sock, select.POLLIN * can_read | select.POLLOUT * client.want_write())
            has_rest = can_read and isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
            ready = dict(wait.poll(0 if has_rest else self._seconds_to_wait(can_read) * 1000))
            if wakes.fileno() in ready:
                self._subscription.drain_wakes()
            events = ready.get(sock.fileno(), 0)
            if has_rest or (can_read and events & ~select.POLLOUT):
                self._read(client)
            elif events & (select.POLLHUP | select.POLLERR):
                return
            if client.want_write():
                client.loop_write()
            if now >= look_at:
                client.loop_misc()
                look_at = now + 1.0

    def _seconds_to_wait(self, can_read: bool) -> float:
        is_busy = not can_read or self._subscription.is_closing or not self._quiet_at < inf
        return BUSY_S if is_busy or self._subscription.has_waiting else IDLE_S

    def _acknowledge(self, client: Client) -> None:
        for number in self._session.acknowledge():
            client.ack(number, 1)

    def _is_over(self, client: Client, now: float) -> bool:
        """Whether nothing is left to do; a poll that waits for the first message ends when it is quiet.

        Raises:
            FailedError: the broker did not answer, or refused the subscription.

        """
        subscription = self._subscription
        if self._failure:
            raise FailedError(self._failure)
        if self._quiet_at == inf:
            if now > self._connect_until:
                raise FailedError(timed_out(subscription.timeout))
            return subscription.is_closing
        if subscription.has_waiting and now >= self._quiet_at and not subscription.context.is_trial:
            subscription.settle(None)
        if not subscription.is_closing:
            return False
        if self._farewell_until == inf and (not self._session.in_flight or now >= subscription.close_at):
            self._farewell_until = now + FAREWELL_S
            client.unsubscribe(FAREWELL_TOPIC)
        if self._is_confirmed or now >= self._farewell_until:
            client.disconnect()
            return True
        return False

    def _read(self, client: Client) -> None:
        """Read what has arrived, about a batch of it."""
        size = 0
        for _ in range(MAX_BATCH):
            count = self._count
            client.loop_read()
            if self._count == count or client.socket() is None:
                break
            size += len(self._answers[-1].body) if self._answers else 0
            if size > MAX_BATCH_BYTES:
                break

    def _deliver(self) -> bool:
        """Deliver what was read; False if there is no memory for it yet."""
        if self._subscription.is_closing:
            self._session.forget(self._messages)  # the broker sends them again
            self._answers, self._rejections, self._messages = [], [], []
            return True
        if self._quiet_at == inf or not (self._answers or self._rejections):
            return True  # what the broker had kept comes before the subscription is confirmed: the source is down yet
        size = sum(len(answer.body) for answer in self._answers)
        if not self._messages:
            size = max(size, SMALL_BYTES + 1)  # nothing else bounds messages that need no acknowledgement
        if not self._lease.grow(size):
            return False
        context = self._subscription.context
        poll = Poll(
            self._source.name,
            context.clock(),
            tuple(self._answers),
            rejections=tuple(self._rejections),
            lease=self._lease,
            receipt=Receipt(self._session, self._messages),
        )
        self._answers, self._rejections, self._messages = [], [], []
        self._lease = context.intake.lease()
        self._subscription.deliver(poll)
        return True

    def _on_connect(self, client: Client, _: Any, flags: Any, reason: Any, __: Any) -> None:
        if reason.is_failure:
            self._failure = refusal(reason)
            return
        self.is_accepted, self._was_kept = True, flags.session_present
        self._session.connected(self._was_kept)
        subscribe(client, self._source.target.topic)

    def _on_subscribe(self, _: Client, __: Any, ___: int, reasons: Any, ____: Any) -> None:
        if reasons and reasons[0].is_failure:
            topic = self._source.target.topic
            self._failure = Failure("subscription", f"the broker refuses the topic {topic}: {reasons[0].getName()}")
            return
        self._quiet_at = time.monotonic() + QUIET_S
        self._subscription.stands(was_kept=self._was_kept)

    def _on_unsubscribe(self, _: Client, __: Any, ___: int, ____: Any, _____: Any) -> None:
        self._is_confirmed = True

    def _on_disconnect(self, _: Client, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self._failure = refusal(reason)

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        self._count += 1
        if self._subscription.is_closing:
            return  # not acknowledged: it is sent again to the next process
        entry = self._session.receive(message.mid, message.dup) if message.qos else None
        if message.qos and entry is None:
            return
        topic = message.topic
        is_ours, identity = self._subscription.topic_id(topic)
        payload = bytes(message.payload)
        is_last = self._session.is_last(topic, payload, message.retain)
        if is_last or not is_ours or (message.retain and self._was_kept):
            if entry:
                self._session.written([entry])
            if not is_ours and not self._has_other_topics:
                self._has_other_topics = True
                text = "%s: the session %s has another subscription, whose messages are left out, such as %s"
                log.warning(text, self._source.name, self._source.session, topic, extra={"source": self._source.name})
            return
        if entry:
            self._messages.append(entry)
        if len(payload) > MAX_BODY_BYTES:
            self._rejections.append(RejectedError(TOO_LARGE.reason, TOO_LARGE.why))
        else:
            self._answers.append(Answer(payload, None, identity))
