"""MQTT brokers: logins, certificates, refusals, older ones, other clients, reloads, and what `etl try` does there."""

from __future__ import annotations

import shutil
import subprocess
import sys

import msgspec
import pytest

from etl.config.sources.mqtt import MqttSource
from tests.support import servers
from tests.support.brokers import (
    MOSQUITTO,
    TOPIC,
    Broker,
    end,
    failure_of,
    needs_mosquitto,
    numbers,
    source,
    write,
)
from tests.support.http_sources import DEADLINE, PATIENCE, SECRET, Inbox, poll_all
from tests.support.process import Site
from tests.support.process import until as until_within
from tests.support.servers import Server

pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")


CONNACK_V5 = b"\x20\x03\x00\x00\x00"
CONNACK_V3 = b"\x20\x02\x00\x00"


def until(condition):
    """Wait until a condition holds."""
    return until_within(condition, PATIENCE)


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


def test_messages_of_another_subscription_are_left_out(broker, publisher, subscribed, caplog):
    """A topic that was changed stays subscribed in the session: its messages are acknowledged, and the log says so."""
    first = subscribed(source(broker, "hall/#"))
    poll_all(first, ["m"])
    end(first)
    inbox = poll_all(subscribed(source(broker)), ["m"])
    publisher.send(25, topic="hall/press-8")
    sent = publisher.send(25)
    while numbers(inbox) != sent:
        write(inbox)
    assert caplog.text.count("the session etl-m has another subscription") == 1


def test_a_client_with_the_same_id_is_named(broker, publisher, subscribed):
    """The source whose session another client takes over fails with that reason."""
    first, second = subscribed(source(broker)), subscribed(source(broker))
    poll_all(first, ["m"])
    poll_all(second, ["m"])
    until(lambda: "taken_over" in [failure.reason for failure in map(failure_of, (first, second)) if failure])


def test_a_broker_that_names_its_reason_is_quoted(stack, subscribed):
    """What the broker says as it ends the connection is the failure of the next poll."""
    transport = subscribed(fake(stack, packets(CONNACK_V5, b"\x90\x04\x00\x01\x00\x01\xe0\x01\x8e")))
    assert until(lambda: failure_of(transport)).reason == "taken_over"
    transport = subscribed(fake(stack, packets(CONNACK_V5, b"\x90\x04\x00\x01\x00\x01\xe0\x01\x8b")))
    assert until(lambda: failure_of(transport)).why == "the broker ends the connection: server shutting down"


def test_a_wrong_password_is_named(stack, tmp_path, subscribed):
    """The failure says that the broker refuses the login, and shows no password; the right one is accepted."""
    passwords = tmp_path / "passwords"
    tool = shutil.which("mosquitto_passwd")
    if not MOSQUITTO or not tool:
        pytest.skip("no mosquitto here (Debian: mosquitto)")
    subprocess.run([tool, "-b", "-c", str(passwords), "etl", SECRET], check=True)
    guarded = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    stack.callback(guarded.close)
    host = guarded.address.removeprefix("mqtt://")
    refused = failure_of(subscribed(MqttSource(name="m", mqtt=f"mqtt://etl:wr0ng@{host}/t")))
    assert refused.reason == "login"
    assert "wr0ng" not in refused.why
    assert failure_of(subscribed(MqttSource(name="m", mqtt=f"mqtt://{host}/t"))).reason == "login"
    assert failure_of(subscribed(MqttSource(name="m", mqtt=f"mqtt://etl:{SECRET}@{host}/t"))) is None


@needs_mosquitto
def test_a_certificate_that_is_not_trusted_is_a_failure(stack, tmp_path, certificates, subscribed):
    """Neither an unknown authority nor another name is accepted; with ca_file the source is read."""
    own, key = f"certfile {certificates.good}", f"keyfile {certificates.good}"
    secure = Broker(tmp_path, "listener {port} 127.0.0.1", own, key)
    stack.callback(secure.close)
    address = f"mqtts://localhost:{secure.port}/t"
    untrusted = failure_of(subscribed(MqttSource(name="m", mqtt=address)))
    assert (untrusted.reason, "not trusted" in untrusted.why) == ("tls", True)
    missing = failure_of(subscribed(MqttSource(name="m", mqtt=address, ca_file="missing.pem")))
    assert "missing.pem cannot be read" in missing.why
    plain = failure_of(subscribed(MqttSource(name="m", mqtt=address.replace("mqtts", "mqtt"), timeout=5)))
    assert plain.reason in ("reset", "timeout")
    assert failure_of(subscribed(MqttSource(name="m", mqtt=address, ca_file=str(certificates.ca)))) is None


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


def test_a_refused_topic_is_named(stack, subscribed):
    """A broker whose access list forbids the topic says so in its answer to the subscription."""
    failed = failure_of(subscribed(fake(stack, packets(CONNACK_V5, b"\x90\x04\x00\x01\x00\x87"))))
    assert failed == ("subscription", f"the broker refuses the topic {TOPIC}: Not authorized")


@pytest.mark.parametrize("refusal", [b"\x20\x02\x00\x01", b""], ids=["refuses", "closes"])
def test_an_older_broker_is_read(refusal, stack, subscribed):
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
    transport, inbox = subscribed(MqttSource(name="m", mqtt=f"mqtt://{server.netloc}/t", timeout=PATIENCE)), Inbox()
    until(lambda: transport.start(["m"], inbox) or any(poll.answers for poll in inbox.polls))
    write(inbox)
    until(lambda: server.requests)
    assert server.requests == [b"\x40\x02\x00\x07"]


def test_an_older_broker_repeats_no_retained_message(stack, subscribed):
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
    transport = subscribed(MqttSource(name="m", mqtt=f"mqtt://{server.netloc}/t", timeout=PATIENCE))
    first = poll_all(transport, ["m"]).first("m")
    assert [answer.body for answer in first.answers] == [b"[]"]


def test_a_broker_that_says_nothing_is_a_timeout(stack, subscribed):
    """A source whose broker accepts the connection only fails at its deadline, and again at once later."""
    transport = subscribed(msgspec.structs.replace(fake(stack, servers.waits), timeout=DEADLINE))
    assert failure_of(transport).reason == "timeout"
    assert until(lambda: failure_of(transport)).reason == "timeout"


@needs_mosquitto
def test_try_disturbs_no_session(broker, publisher, subscribed, tmp_path):
    """`etl try` shows a message, and neither takes a running process's session nor its messages."""
    transport = subscribed(source(broker))
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
