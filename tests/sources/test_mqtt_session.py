"""The account of a session, against a model of a broker that sends again what is not acknowledged."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")

from etl.sources.mqtt.session import MAX_TOPICS, Receipt, Session


class Model:
    """A broker with numbered messages, and a client that writes them later."""

    def __init__(self) -> None:
        self.session = Session(lambda: None)
        self.session.connected(was_kept=False)
        self.sent: dict[int, str] = {}
        """What the broker waits for, by its number."""
        self.published = 0
        self.delivered: list[tuple[str, Receipt]] = []
        self.written: list[str] = []
        self.wire: list[tuple[int, str]] = []
        """What is sent again and was not received yet."""
        self.unread: set[str] = set()
        """Messages whose acknowledgement got lost with a connection."""

    def publish(self, mid: int) -> None:
        """The broker sends a new message under a number that is free."""
        while self.wire:
            self.receive()
        if mid not in self.sent:
            self.published += 1
            self.sent[mid] = f"message {self.published}"
            self._receive(mid, self.sent[mid], is_repeated=False)

    def receive(self, _: int = 0) -> None:
        """One of the messages that are sent again arrives."""
        if self.wire:
            self._receive(*self.wire.pop(0), is_repeated=True)

    def _receive(self, mid: int, text: str, *, is_repeated: bool) -> None:
        message = self.session.receive(mid, is_repeated)
        if message is not None:
            self.delivered.append((text, Receipt(self.session, [message])))

    def write(self, index: int) -> None:
        """One of the delivered messages is written."""
        if self.delivered:
            text, receipt = self.delivered.pop(index % len(self.delivered))
            self.written.append(text)
            receipt.written()

    def acknowledge(self, _: int = 0) -> None:
        """The broker reads the acknowledgements, each of a written message that it waits for."""
        for mid in self.session.acknowledge():
            assert self.sent.pop(mid) in self.written

    def lose(self, _: int) -> None:
        """Acknowledgements are sent, and the connection breaks before the broker reads them."""
        self.unread |= {self.sent[mid] for mid in self.session.acknowledge()}
        self.reconnect()

    def reconnect(self, _: int = 0) -> None:
        """The broker sends again what it waits for."""
        self.session.connected(was_kept=True)
        self.wire = list(self.sent.items())


@example([("publish", 1), ("reconnect", 1), ("write", 1), ("acknowledge", 1)])
@example([("publish", 1), ("write", 1), ("reconnect", 1), ("acknowledge", 1), ("receive", 1)])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["publish", "write", "acknowledge", "reconnect", "receive", "lose"]), st.integers(1, 5)
        )
    )
)
def test_every_message_is_written_and_only_written_ones_are_acknowledged(steps):
    """Whatever breaks when: nothing is lost, and only a lost acknowledgement has a message written twice."""
    model = Model()
    for step, number in steps:
        getattr(model, step)(number)
    model.reconnect()
    while model.wire:
        model.receive()
    while model.delivered:
        model.write(0)
    model.acknowledge()
    assert model.sent == {}
    assert model.session.in_flight == 0
    assert {*model.written} == {f"message {number + 1}" for number in range(model.published)}
    assert {text for text in model.written if model.written.count(text) > 1} <= model.unread


def test_a_lost_session_acknowledges_nothing_of_the_old_one():
    """Its numbers start over: a message that was written late must not acknowledge another one."""
    model = Model()
    model.publish(1)
    model.session.connected(was_kept=False)
    model.sent.clear()
    model.publish(1)
    model.write(0)
    assert model.session.acknowledge() == []
    model.write(0)
    assert model.session.acknowledge() == [1]


def test_the_last_messages_of_topics_are_bounded():
    """A retained message is known while its topic is among the last MAX_TOPICS."""
    session = Session(lambda: None)
    for number in range(MAX_TOPICS + 1):
        assert not session.is_last(f"topic {number}", b"{}", is_retained=False)
    assert session.is_last("topic 1", b"{}", is_retained=True)
    assert not session.is_last("topic 0", b"{}", is_retained=True)
    assert not session.is_last("topic 1", b"[]", is_retained=True)
