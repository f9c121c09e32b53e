"""MQTT over a real mosquitto: what is acknowledged when, what comes again, what is bounded, ids."""

from __future__ import annotations

import errno
import os

import pytest

from etl.config.sources.mqtt import MqttSource
from etl.readings.answers import raw_lines
from etl.readings.averages.alive import Alive
from etl.sources.intake import Intake
from tests.support.brokers import (
    TOPIC,
    delete_session,
    end,
    failure_of,
    numbers,
    source,
    write,
)
from tests.support.http_sources import PATIENCE, poll_all
from tests.support.process import until as until_within

pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")

from etl.sources.mqtt.client import MAX_IN_FLIGHT


def until(condition):
    """Wait until a condition holds."""
    return until_within(condition, PATIENCE)


def test_a_message_is_acknowledged_once_it_is_written(broker, publisher, subscribed):
    """What is not written comes again to the next client with the id; what is written never does."""
    first = subscribed(source(broker))
    inbox = poll_all(first, ["m"])
    sent = publisher.send(5)
    until(lambda: numbers(inbox) == sent)
    end(first)
    second = subscribed(source(broker))
    again = poll_all(second, ["m"])
    until(lambda: numbers(again) == sent)
    write(again)
    end(second)
    third = subscribed(source(broker))
    later = poll_all(third, ["m"])
    until(lambda: numbers(later) == publisher.send(1) or len(numbers(later)) > 0)
    assert not {*numbers(later)} & {*sent}


def test_messages_wait_at_the_broker_while_nobody_reads(broker, publisher, subscribed):
    """After a clean end, what is published meanwhile is the result of the next first poll, each message once."""
    first = subscribed(source(broker))
    poll_all(first, ["m"])
    end(first)
    sent = publisher.send(50)
    inbox = poll_all(subscribed(source(broker)), ["m"])
    while numbers(inbox) != sent:
        write(inbox)


def test_what_is_in_flight_is_bounded(broker, publisher, subscribed):
    """Without acknowledgements the broker sends MAX_IN_FLIGHT messages; the others come once those are written."""
    inbox = poll_all(subscribed(source(broker)), ["m"])
    sent = publisher.send(MAX_IN_FLIGHT + 50)
    until(lambda: len(numbers(inbox)) == MAX_IN_FLIGHT)
    poll_all(subscribed(source(broker, name="other", client_id="other")), ["other"])  # a round trip to the broker
    assert numbers(inbox) == sent[:MAX_IN_FLIGHT]
    write(inbox)
    until(lambda: numbers(inbox) == sent)


def test_without_memory_nothing_is_read(broker, publisher, subscribed, monkeypatch):
    """While other answers take the memory, the broker keeps what is large; it comes when there is room again."""
    monkeypatch.setattr("etl.sources.intake.MAX_RECEIVED_BYTES", 100_000)
    intake = Intake()
    others = intake.lease()
    others.grow(90_000)
    inbox = poll_all(subscribed(source(broker), intake=intake), ["m"])
    publisher.send_bytes(b'{"n":1,"pad":"%s"}' % (b"x" * 30_000))
    publisher.send_bytes(b'{"n":2}')
    assert numbers(inbox) == []
    others.release()
    until(lambda: numbers(inbox) == [1, 2])


def test_messages_without_acknowledgement_are_bounded_too(broker, publisher, subscribed, monkeypatch):
    """Of QoS 0 only as much is read as there is memory for, however small the messages are."""
    monkeypatch.setattr("etl.sources.intake.MAX_RECEIVED_BYTES", 100_000)
    inbox = poll_all(subscribed(source(broker), intake=Intake()), ["m"])
    for number in range(6):
        publisher.send_bytes(b'{"n":%d}' % number, qos=0)
        until(lambda count=number + 1: len(numbers(inbox)) == count)
    publisher.send_bytes(b'{"n":6}', qos=0)
    poll_all(subscribed(source(broker, name="other", client_id="other")), ["other"])  # a round trip to the broker
    assert numbers(inbox) == [*range(6)]
    inbox.polls.clear()
    until(lambda: numbers(inbox) == [6])


def test_a_broker_that_comes_back_sends_only_what_is_new(broker, publisher, subscribed):
    """What waits for the disk while the broker restarts is not delivered twice, and is acknowledged afterwards."""
    transport = subscribed(source(broker))
    inbox = poll_all(transport, ["m"])
    sent = publisher.send(5)
    until(lambda: numbers(inbox) == sent)
    broker.stop()
    queued = publisher.queue(5)
    assert until(lambda: failure_of(transport)).reason in ("reset", "refused", "broker")
    broker.start()
    until(lambda: transport.start(["m"], inbox) or numbers(inbox) == sent + queued)
    write(inbox)
    end(transport)
    later = poll_all(subscribed(source(broker)), ["m"])
    fresh = publisher.send(1)
    until(lambda: fresh[0] in numbers(later))
    assert numbers(later) == fresh


def test_a_retained_message_is_read_once(broker, publisher, subscribed):
    """It is the first reading of a new session; neither a reconnect nor another start reads it again."""
    publisher.send(1, retain=True)
    first = subscribed(source(broker))
    inbox = poll_all(first, ["m"])
    assert numbers(inbox) == [0]
    write(inbox)
    end(first)
    second = subscribed(source(broker))
    again = poll_all(second, ["m"])
    broker.stop()
    until(lambda: failure_of(second))
    broker.start()
    until(lambda: failure_of(second) is None)
    second.start(["m"], again)
    publisher.send(1)
    until(lambda: numbers(again) == [1])


def test_a_session_that_is_lost_repeats_no_retained_message(broker, publisher, subscribed, caplog):
    """The log says that messages may be lost, and the retained message that was read before is left out."""
    transport = subscribed(source(broker))
    inbox = poll_all(transport, ["m"])
    publisher.send(1, retain=True)
    until(lambda: numbers(inbox) == [0])
    write(inbox)
    delete_session(broker, "etl-m")
    until(lambda: failure_of(transport))
    until(lambda: failure_of(transport) is None)
    transport.start(["m"], inbox)
    publisher.send(1)
    until(lambda: 1 in numbers(inbox))
    assert numbers(inbox) == [0, 1]
    assert "did not keep the session etl-m" in caplog.text


def test_what_is_no_reading_is_acknowledged_too(broker, publisher, plant):
    """A payload that is not JSON is rejected with an event, and never comes again; neither do the readings."""
    running = plant(sources=[{"name": "m", "mqtt": f"{broker.address}/{TOPIC}"}])
    try:
        running.tick()
        sent = publisher.send(1)
        until(lambda: running.tick() or [line["n"] for line in running.records("raw")] == sent)
        publisher.send_bytes(b"21.5 C")
        until(lambda: running.tick() or running.events("rejected"))
    finally:
        running.close()
    (rejected,) = running.events("rejected")
    assert (rejected["source"], rejected["reason"]) == ("m", "not_json")
    assert running.events("source_down") == []
    running.pipeline.settle()
    running.open()
    try:
        running.tick(3)
    finally:
        running.close()
    assert [line["n"] for line in running.records("raw")] == sent
    assert len(running.events("rejected")) == 1


def test_a_topic_of_other_payloads_does_not_fill_the_events_log(broker, publisher, plant):
    """Rejected messages are counted, and have an event now and then, which counts those since the last one."""
    running = plant(sources=[{"name": "m", "mqtt": f"{broker.address}/{TOPIC}"}])
    try:
        running.tick()
        for number in range(30):
            publisher.send_bytes(b"21.5 C")
            if number == 20:
                until(lambda: running.tick(interval=0) or running.pipeline.standing.counts["rejected"] == 21)
                running.clock.now += 20
            running.tick(interval=0.1)
        until(lambda: running.tick(interval=0) or running.pipeline.standing.counts["rejected"] == 30)
    finally:
        running.close()
    rejected = running.events("rejected")
    assert len(rejected) == 2
    assert 21 <= sum(event.get("count", 1) for event in rejected) <= 30


def test_a_full_disk_acknowledges_nothing(broker, publisher, plant):
    """What comes while the disk is full waits, unacknowledged; when there is room again it is written, each once."""
    full = Full()
    running = plant(sources=[{"name": "m", "mqtt": f"{broker.address}/{TOPIC}"}], system=full)
    try:
        running.tick()
        (subscription,) = running.pipeline._opened["mqtt"].subscriptions.values()
        first = publisher.send(3)
        until(lambda: running.tick() or [line["n"] for line in running.records("raw")] == first)
        full.is_full = True
        sent = publisher.send(30)
        until(lambda: running.tick() or len(running.pipeline.logs.raw) == 30)
        assert subscription.session.in_flight == 30
        full.is_full = False
        until(lambda: running.tick() or len(running.records("raw")) == 33)
        assert [line["n"] for line in running.records("raw")] == first + sent
        (dropped,) = until(lambda: running.tick() or running.events("dropped"))
        assert dropped["lines"] == 0
    finally:
        running.close()


def test_what_a_full_disk_did_not_take_is_there_after_the_end(broker, publisher, plant):
    """A process that ends while the disk is full has acknowledged nothing of it: the next one writes each once."""
    full = Full()
    running = plant(sources=[{"name": "m", "mqtt": f"{broker.address}/{TOPIC}"}], system=full)
    try:
        running.tick()
        full.is_full = True
        sent = publisher.send(30)
        until(lambda: running.tick() or len(running.pipeline.logs.raw) == 30)
        running.close()
        running.pipeline.settle()
        full.is_full = False
        running.open()
        until(lambda: running.tick() or len(running.records("raw")) == 30)
        assert [line["n"] for line in running.records("raw")] == sent
    finally:
        running.close()


class Full:
    """The module os on a disk that takes no data while it `is_full`."""

    def __init__(self) -> None:
        self.is_full = False

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, fd: int, data: bytes) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data)


@pytest.mark.parametrize(
    ("keys", "topic", "payload", "ids"),
    [
        ({}, TOPIC, b'{"id":1}', [1]),
        ({"id": "topic"}, TOPIC, b'{"id":1}', [TOPIC]),
        ({"id": "topic[1]"}, TOPIC, b'{"id":1}', ["press-7"]),
        ({"id": "topic[-1]"}, TOPIC, b"{}", ["telemetry"]),
        ({"id": "topic[1]", "records": "data"}, TOPIC, b'{"data":{"id":1}}', ["press-7"]),
        ({"records": "machines[]"}, TOPIC, b'{"machines":[{"id":1},{"id":2}]}', [1, 2]),
        ({"records": "@", "id": "key"}, TOPIC, b'{"a":{},"b":{}}', ["a", "b"]),
        ({"id": "topic[3]"}, "plant/#", b'{"id":1}', [1]),
    ],
)
def test_an_id_may_come_from_the_topic(keys, topic, payload, ids, broker, publisher, plant):
    """`id: topic` or a level of it replaces the reading's own id, which stays where the level lacks."""
    running = plant(sources=[{"name": "m", "mqtt": f"{broker.address}/{topic}", **keys}])
    try:
        running.tick()
        publisher.send_bytes(payload)
        until(lambda: running.tick() or running.records("raw"))
    finally:
        running.close()
    assert [line["id"] for line in running.records("raw")] == ids


def test_an_ill_placed_level_is_found_in_the_config():
    """A level that no topic of the source has is a mistake; behind # any level may exist."""
    wrong = MqttSource(name="m", mqtt="mqtt://b/plant/+", id="topic[2]")
    assert [mistake.path for mistake in wrong.mistakes()] == [("id",)]
    for right in ("topic[1]", "topic[-2]", "topic"):
        assert [*MqttSource(name="m", mqtt="mqtt://b/plant/+", id=right).mistakes()] == []
    assert [*MqttSource(name="m", mqtt="mqtt://b/plant/#", id="topic[7]").mistakes()] == []


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("mqtt://b/t", ("b", 1883, False, None, None, "t")),
        ("mqtts://b/t", ("b", 8883, True, None, None, "t")),
        ("MQTT://b:99//plant/+/#", ("b", 99, False, None, None, "/plant/+/#")),
        ("mqtt://u:p%40%2F@[::1]:99/a b?c", ("::1", 99, False, "u", "p@/", "a b?c")),
    ],
)
def test_the_parts_of_an_address(address, parts):
    """Broker, port, login and topic, which may have any character."""
    found = MqttSource(name="m", mqtt=address)
    assert found.target == parts
    assert [*found.mistakes()] == []


def test_readings_have_the_moment_of_their_arrival(broker, publisher, subscribed, tmp_path):
    """`_polled_at` is when the message came, not when the source was polled."""
    moments = iter(range(100, 200))
    transport = subscribed(source(broker), clock=lambda: float(next(moments)))
    inbox = poll_all(transport, ["m"])
    publisher.send(1)
    until(lambda: numbers(inbox))
    (message,) = (poll for poll in inbox.polls if poll.answers)
    (line,), _ = raw_lines(message, Alive(60.0))
    assert b'"_polled_at":"1970-01-01T00:01:41.000Z"' in line
