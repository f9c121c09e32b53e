"""The kinds of source that tests/sources/test_kinds.py runs over, each with machines that answer, hang or fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from etl.sources.contract import Context
from etl.sources.intake import Intake
from tests.support import servers
from tests.support.brokers import MOSQUITTO, TOPIC, Broker, Publisher
from tests.support.http_sources import PATIENCE, Curl, unused_port
from tests.support.modbus import REGISTERS, ModbusServer
from tests.support.opcua import NODES, OpcUaServer
from tests.support.servers import READING, Server, Talk


class Machine(Protocol):
    """What a source polls. It runs at first; `close` frees what it holds, running or not."""

    keys: dict[str, Any]
    """The keys of its source in the config, beside `name`."""

    def stop(self) -> None: ...

    def start(self) -> None:
        """Run again, at the same address."""

    def close(self) -> None: ...


class Kind(NamedTuple):
    """A kind of source: `settings` of the config, and its machines by what they do, each made in a folder.

    Each kind has a machine that `answers`, with a number as `temperature`, and some that `refuses`, answers `garbage`,
    or `hangs`.
    """

    settings: dict[str, Any]
    machines: Mapping[str, Callable[[Path], Machine]]
    sends: bool = False
    """Whether the machines send readings on their own: a poll may have none, and there may be several."""


class Web:
    """A machine behind HTTP."""

    def __init__(self, talk: Talk | None) -> None:
        self._talk = talk
        self._server = Server(talk)
        self.keys = {"url": self._server.url}

    def stop(self) -> None:
        self._server.close()

    def start(self) -> None:
        self._server = Server(self._talk, port=self._server.port)

    close = stop


class OpcUaAddress(Web):
    """An address where something else than an OPC UA server answers."""

    def __init__(self, talk: Talk) -> None:
        super().__init__(talk)
        self.keys = {"opcua": f"opc.tcp://127.0.0.1:{self._server.port}", "nodes": NODES}


class ModbusAddress(Web):
    """An address where something else than a Modbus device answers."""

    def __init__(self, talk: Talk) -> None:
        super().__init__(talk)
        self.keys = {"modbus": f"tcp://127.0.0.1:{self._server.port}", "registers": REGISTERS}


class Nobody:
    """An address where nothing is."""

    def __init__(self, **keys: Any) -> None:
        self.keys = keys

    def stop(self) -> None: ...

    start = close = stop


class File:
    """A machine that writes a file."""

    def __init__(self, folder: Path, name: str, content: bytes) -> None:
        self._path, self._content = folder / name, content
        self.keys = {"file": str(self._path)}
        self.start()

    def stop(self) -> None:
        self._path.unlink()

    def start(self) -> None:
        self._path.write_bytes(self._content)

    def close(self) -> None: ...


class Published:
    """A machine that publishes to a broker of its own: readings, or what it is told to."""

    def __init__(self, folder: Path, payload: bytes | None = None) -> None:
        self._broker = Broker(folder)
        self._publisher = Publisher(self._broker)
        self._publisher.repeat(payload)
        self.keys = {"mqtt": f"{self._broker.address}/{TOPIC}"}
        self.stop, self.start = self._broker.stop, self._broker.start

    def close(self) -> None:
        self._publisher.close()
        self._broker.close()


class SilentBroker(Web):
    """Accepts connections and says nothing."""

    def __init__(self) -> None:
        super().__init__(servers.waits)
        self.keys = {"mqtt": self.keys["url"].replace("http:", "mqtt:").rstrip("/") + f"/{TOPIC}"}


_WEB = {
    "answers": lambda _: Web(servers.good),
    "refuses": lambda _: Nobody(url=f"http://127.0.0.1:{unused_port()}/data"),
    "garbage": lambda _: Web(servers.blurts(bytes(range(256)) * 99)),
    "hangs": lambda _: Web(servers.waits),
}
KINDS = {
    "requests": Kind({"transport": "requests"}, _WEB),
    "file": Kind(
        {},
        {
            "answers": lambda folder: File(folder, "answers.json", READING),
            "refuses": lambda _: Nobody(file="missing.json"),
            "garbage": lambda folder: File(folder, "garbage.json", b"[1, 2"),
        },
    ),
}
"""Followed files have tests of their own: test_following.py."""
if find_spec("asyncua"):
    KINDS["opcua"] = Kind(
        {},
        {
            "answers": lambda _: OpcUaServer(),
            "refuses": lambda _: Nobody(opcua=f"opc.tcp://127.0.0.1:{unused_port()}", nodes=NODES),
            "garbage": lambda _: OpcUaAddress(servers.blurts(bytes(range(256)) * 99)),
            "hangs": lambda _: OpcUaAddress(servers.waits),
        },
    )
if find_spec("pymodbus"):
    KINDS["modbus"] = Kind(
        {},
        {
            "answers": lambda _: ModbusServer(),
            "refuses": lambda _: Nobody(modbus=f"tcp://127.0.0.1:{unused_port()}", registers=REGISTERS),
            "garbage": lambda _: ModbusAddress(servers.blurts(bytes(range(256)) * 99)),
            "hangs": lambda _: ModbusAddress(servers.waits),
        },
    )
if MOSQUITTO and find_spec("paho"):  # the extra `mqtt` is installed
    KINDS["mqtt"] = Kind(
        {},
        {
            "answers": Published,
            "refuses": lambda _: Nobody(mqtt=f"mqtt://127.0.0.1:{unused_port()}/{TOPIC}"),
            "garbage": lambda folder: Published(folder, b"[1, 2"),
            "hangs": lambda _: SilentBroker(),
        },
        sends=True,
    )
if Curl:
    KINDS["curl"] = Kind({"transport": "curl"}, _WEB)


def context(folder: Path, **settings) -> Context:
    """What a transport is opened with; `settings` replace the defaults."""
    return Context(time.time, Intake(), folder, PATIENCE)._replace(**settings)
