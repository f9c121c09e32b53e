"""MQTT over a real mosquitto: what is acknowledged when, what comes again, ids, logins, certificates, reloads."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

import msgspec
import pytest

from etl.config.sources.mqtt import MqttSource
from etl.readings.answers import raw_lines
from etl.readings.averages.alive import Alive
from etl.sources.intake import Intake
from tests.support import servers
from tests.support.brokers import MOSQUITTO, TOPIC, Broker, Publisher, delete_session, needs_mosquitto
from tests.support.http_sources import DEADLINE, PATIENCE, SECRET, Inbox, poll_all
from tests.support.kinds import context
from tests.support.process import Site
from tests.support.process import until as until_within
from tests.support.servers import Server

pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")

from etl.sources.mqtt.client import MAX_IN_FLIGHT
from etl.sources.mqtt.transport import MqttTransport

CONNACK_V5 = b"\x20\x03\x00\x00\x00"
CONNACK_V3 = b"\x20\x02\x00\x00"


@pytest.fixture
def stack(nothing_left):
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def broker(stack, tmp_path):
    if not MOSQUITTO:
        pytest.skip("no mosquitto here (Debian: mosquitto)")
    started = Broker(tmp_path)
    stack.callback(started.close)
    return started


@pytest.fixture
def publisher(stack, broker):
    return stack.enter_context(Publisher(broker))


@pytest.fixture
def opened(stack, tmp_path):
    """Open transports, which are closed when the test ends."""

    def build(*sources: MqttSource, **settings) -> MqttTransport:
        transport = MqttTransport(sources, context(tmp_path, **settings))
        stack.callback(transport.settle, PATIENCE)
        stack.callback(transport.close)
        return transport

    return build


def until(condition):
    """Wait until a condition holds."""
    return until_within(condition, PATIENCE)


def source(broker: Broker, topic: str = TOPIC, **keys) -> MqttSource:
    return MqttSource(name=keys.pop("name", "m"), mqtt=f"{broker.address}/{topic}", **keys)


def numbers(inbox: Inbox) -> list[int]:
    """The numbers of the readings that came."""
    return [msgspec.json.decode(answer.body)["n"] for poll in inbox.polls for answer in poll.answers]


def write(inbox: Inbox) -> None:
    """Let all that came be written."""
    for poll in inbox.polls:
        if poll.receipt:
            poll.receipt.written()


def end(transport) -> None:
    transport.close()
    transport.settle(PATIENCE)


def failure_of(transport):
    """The failure of the first poll that has an end; polls before the first attempt has one wait for it."""
    return poll_all(transport, ["m"]).first("m").failure


def test_a_message_is_acknowledged_once_it_is_written(broker, publisher, opened):
    """What is not written comes again to the next client with the id; what is written never does."""
    first = opened(source(broker))
    inbox = poll_all(first, ["m"])
    sent = publisher.send(5)
    until(lambda: numbers(inbox) == sent)
    end(first)
    second = opened(source(broker))
    again = poll_all(second, ["m"])
    until(lambda: numbers(again) == sent)
    write(again)
    end(second)
    third = opened(source(broker))
    later = poll_all(third, ["m"])
    until(lambda: numbers(later) == publisher.send(1) or len(numbers(later)) > 0)
    assert not {*numbers(later)} & {*sent}


def test_messages_wait_at_the_broker_while_nobody_reads(broker, publisher, opened):
    """After a clean end, what is published meanwhile is the result of the next first poll, each message once."""
    first = opened(source(broker))
    poll_all(first, ["m"])
    end(first)
    sent = publisher.send(50)
    inbox = poll_all(opened(source(broker)), ["m"])
    while numbers(inbox) != sent:
        write(inbox)


def test_what_is_in_flight_is_bounded(broker, publisher, opened):
    """Without acknowledgements the broker sends MAX_IN_FLIGHT messages; the others come once those are written."""
    inbox = poll_all(opened(source(broker)), ["m"])
    sent = publisher.send(MAX_IN_FLIGHT + 50)
    until(lambda: len(numbers(inbox)) == MAX_IN_FLIGHT)
    poll_all(opened(source(broker, name="other", client_id="other")), ["other"])  # a round trip to the broker
    assert numbers(inbox) == sent[:MAX_IN_FLIGHT]
    write(inbox)
    until(lambda: numbers(inbox) == sent)


def test_without_memory_nothing_is_read(broker, publisher, opened, monkeypatch):
    """While other answers take the memory, the broker keeps what is large; it comes when there is room again."""
    monkeypatch.setattr("etl.sources.intake.MAX_RECEIVED_BYTES", 100_000)
    intake = Intake()
    others = intake.lease()
    others.grow(90_000)
    inbox = poll_all(opened(source(broker), intake=intake), ["m"])
    publisher.send_bytes(b'{"n":1,"pad":"%s"}' % (b"x" * 30_000))
    publisher.send_bytes(b'{"n":2}')
    assert numbers(inbox) == []
    others.release()
    until(lambda: numbers(inbox) == [1, 2])


def test_messages_without_acknowledgement_are_bounded_too(broker, publisher, opened, monkeypatch):
    """Of QoS 0 only as much is read as there is memory for, however small the messages are."""
    monkeypatch.setattr("etl.sources.intake.MAX_RECEIVED_BYTES", 100_000)
    inbox = poll_all(opened(source(broker), intake=Intake()), ["m"])
    for number in range(6):
        publisher.send_bytes(b'{"n":%d}' % number, qos=0)
        until(lambda count=number + 1: len(numbers(inbox)) == count)
    publisher.send_bytes(b'{"n":6}', qos=0)
    poll_all(opened(source(broker, name="other", client_id="other")), ["other"])  # a round trip to the broker
    assert numbers(inbox) == [*range(6)]
    inbox.polls.clear()
    until(lambda: numbers(inbox) == [6])


def test_a_broker_that_comes_back_sends_only_what_is_new(broker, publisher, opened):
    """What waits for the disk while the broker restarts is not delivered twice, and is acknowledged afterwards."""
    transport = opened(source(broker))
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
    later = poll_all(opened(source(broker)), ["m"])
    fresh = publisher.send(1)
    until(lambda: fresh[0] in numbers(later))
    assert numbers(later) == fresh


def test_a_retained_message_is_read_once(broker, publisher, opened):
    """It is the first reading of a new session; neither a reconnect nor another start reads it again."""
    publisher.send(1, retain=True)
    first = opened(source(broker))
    inbox = poll_all(first, ["m"])
    assert numbers(inbox) == [0]
    write(inbox)
    end(first)
    second = opened(source(broker))
    again = poll_all(second, ["m"])
    broker.stop()
    until(lambda: failure_of(second))
    broker.start()
    until(lambda: failure_of(second) is None)
    second.start(["m"], again)
    publisher.send(1)
    until(lambda: numbers(again) == [1])


def test_a_session_that_is_lost_repeats_no_retained_message(broker, publisher, opened, caplog):
    """The log says that messages may be lost, and the retained message that was read before is left out."""
    transport = opened(source(broker))
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


def test_a_reload_keeps_the_connection(broker, publisher, plant):
    """Other keys change without a new connection; another topic waits for the end of the old one."""
    keys = {"name": "m", "mqtt": f"{broker.address}/plant/+/telemetry"}
    running = plant(sources=[keys])
    try:
        running.tick()
        running.config["sources"] = [keys | {"id": "topic[1]"}]
        running.reload()
        publisher.send(1)
        until(lambda: running.tick() or running.records("raw"))
        assert broker.log.count("as etl-m ") == 1
        running.config["sources"] = [keys | {"mqtt": f"{broker.address}/hall/+"}]
        running.reload()
        until(lambda: running.tick() or broker.log.count("as etl-m ") == 2)
        publisher.send(1, topic="hall/press-8")
        until(lambda: running.tick() or len(running.records("raw")) == 2)
    finally:
        running.close()
    assert [line["id"] for line in running.records("raw")] == ["press-7", 1]
    assert "already connected" not in broker.log
    assert running.events("source_down") == []


def test_messages_of_another_subscription_are_left_out(broker, publisher, opened, caplog):
    """A topic that was changed stays subscribed in the session: its messages are acknowledged, and the log says so."""
    first = opened(source(broker, "hall/#"))
    poll_all(first, ["m"])
    end(first)
    inbox = poll_all(opened(source(broker)), ["m"])
    publisher.send(25, topic="hall/press-8")
    sent = publisher.send(25)
    while numbers(inbox) != sent:
        write(inbox)
    assert caplog.text.count("the session etl-m has another subscription") == 1


def test_a_client_with_the_same_id_is_named(broker, publisher, opened):
    """The source whose session another client takes over fails with that reason."""
    first, second = opened(source(broker)), opened(source(broker))
    poll_all(first, ["m"])
    poll_all(second, ["m"])
    until(lambda: "taken_over" in [failure.reason for failure in map(failure_of, (first, second)) if failure])


def test_a_broker_that_names_its_reason_is_quoted(stack, opened):
    """What the broker says as it ends the connection is the failure of the next poll."""
    transport = opened(fake(stack, packets(CONNACK_V5, b"\x90\x04\x00\x01\x00\x01\xe0\x01\x8e")))
    assert until(lambda: failure_of(transport)).reason == "taken_over"
    transport = opened(fake(stack, packets(CONNACK_V5, b"\x90\x04\x00\x01\x00\x01\xe0\x01\x8b")))
    assert until(lambda: failure_of(transport)).why == "the broker ends the connection: server shutting down"


def test_a_wrong_password_is_named(stack, tmp_path, opened):
    """The failure says that the broker refuses the login, and shows no password; the right one is accepted."""
    passwords = tmp_path / "passwords"
    tool = shutil.which("mosquitto_passwd")
    if not MOSQUITTO or not tool:
        pytest.skip("no mosquitto here (Debian: mosquitto)")
    subprocess.run([tool, "-b", "-c", str(passwords), "etl", SECRET], check=True)
    guarded = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    stack.callback(guarded.close)
    host = guarded.address.removeprefix("mqtt://")
    refused = failure_of(opened(MqttSource(name="m", mqtt=f"mqtt://etl:wr0ng@{host}/t")))
    assert refused.reason == "login"
    assert "wr0ng" not in refused.why
    assert failure_of(opened(MqttSource(name="m", mqtt=f"mqtt://{host}/t"))).reason == "login"
    assert failure_of(opened(MqttSource(name="m", mqtt=f"mqtt://etl:{SECRET}@{host}/t"))) is None


@needs_mosquitto
def test_a_certificate_that_is_not_trusted_is_a_failure(stack, tmp_path, certificates, opened):
    """Neither an unknown authority nor another name is accepted; with ca_file the source is read."""
    own, key = f"certfile {certificates.good}", f"keyfile {certificates.good}"
    secure = Broker(tmp_path, "listener {port} 127.0.0.1", own, key)
    stack.callback(secure.close)
    address = f"mqtts://localhost:{secure.port}/t"
    untrusted = failure_of(opened(MqttSource(name="m", mqtt=address)))
    assert (untrusted.reason, "not trusted" in untrusted.why) == ("tls", True)
    missing = failure_of(opened(MqttSource(name="m", mqtt=address, ca_file="missing.pem")))
    assert "missing.pem cannot be read" in missing.why
    plain = failure_of(opened(MqttSource(name="m", mqtt=address.replace("mqtts", "mqtt"), timeout=5)))
    assert plain.reason in ("reset", "timeout")
    assert failure_of(opened(MqttSource(name="m", mqtt=address, ca_file=str(certificates.ca)))) is None


def packets(*answers: bytes):
    """A broker that answers the packets of a client in turn with these bytes, and then says nothing."""

    def talk(connection: servers.Connection) -> None:
        for answer in answers:
            if not connection.sock.recv(65_536):
                return
            connection.send(answer)
        connection.wait()

    return talk


def fake(stack, talk) -> MqttSource:
    server = Server(talk)
    stack.callback(server.close)
    return MqttSource(name="m", mqtt=f"mqtt://{server.netloc}/{TOPIC}", timeout=PATIENCE)


def test_a_refused_topic_is_named(stack, opened):
    """A broker whose access list forbids the topic says so in its answer to the subscription."""
    failed = failure_of(opened(fake(stack, packets(CONNACK_V5, b"\x90\x04\x00\x01\x00\x87"))))
    assert failed == ("subscription", f"the broker refuses the topic {TOPIC}: Not authorized")


@pytest.mark.parametrize("refusal", [b"\x20\x02\x00\x01", b""], ids=["refuses", "closes"])
def test_an_older_broker_is_read(refusal, stack, opened):
    """A broker that does not speak MQTT 5, or ends the connection there, is asked again with MQTT 3.1.1."""
    message = b'\x32\x11\x00\x01t\x00\x07{"id": "old"}'
    message = b"\x32" + bytes([len(message) - 2]) + message[2:]

    def talk(connection: servers.Connection) -> None:
        connect = connection.sock.recv(65_536)
        if connect[8:9] == b"\x05":
            connection.send(refusal)
            return
        connection.send(CONNACK_V3)
        subscribe = connection.sock.recv(65_536)
        connection.send(b"\x90\x03" + subscribe[2:4] + b"\x01")
        connection.send(message)
        connection.server.requests.append(connection.sock.recv(65_536))
        connection.wait()

    server = Server(talk)
    stack.callback(server.close)
    transport, inbox = opened(MqttSource(name="m", mqtt=f"mqtt://{server.netloc}/t", timeout=PATIENCE)), Inbox()
    until(lambda: transport.start(["m"], inbox) or any(poll.answers for poll in inbox.polls))
    write(inbox)
    until(lambda: server.requests)
    assert server.requests == [b"\x40\x02\x00\x07"]


def test_an_older_broker_repeats_no_retained_message(stack, opened):
    """Over MQTT 3.1.1 a subscription that the broker had kept brings retained messages again: they are left out."""

    def talk(connection: servers.Connection) -> None:
        if connection.sock.recv(65_536)[8:9] == b"\x05":
            connection.send(CONNACK_V3[:-1] + b"\x01")
            return
        connection.send(b"\x20\x02\x01\x00")
        subscribe = connection.sock.recv(65_536)
        connection.send(b"\x90\x03" + subscribe[2:4] + b"\x01")
        connection.send(b"\x33\x07\x00\x01t\x00\x07{}" + b"\x32\x07\x00\x01t\x00\x08[]")
        connection.wait()

    server = Server(talk)
    stack.callback(server.close)
    transport = opened(MqttSource(name="m", mqtt=f"mqtt://{server.netloc}/t", timeout=PATIENCE))
    first = poll_all(transport, ["m"]).first("m")
    assert [answer.body for answer in first.answers] == [b"[]"]


def test_a_broker_that_says_nothing_is_a_timeout(stack, opened):
    """A source whose broker accepts the connection only fails at its deadline, and again at once later."""
    transport = opened(msgspec.structs.replace(fake(stack, servers.waits), timeout=DEADLINE))
    assert failure_of(transport).reason == "timeout"
    assert until(lambda: failure_of(transport)).reason == "timeout"


@needs_mosquitto
def test_try_disturbs_no_session(broker, publisher, opened, tmp_path):
    """`etl try` shows a message, and neither takes a running process's session nor its messages."""
    transport = opened(source(broker))
    inbox = poll_all(transport, ["m"])
    site = Site(tmp_path)
    site.save(sources=[{"name": "m", "mqtt": f"{broker.address}/{TOPIC}", "id": "topic[1]"}])
    publisher.repeat()
    shown = site.etl("try", "m")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert '"id":"press-7"' in shown.stdout
    assert broker.log.count("as etl-m ") == 1
    until(lambda: numbers(inbox))
    assert transport.start(["m"], inbox) is None


def test_readings_have_the_moment_of_their_arrival(broker, publisher, opened, tmp_path):
    """`_polled_at` is when the message came, not when the source was polled."""
    moments = iter(range(100, 200))
    transport = opened(source(broker), clock=lambda: float(next(moments)))
    inbox = poll_all(transport, ["m"])
    publisher.send(1)
    until(lambda: numbers(inbox))
    (message,) = (poll for poll in inbox.polls if poll.answers)
    (line,), _ = raw_lines(message, Alive(60.0))
    assert b'"_polled_at":"1970-01-01T00:01:41.000Z"' in line


def test_a_process_without_such_sources_does_not_import_the_library(tmp_path):
    """Neither `etl once` of a file nor the transports of other kinds load paho."""
    script = "import sys, etl.cli.run, etl.cli.once, etl.sources.registry; sys.exit('paho' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path).returncode == 0


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    """`etl check` says which extra is missing."""
    from etl.config import problems  # noqa: PLC0415
    from tests.support.configs import problems_of, written  # noqa: PLC0415

    monkeypatch.setattr(problems.importlib.util, "find_spec", lambda _: None)
    (problem,) = problems_of(written(tmp_path, "sources: [{name: m, mqtt: 'mqtt://broker/t'}]"))
    assert "mqtt needs paho; " in problem
    assert "'.[mqtt]'" in problem
