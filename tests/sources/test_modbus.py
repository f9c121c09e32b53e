"""Modbus TCP: units behind one connection, exceptions, late answers, lost connections."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import orjson
import pytest

from etl.config.sources.kinds import typed
from etl.config.sources.modbus import ModbusSource
from etl.sources.advice import failure_hint
from etl.sources.registry import open_transports
from tests.support.http_sources import PATIENCE, Inbox, poll, poll_all, unused_port
from tests.support.kinds import context
from tests.support.modbus import READING, REGISTERS, ModbusServer, frame, gateway
from tests.support.servers import Connection, deaf

pytest.importorskip("pymodbus", reason="pymodbus is not installed")

DEADLINE_S = 0.3
X = {"x": {"holding": 100}}
"""One register."""


def source(name: str, port: int, **keys) -> ModbusSource:
    """A source of a port, with the one register unless other `registers` are given."""
    entry = {"name": name, "modbus": f"tcp://127.0.0.1:{port}", "registers": X, **keys}
    if "timeout" in entry:
        entry["timeout"] = f"{entry['timeout']}s"
    return typed(entry, ModbusSource)


@pytest.fixture
def opened(tmp_path, nothing_left):
    """Open a transport of these sources; it is closed when the test ends."""
    transports = []

    def build(*sources: ModbusSource):
        transports.extend(open_transports(sources, context(tmp_path), {}).values())
        return transports[-1]

    yield build
    for transport in transports:
        transport.close()


def reading(result) -> dict:
    """The reading of a poll, which has one."""
    assert result.failure is None, result.failure
    (answer,) = result.answers
    return orjson.loads(answer.body)


@pytest.fixture
def device():
    """The server of pymodbus with three units, in a process of its own."""
    server = ModbusServer()
    yield server
    server.close()


def test_a_device_is_read(device, opened):
    """Scaled, float and named registers, a coil and a discrete input of a real server are one reading."""
    transport = opened(source("m", device.port, registers=REGISTERS))
    assert reading(poll(transport, "m")) == READING
    assert reading(poll(transport, "m")) == READING


def test_an_exception_is_a_failure_with_its_name_and_a_hint(device, opened):
    """A register that the device does not have is named, and the hint says how addresses count."""
    entry = source("m", device.port, registers={"temperature": {"holding": 40101}, "status": {"holding": 10}})
    failure = poll(opened(entry), "m").failure
    assert failure == ("exception", "unit 1 answers IllegalDataAddress for temperature (holding 40101)")
    assert "count from 0: a manual's 40101 is holding: 100" in failure_hint(failure, entry)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1, "IllegalFunction"),
        (4, "ServerDeviceFailure"),
        (11, "GatewayTargetDeviceFailedToRespond"),
        (99, "exception 99"),
    ],
)
def test_each_exception_has_a_name_and_a_hint(code, name, serve, opened):
    """The hint is about the exception, also where nobody knows its code."""
    entry = source("m", serve(gateway(lambda *_: code)).port)
    failure = poll(opened(entry), "m").failure
    assert failure == ("exception", f"unit 1 answers {name} for x (holding 100)")
    assert failure_hint(failure, entry)


def test_a_read_that_is_refused_as_a_whole_is_read_in_parts(serve, opened):
    """Registers that a device does not give together are read one by one, from then on without the first attempt."""
    server = serve(gateway(lambda _u, _f, address, count: 2 if count > 1 else [address]))
    transport = opened(source("m", server.port, registers={"a": {"holding": 5}, "b": {"holding": 6}}))
    assert reading(poll(transport, "m")) == {"a": 5, "b": 6}
    assert len(server.requests) == 3
    assert reading(poll(transport, "m")) == {"a": 5, "b": 6}
    assert len(server.requests) == 5


def test_units_share_one_connection(serve, opened):
    """Units behind one gateway are polled in turn over one connection."""
    server = serve(gateway(lambda unit, *_: [unit]))
    transport = opened(*(source(f"u{n}", server.port, unit=n) for n in range(20)))
    inbox = poll_all(transport, [f"u{n}" for n in range(20)])
    assert [reading(inbox.of(f"u{n}"))["x"] for n in range(20)] == [*range(20)]
    assert [request[6] for request in server.requests] == [*range(20)]
    assert server.connections == 1


def test_a_unit_that_hangs_times_no_other_out(serve, opened):
    """Others wait for their turn and answer; from then on the silent unit comes after them."""
    server = serve(gateway(lambda unit, *_: None if unit == 1 else [unit]))
    names = ["u1", "u2", "u3"]
    transport = opened(*(source(name, server.port, unit=int(name[1]), timeout=DEADLINE_S) for name in names))
    inbox = poll_all(transport, names)
    assert inbox.of("u1").failure.reason == "timeout"
    assert [reading(inbox.of(name))["x"] for name in names[1:]] == [2, 3]
    assert inbox.took["u2"] >= DEADLINE_S
    inbox = poll_all(transport, names)
    assert [result.source for result in inbox.polls] == ["u2", "u3", "u1"]
    assert server.connections == 1


def test_a_late_answer_is_nobodys(serve, opened):
    """What a slow unit answers after its deadline is taken neither for the next unit's answer nor for its own next."""
    slow = threading.Event()

    def behave(unit, *_):
        if unit == 1 and not slow.is_set():
            time.sleep(2 * DEADLINE_S)
            slow.set()
            return [111]
        return [unit]

    server = serve(gateway(behave))
    transport = opened(
        source("u1", server.port, unit=1, timeout=DEADLINE_S), source("u2", server.port, unit=2, timeout=PATIENCE)
    )
    inbox = poll_all(transport, ["u1", "u2"])
    assert inbox.of("u1").failure.reason == "timeout"
    assert reading(inbox.of("u2"))["x"] == 2
    assert reading(poll(transport, "u1"))["x"] == 1
    assert server.connections == 1


def test_a_poll_whose_turn_does_not_come_is_busy(serve, opened):
    """A unit behind two that hang is busy and not timed out, and its neighbours' deadlines are their own."""
    server = serve(gateway(lambda unit, *_: None if unit < 3 else [unit]))
    names = ["u1", "u2", "u3"]
    transport = opened(*(source(name, server.port, unit=int(name[1]), timeout=DEADLINE_S) for name in names))
    inbox = poll_all(transport, names)
    assert [inbox.of(name).failure.reason for name in names] == ["timeout", "timeout", "busy"]
    assert inbox.of("u3").failure.why == "other units behind this address took more than 0.45 s"


def test_a_gateway_that_cannot_be_reached_fails_all_of_its_units_at_once(opened):
    """Units do not each wait for a connection that nobody takes."""
    with deaf() as port:
        names = [f"u{n}" for n in range(50)]
        inbox = poll_all(opened(*(source(name, port, unit=1, timeout=DEADLINE_S) for name in names)), names)
    assert {result.failure.reason for result in inbox.polls} == {"timeout"}
    assert inbox.of("u7").failure.why == f"no connection to 127.0.0.1, port {port}, within {DEADLINE_S:g} s"


def test_a_connection_that_the_device_closed_is_made_again(serve, opened):
    """A device that closes idle connections costs no reading."""

    def talk(connection: Connection) -> None:
        request = connection.sock.recv(12, socket.MSG_WAITALL)
        connection.send(frame(int.from_bytes(request[:2], "big"), request[6], request[7], [7]))

    server = serve(talk)
    transport = opened(source("m", server.port))
    for _ in range(3):
        assert reading(poll(transport, "m"))["x"] == 7
        server.wait_until_idle()
    assert server.connections == 3


def test_a_kept_connection_that_ends_at_the_request_is_made_again(serve, opened):
    """A device that has forgotten a kept connection, and says so when it is used, costs no reading either."""

    def talk(connection: Connection) -> None:
        request = connection.sock.recv(12, socket.MSG_WAITALL)
        connection.send(frame(int.from_bytes(request[:2], "big"), request[6], request[7], [7]))
        connection.sock.recv(12, socket.MSG_WAITALL)
        connection.reset()

    server = serve(talk)
    transport = opened(source("m", server.port))
    for _ in range(3):
        assert reading(poll(transport, "m"))["x"] == 7
    assert server.connections == 3


def test_a_connection_that_breaks_off_is_a_failure_at_once(serve, opened):
    """A device that resets the connection instead of answering does not cost the deadline."""

    def talk(connection: Connection) -> None:
        connection.sock.recv(12)
        connection.reset()

    assert poll(opened(source("m", serve(talk).port, timeout=PATIENCE)), "m").failure.reason == "reset"


def test_a_lone_device_that_hangs_gets_a_new_connection(serve, opened):
    """After a timeout the device may have been replaced: its connection is given up."""
    first = threading.Event()

    def behave(*_):
        if not first.is_set():
            first.set()
            return None
        return [7]

    server = serve(gateway(behave))
    transport = opened(source("m", server.port, timeout=DEADLINE_S))
    assert poll(transport, "m").failure.reason == "timeout"
    assert reading(poll(transport, "m"))["x"] == 7
    assert server.connections == 2


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (gateway(lambda *_: []), "it has 0 values, not 1"),
        (lambda connection: connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "its header"),
        (lambda connection: _answer(connection, unit=9), "of another unit"),
        (lambda connection: _answer(connection, function=0x65), "cannot be decoded"),
        (lambda connection: _answer(connection, function=4), "of another function"),
        (lambda connection: _answer(connection, function=4 | 0x80), "of another function"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(talk, why, serve, opened):
    """Answers of other units, functions, lengths and protocols are failures that say what is wrong."""
    failure = poll(opened(source("m", serve(talk).port, timeout=DEADLINE_S)), "m").failure
    assert failure.reason == "protocol"
    assert why in failure.why


def _answer(connection: Connection, unit: int = 1, function: int = 3) -> None:
    request = connection.sock.recv(12, socket.MSG_WAITALL)
    connection.send(frame(int.from_bytes(request[:2], "big"), unit, function, [1]))
    connection.wait()


def test_an_answer_in_pieces_is_read(serve, opened):
    """A device that sends byte by byte is read."""

    def talk(connection: Connection) -> None:
        request = connection.sock.recv(12, socket.MSG_WAITALL)
        connection.drip(frame(int.from_bytes(request[:2], "big"), 1, 3, [7]))

    assert reading(poll(opened(source("m", serve(talk).port)), "m"))["x"] == 7


def test_a_host_without_an_address_is_a_failure(opened):
    """A name that nobody resolves is a failure of the name, for each unit."""
    names = ["a", "b"]
    transport = opened(*(source(name, 502, modbus="tcp://no-such-host.invalid") for name in names))
    assert {result.failure.reason for result in poll_all(transport, names).polls} == {"dns"}


def test_a_receiver_that_fails_loses_its_poll_alone(serve, opened, caplog):
    """An exception of whoever takes a result is logged, and the other units are polled."""
    server = serve(gateway(lambda unit, *_: [unit]))
    transport, inbox = opened(*(source(f"u{n}", server.port, unit=n) for n in (1, 2))), Inbox()

    def refuse(_):
        raise RuntimeError("a broken receiver")

    transport.start(["u1"], refuse)
    transport.start(["u2"], inbox)
    inbox.wait(["u2"])
    assert reading(inbox.of("u2"))["x"] == 2
    assert "The poll of u1 was lost" in caplog.text


def test_a_process_without_modbus_does_not_import_pymodbus(tmp_path):
    """Reading a config with other sources loads no Modbus library; one with Modbus loads none before it polls."""
    config = tmp_path / "config.yaml"
    entry = {"name": "m", "modbus": f"tcp://127.0.0.1:{unused_port()}", "registers": X}
    config.write_bytes(orjson.dumps({"sources": [entry, {"name": "f", "file": "a.json"}]}))
    code = (
        "import sys; from etl.config.load import load; import etl.cli.run, etl.live.pipeline, etl.sources.registry; "
        f"load(__import__('pathlib').Path({str(config)!r})); "
        "print([name for name in sys.modules if name.startswith(('pymodbus', 'etl.sources.modbus'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr
