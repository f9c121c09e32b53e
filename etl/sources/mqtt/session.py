"""What a persistent session has in flight: messages that were read and are not acknowledged yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock

MAX_TOPICS = 10_000
"""Topics whose last message is known, as many as a source has machines."""


class Message:
    """A message that the broker sends again until it is acknowledged, under the same number (`mid`)."""

    __slots__ = ("connection", "is_written", "mid")

    def __init__(self, mid: int, connection: int) -> None:
        self.mid = mid
        self.connection = connection
        """The number of the last connection that it came over: only there it can be acknowledged."""
        self.is_written = False


class Receipt:
    """Messages that were delivered together."""

    __slots__ = ("_messages", "_session")

    def __init__(self, session: Session, messages: list[Message]) -> None:
        self._session = session
        self._messages = messages

    def written(self) -> None:
        """Let the broker be told that these messages are durable."""
        self._session.written(self._messages)


class Session:
    """Tells new messages from those that are sent again, and which of them may be acknowledged; for any thread.

    After a connection broke, the broker sends again what was not acknowledged. What still waits for the disk then must
    not be delivered twice; it is acknowledged on the connection over which it came again.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = Lock()
        self._connection = 0
        self._in_flight: dict[int, Message] = {}
        self._to_acknowledge: list[Message] = []
        self._last: dict[str, int] = {}

    def connected(self, was_kept: bool) -> None:
        """A connection begins; without the session that the broker kept, the numbers of messages start over."""
        with self._lock:
            self._connection += 1
            self._to_acknowledge.clear()
            if not was_kept:
                self._in_flight.clear()

    def receive(self, mid: int, is_repeated: bool) -> Message | None:
        """Note a message; None if it is one that was delivered before, sent again."""
        with self._lock:
            message = self._in_flight.get(mid)
            if message is None or not is_repeated:
                message = self._in_flight[mid] = Message(mid, self._connection)
                return message
            message.connection = self._connection
            if message.is_written:
                self._to_acknowledge.append(message)
            return None

    def is_last(self, topic: str, payload: bytes, is_retained: bool) -> bool:
        """Whether a retained message is the last one of its topic that was read; notes every message."""
        digest = hash(payload)
        if is_retained and self._last.get(topic) == digest:
            return True
        if topic not in self._last and len(self._last) >= MAX_TOPICS:
            del self._last[next(iter(self._last))]
        self._last[topic] = digest
        return False

    def written(self, messages: Iterable[Message]) -> None:
        """These messages are durable, or can never be readings."""
        with self._lock:
            for message in messages:
                message.is_written = True
                if message.connection == self._connection:
                    self._to_acknowledge.append(message)
        self._wake()

    def forget(self, messages: Iterable[Message]) -> None:
        """These messages were not delivered."""
        with self._lock:
            for message in messages:
                self._in_flight.pop(message.mid, None)

    def acknowledge(self) -> list[int]:
        """The numbers of the messages to acknowledge now; they are in flight no more."""
        with self._lock:
            messages = [message for message in self._to_acknowledge if self._in_flight.get(message.mid) is message]
            self._to_acknowledge.clear()
            for message in messages:
                self._in_flight.pop(message.mid, None)
            return [message.mid for message in messages]

    @property
    def in_flight(self) -> int:
        """How many messages were read and are not acknowledged."""
        return len(self._in_flight)
