"""OPC UA servers in processes of their own, a relay before one, and their certificates."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.support.http_sources import unused_port
from tests.support.process import HANG_S, until
from tests.support.servers import Connection, Server

NODES = {
    "temperature": "ns=2;s=Oven.Temp",
    "fan_speed": "ns=2;i=1005",
    "status": {"node": "ns=2;s=Oven.State", "values": {0: "IDLE", 1: "STARTED"}},
}
USER, PASSWORD = "operator", "s3cret-password"
MEASURED_AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)
"""The source time of the nodes."""
ROOT = Path(__file__).parent.parent.parent


class Identity(NamedTuple):
    """Files of a certificate and its private key."""

    certificate: Path
    key: Path


class OpcUaServer:
    """A server in a process of its own; `options` are those of the module."""

    def __init__(self, *options: str, **keys: str) -> None:
        self.port = unused_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"opc.tcp://127.0.0.1:{self.port}"
        self.keys = {"opcua": self.address, "nodes": NODES, **keys}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.opcua_server", str(self.port), *self._options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, HANG_S)

    def stop(self) -> None:
        """Kill the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    close = stop

    def pause(self) -> None:
        """Let the process stand still: connections stay, and nothing is answered."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def _listens(self) -> bool:
        assert self._process.poll() is None, "the server has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


def make_identity(folder: Path, name: str) -> Identity:
    """A self-signed certificate with an application URI, as OPC UA wants it, and its key."""
    identity = Identity(folder / f"{name}.pem", folder / f"{name}-key.pem")
    usage = "digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment"
    extensions = [f"subjectAltName=URI:urn:{name},IP:127.0.0.1", f"keyUsage={usage}"]
    extensions.append("extendedKeyUsage=serverAuth,clientAuth")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", identity.key, "-out",
         identity.certificate, "-subj", f"/CN={name}", *(part for text in extensions for part in ("-addext", text))],
        check=True, capture_output=True, timeout=HANG_S,
    )  # fmt: skip
    return identity


class Relay:
    """A port before a server that counts connections and messages, and can break or garble what passes."""

    def __init__(self, server: OpcUaServer) -> None:
        self._server = server
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self.breaks_at_request = False
        """Whether the connection of the next request ends instead of passing it on."""
        self._passes = threading.Event()
        self._passes.set()
        self._listener = Server(self._talk)
        self.sent: list[bytes] = []
        """What clients have sent, in pieces."""
        self.answer_with: bytes | None = None
        """What clients get instead of the next answers."""
        self.keys = server.keys | {"opcua": f"opc.tcp://127.0.0.1:{self._listener.port}"}

    @property
    def connections(self) -> int:
        return self._listener.connections

    def messages(self, kind: bytes) -> int:
        """How many messages of a kind, such as b"MSGF", clients have sent."""
        return b"".join(self.sent).count(kind)

    def hold(self) -> None:
        """Pass nothing on until `release`."""
        self._passes.clear()

    def release(self) -> None:
        self._passes.set()

    def break_off(self) -> None:
        """Close all connections."""
        for link in self._links:
            for sock in link:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._listener.wait_until_idle()

    def close(self) -> None:
        self.break_off()
        self._listener.close()

    def _talk(self, connection: Connection) -> None:
        with socket.create_connection(("127.0.0.1", self._server.port)) as upstream:
            self._links.append((connection.sock, upstream))
            while True:
                readable, _, _ = select.select([connection.sock, upstream], [], [])
                self._passes.wait(HANG_S)
                for sock in readable:
                    data = sock.recv(65536)
                    if not data or (self.breaks_at_request and sock is not upstream):
                        self.breaks_at_request = False
                        return
                    if sock is upstream:
                        connection.send(data if self.answer_with is None else self.answer_with)
                    else:
                        self.sent.append(data)
                        upstream.sendall(data)
