"""OPC UA against asyncua's server: values and their quality, sessions, logins, certificates, and what goes wrong."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from contextlib import ExitStack

import orjson
import pytest

from etl.config.sources.kinds import KINDS, typed
from etl.sources.advice import failure_hint
from etl.sources.registry import open_transports
from tests.support import servers
from tests.support.http_sources import PATIENCE, Inbox, poll_all
from tests.support.kinds import OpcUaAddress, context
from tests.support.process import until

pytest.importorskip("asyncua")

from tests.support.opcua import (
    NODES,
    PASSWORD,
    USER,
    OpcUaServer,
    Relay,
    make_identity,
)

ALL = ["Boolean", "SByte", "Byte", "Int64", "UInt64", "Double", "String", "DateTime", "Guid", "ByteString",
       "XmlElement", "NodeId", "StatusCode", "QualifiedName", "LocalizedText", "ExtensionObject", "Array", "Matrix",
       "NaN", "Infinite"]  # fmt: skip
TIME = "2026-03-01T12:00:00.250000Z"


def source(name: str, **keys):
    return typed({"name": name, **keys}, KINDS["opcua"])


@pytest.fixture(scope="module")
def server():
    """A server that lives as long as the tests of this file."""
    running = OpcUaServer()
    yield running
    running.close()


@pytest.fixture
def stack(nothing_left):
    """Closes what a test has started."""
    with ExitStack() as started:
        yield started


@pytest.fixture
def relay(server, stack):
    """A relay before the server."""
    between = Relay(server)
    stack.callback(between.close)
    return between


@pytest.fixture
def opened(tmp_path, stack):
    """Open the transport of some sources, given by name with their keys."""

    def build(**sources):
        kinds = [source(name, **keys) for name, keys in sources.items()]
        (transport,) = open_transports(kinds, context(tmp_path), {}).values()
        stack.callback(transport.close)
        return transport

    return build


@pytest.fixture
def started(stack):
    """Start servers with these options."""

    def start(*options: str) -> OpcUaServer:
        running = OpcUaServer(*options)
        stack.callback(running.close)
        return running

    return start


def reading(transport, name: str = "m") -> dict:
    poll = poll_all(transport, [name]).of(name)
    assert poll.failure is None, poll.failure
    return orjson.loads(poll.answers[0].body)


def failure(transport, name: str = "m"):
    return poll_all(transport, [name]).of(name).failure


def test_a_reading_has_the_values_of_its_nodes(server, opened):
    """Each node is a field; a number that has a text is that text, and the source time is the timestamp."""
    expected = {"temperature": 21.1, "fan_speed": 1200, "status": "STARTED", "timestamp": TIME}
    assert reading(opened(m=server.keys)) == expected


def test_every_type_of_value_has_a_form_in_json(server, opened):
    """Integers of 64 bits are exact, bytes base64, times RFC 3339, structures objects; NaN is null with a quality."""
    keys = server.keys | {"nodes": {name: f"ns=2;s={name}" for name in ALL}}
    assert reading(opened(m=keys)) == {
        "Boolean": True,
        "SByte": -5,
        "Byte": 200,
        "Int64": -(1 << 63),
        "UInt64": (1 << 64) - 1,
        "Double": 0.1,
        "String": "läuft",
        "DateTime": TIME,
        "Guid": "00000000-0000-0000-0000-000000000007",
        "ByteString": "AP8=",
        "XmlElement": "<a/>",
        "NodeId": "ns=2;s=x",
        "StatusCode": "BadSensorFailure",
        "QualifiedName": "2:q",
        "LocalizedText": "fertig",
        "ExtensionObject": {"Low": 1.0, "High": 2.0},
        "Array": [1.5, 2.5],
        "Matrix": [[1, 2], [3, 4]],
        "NaN": None,
        "Infinite": None,
        "timestamp": TIME,
        "_quality": {"NaN": "NaN", "Infinite": "-Infinity"},
    }


def test_a_bad_value_is_null_and_an_uncertain_one_kept(server, opened):
    """`_quality` names the status of each value that is not good; an unknown node is such a value, not a failure."""
    nodes = {"good": "ns=2;i=1005", "bad": "ns=2;s=Bad", "uncertain": "ns=2;s=Uncertain", "unknown": "ns=2;s=Gone"}
    values = reading(opened(m=server.keys | {"nodes": nodes}))
    assert [values[name] for name in nodes] == [1200, None, 4.5, None]
    expected = {"bad": "BadSensorFailure", "uncertain": "UncertainLastUsableValue", "unknown": "BadNodeIdUnknown"}
    assert values["_quality"] == expected


def test_only_bad_values_are_a_reading_too(server, opened):
    """The server answers, so that its source is up; `timestamp` is missing where nothing has a source time."""
    values = reading(opened(m=server.keys | {"nodes": {"temperature": "ns=2;s=Gone"}}))
    assert values["temperature"] is None
    assert values["_quality"] == {"temperature": "BadNodeIdUnknown"}


def test_a_number_without_a_text_and_a_field_named_timestamp_stay(server, opened):
    """An unmapped number is written as it is, and a node may be the timestamp."""
    nodes = {"status": {"node": "ns=2;s=Oven.State", "values": {5: "BROKEN"}}, "timestamp": "ns=2;s=String"}
    assert reading(opened(m=server.keys | {"nodes": nodes})) == {"status": 1, "timestamp": "läuft"}


def test_sources_of_a_server_share_a_session_and_a_poll_is_one_request(relay, opened):
    """Two sources poll a server three times: one connection, and a request for each poll."""
    transport = opened(a=relay.keys, b=relay.keys | {"nodes": {"x": "ns=2;i=1005"}})
    poll_all(transport, ["a", "b"])
    before = relay.messages(b"MSGF")
    for _ in range(3):
        poll_all(transport, ["a", "b"])
    assert relay.messages(b"MSGF") - before == 6
    assert relay.connections == 1
    transport.close()
    until(lambda: relay.messages(b"CLOF") == 1, PATIENCE)


@pytest.mark.parametrize("moment", ["between polls", "at a request"])
def test_a_kept_connection_that_is_closed_costs_no_poll(moment, relay, opened):
    """A server that closes a kept connection, also just as it is used again, is connected to again in that poll."""
    transport = opened(m=relay.keys)
    reading(transport)
    if moment == "between polls":
        relay.break_off()
    relay.breaks_at_request = moment == "at a request"
    assert reading(transport)["temperature"] == 21.1
    assert relay.connections == 2


def test_a_channel_is_renewed_before_its_keys_expire(relay, opened):
    """When most of its lifetime is over, the channel of the session is renewed; the session stays."""
    transport = opened(m=relay.keys)
    reading(transport)
    (server,) = transport._servers
    server._session._renew_at = 0.0
    for _ in range(2):
        assert reading(transport)["temperature"] == 21.1
    assert (relay.messages(b"OPNF"), relay.connections) == (2, 1)


def test_a_poll_that_times_out_fails_no_other_of_its_server(relay, opened):
    """The session that a poll in time shares is opened again for it."""
    transport, inbox = opened(m=relay.keys, hasty=relay.keys | {"timeout": "0.3s"}), Inbox()
    reading(transport)
    relay.hold()
    transport.start(["m", "hasty"], inbox)
    inbox.wait(["hasty"])
    relay.release()
    inbox.wait(["m"])
    assert (inbox.of("hasty").failure.reason, inbox.of("m").failure) == ("timeout", None)


def test_a_server_that_stands_still_times_out_and_is_read_again(started, opened):
    """A poll of a kept session ends at its deadline; the next ones open another session."""
    paused = started()
    transport = opened(m=paused.keys | {"timeout": "0.5s"}, slow=paused.keys)
    reading(transport, "slow")
    paused.pause()
    assert failure(transport).reason == "timeout"
    paused.resume()
    assert reading(transport, "slow")["temperature"] == 21.1


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol"),
        (b"MSGF\x20\x00\x00\x00" + bytes(24), "protocol"),
        (b"MSGF\xff\xff\xff\x7f" + bytes(1 << 20), "too_large"),
    ],
    ids=["another protocol", "no message", "an endless message"],
)
def test_garbage_in_a_session_is_a_failure_of_that_poll_alone(garbage, reason, relay, opened):
    """What is no OPC UA, or far too long, ends the connection; the next poll opens another one."""
    transport = opened(m=relay.keys)
    reading(transport)
    relay.answer_with = garbage if reason == "protocol" else garbage * 8
    assert failure(transport).reason == reason
    relay.answer_with = None
    assert reading(transport)["temperature"] == 21.1


def test_another_protocol_on_the_port_is_named(opened, stack):
    """A web server on the port is a failure that says so."""
    web = OpcUaAddress(servers.blurts(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    stack.callback(web.close)
    assert failure(opened(m=web.keys)) == ("protocol", "the answer is not OPC UA")


def test_a_name_that_does_not_resolve_holds_up_nobody(server, opened, resolving):
    """A lookup that hangs ends at the deadline, and the next poll waits for it instead of starting another."""
    resolving()
    hanging = {"opcua": "opc.tcp://machine.example", "nodes": NODES, "timeout": "0.2s"}
    transport, inbox = opened(bad=hanging, m=server.keys), Inbox()
    transport.start(["bad", "m"], inbox)
    inbox.wait(["bad", "m"])
    assert (inbox.of("bad").failure.reason, inbox.of("m").failure) == ("timeout", None)
    assert failure(transport, "bad").reason == "timeout"
    assert len(transport._executor._threads) <= 2


def login(server: OpcUaServer, user: str) -> dict:
    return server.keys | {"opcua": server.address.replace("//", f"//{user}@")}


def test_a_login_is_used_and_a_wrong_one_named_without_it(started, opened, caplog):
    """The failure has the name of the server's refusal, a hint, and neither it nor any log has the password."""
    caplog.set_level(logging.DEBUG)
    guarded = started("--login")
    wrong = login(guarded, f"{USER}:wrong-{PASSWORD}")
    transport = opened(m=login(guarded, f"{USER}:{PASSWORD}"), wrong=wrong, none=guarded.keys)
    assert reading(transport)["temperature"] == 21.1
    refused = failure(transport, "wrong")
    assert (refused.reason, "BadUserAccessDenied" in refused.why) == ("service_fault", True)
    assert "the server refuses this user" in failure_hint(refused, source("wrong", **wrong))
    assert failure(transport, "none").reason == "service_fault"
    assert PASSWORD not in caplog.text + refused.why


@pytest.fixture(scope="module")
def identities(tmp_path_factory):
    """The certificates of the server, of the client, and of somebody else."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command makes the certificates, and is not installed")
    folder = tmp_path_factory.mktemp("identities")
    return {name: make_identity(folder, name) for name in ("server", "client", "somebody")}


@pytest.fixture
def secure(identities, started):
    """A server that takes only Basic256Sha256 with SignAndEncrypt."""
    certificate, key = map(str, identities["server"])
    return started("--certificate", certificate, "--key", key)


def secured(server: OpcUaServer, identities, trusted: str) -> dict:
    certificate, key = map(str, identities["client"])
    trusted = str(identities[trusted].certificate)
    return server.keys | {"certificate": certificate, "private_key": key, "server_certificate": trusted}


def test_a_trusted_server_is_read_encrypted(secure, identities, opened, stack):
    """With certificates the values are read, and nothing of them passes in plain text."""
    relay = Relay(secure)
    stack.callback(relay.close)
    transport = opened(m=secured(secure, identities, "server") | {"opcua": relay.keys["opcua"]})
    assert reading(transport)["temperature"] == 21.1
    assert b"Oven.Temp" not in b"".join(relay.sent)


def test_a_server_with_another_certificate_is_refused(secure, identities, opened):
    """A server whose certificate is not the trusted one is a failure that says so."""
    refused = failure(opened(m=secured(secure, identities, "somebody")))
    assert refused.reason == "tls"
    assert refused.why.startswith("the server shows another certificate than server_certificate")


def test_security_that_a_server_does_not_offer_is_named(secure, server, identities, opened):
    """A server without security is not read with certificates, nor the other way round; both failures say why."""
    transport = opened(plain=secure.keys, encrypted=secured(server, identities, "server"))
    plain, encrypted = failure(transport, "plain"), failure(transport, "encrypted")
    assert (plain.reason, encrypted.reason) == ("tls", "tls")
    assert "takes no session without security; it offers Basic256Sha256 (SignAndEncrypt)" in plain.why
    assert "does not offer Basic256Sha256 with SignAndEncrypt; it offers None (None)" in encrypted.why


def test_a_missing_or_broken_certificate_file_is_named(server, identities, opened, tmp_path):
    """A file that cannot be read, or holds no certificate, fails the poll with its key."""
    (tmp_path / "broken.pem").write_text("-----BEGIN nothing")
    keys = secured(server, identities, "server")
    transport = opened(m=keys | {"private_key": "missing.key"}, broken=keys | {"server_certificate": "broken.pem"})
    assert "the file in private_key cannot be read" in failure(transport).why
    assert failure(transport, "broken").why.startswith("the files in certificate, private_key and server_certificate")


def test_failures_are_not_logged_by_the_library(server, opened, stack, caplog):
    """A poll that fails is delivered, and neither asyncua nor asyncio writes about it."""
    caplog.set_level(logging.DEBUG)
    noise = OpcUaAddress(servers.blurts(bytes(range(256)) * 99))
    stack.callback(noise.close)
    transport = opened(noise=noise.keys, closed={"opcua": "opc.tcp://127.0.0.1:1", "nodes": NODES}, m=server.keys)
    poll_all(transport, ["noise", "closed", "m"])
    transport.close()
    assert [record for record in caplog.records if record.name != "asyncio" or record.levelno > logging.DEBUG] == []


def test_a_process_without_opcua_sources_does_not_import_it(tmp_path):
    """Asyncua is loaded when a source needs it, not before."""
    (tmp_path / "config.yaml").write_text("sources: [{name: m, file: m.json}]")
    script = """if True:
        import sys, time
        from pathlib import Path
        import etl.__main__, etl.cli.run
        from etl.config.load import load
        from etl.sources.contract import Context
        from etl.sources.intake import Intake
        from etl.sources.registry import open_transports
        open_transports(load(Path("config.yaml")).sources, Context(time.time, Intake(), Path(), 5), {})
        sys.exit("asyncua" in sys.modules)
    """
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path).returncode == 0


def test_a_template_numbers_its_address_and_its_nodes():
    """`{n}` runs in the address and in node ids, also of nodes with texts."""
    nodes = {"a": "ns=2;s=Oven{n}.Temp", "b": {"node": "ns=2;i=10{n}", "values": {0: "IDLE"}}}
    template = source("oven-{n}", opcua="opc.tcp://plc-{n}:4840", nodes=nodes, count=2)
    _, second = template.expand()
    assert list(template.mistakes()) == []
    assert (second.name, second.opcua) == ("oven-2", "opc.tcp://plc-2:4840")
    assert [node.node for node in second.fields.values()] == ["ns=2;s=Oven2.Temp", "ns=2;i=102"]
    assert second.fields["b"].values == {0: "IDLE"}
