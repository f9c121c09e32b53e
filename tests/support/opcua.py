"""An OPC UA server, asyncua's, in a process of its own: `python -m tests.support.opcua PORT`."""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.support.http_sources import unused_port
from tests.support.process import HANG_S, until

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
        self._port = unused_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"opc.tcp://127.0.0.1:{self._port}"
        self.keys = {"opcua": self.address, "nodes": NODES, **keys}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.opcua", str(self._port), *self._options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, HANG_S)

    def stop(self) -> None:
        """Kill the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    close = stop

    def _listens(self) -> bool:
        assert self._process.poll() is None, "the server has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
            return True
        return False


def make_identity(folder: Path, name: str) -> Identity:
    """A self-signed certificate with an application URI, as OPC UA wants it, and its key."""
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key")
    usage = "digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment"
    extensions = [f"subjectAltName=URI:urn:{name},IP:127.0.0.1", f"keyUsage={usage}"]
    extensions.append("extendedKeyUsage=serverAuth,clientAuth")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", identity.key, "-out",
         identity.certificate, "-subj", f"/CN={name}", *(part for text in extensions for part in ("-addext", text))],
        check=True, capture_output=True, timeout=HANG_S,
    )  # fmt: skip
    return identity


async def serve(ports: list[int], options: argparse.Namespace) -> None:
    """Serve the same nodes on each port until the process is killed."""
    from asyncua import ua

    servers = [await _server(port, options) for port in ports]
    for server in servers:
        await server.start()
    if options.ready:
        print("ready", flush=True)
    value = 0
    while True:
        await asyncio.sleep(1)
        value += 1
        for server in servers if options.changing else ():
            node = server.get_node("ns=2;s=Oven.Temp")
            await node.write_value(ua.DataValue(ua.Variant(20.0 + value % 10, ua.VariantType.Float)))


async def _server(port: int, options: argparse.Namespace):
    from asyncua import Server, ua
    from asyncua.crypto.permission_rules import User, UserRole
    from asyncua.server.user_managers import UserManager

    class Operators(UserManager):
        def get_user(self, iserver, username=None, password=None, certificate=None):
            return User(UserRole.User) if (username, password) == (USER, PASSWORD) else None

    server = Server(user_manager=Operators() if options.login else None)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    policy = ua.SecurityPolicyType
    if options.certificate:
        server.set_security_policy([policy.Basic256Sha256_SignAndEncrypt])
        await server.load_certificate(options.certificate)
        await server.load_private_key(options.key)
    else:
        server.set_security_policy([policy.NoSecurity])
    await server.register_namespace("urn:plant")
    for name, node, value, status in _variables():
        variable = await server.nodes.objects.add_variable(ua.NodeId.from_string(node), name, value)
        stamped = ua.DataValue(value, ua.StatusCode(status), SourceTimestamp=MEASURED_AT)
        await variable.write_value(stamped)
    return server


def _variables():
    """The name, node id, value and status of each node."""
    from asyncua import ua

    kind, code = ua.VariantType, ua.StatusCodes
    yield "Temp", "ns=2;s=Oven.Temp", ua.Variant(21.1, kind.Float), code.Good
    yield "Fan", "ns=2;i=1005", ua.Variant(1200, kind.UInt16), code.Good
    yield "State", "ns=2;s=Oven.State", ua.Variant(1, kind.Int32), code.Good
    yield "Bad", "ns=2;s=Bad", ua.Variant(3.5), code.BadSensorFailure
    yield "Uncertain", "ns=2;s=Uncertain", ua.Variant(4.5), code.UncertainLastUsableValue
    values = {
        "Boolean": True,
        "SByte": -5,
        "Byte": 200,
        "Int64": -(1 << 63),
        "UInt64": (1 << 64) - 1,
        "Double": 0.1,
        "String": "läuft",
        "DateTime": MEASURED_AT,
        "Guid": uuid.UUID(int=7),
        "ByteString": b"\x00\xff",
        "XmlElement": ua.XmlElement("<a/>"),
        "NodeId": ua.NodeId("x", 2),
        "StatusCode": ua.StatusCode(code.BadSensorFailure),
        "QualifiedName": ua.QualifiedName("q", 2),
        "LocalizedText": ua.LocalizedText("fertig", "de"),
        "ExtensionObject": ua.Range(1.0, 2.0),
    }
    for name, value in values.items():
        yield name, f"ns=2;s={name}", ua.Variant(value, kind[name]), code.Good
    yield "Array", "ns=2;s=Array", ua.Variant([1.5, 2.5], kind.Float), code.Good
    yield "Matrix", "ns=2;s=Matrix", ua.Variant([[1, 2], [3, 4]], kind.Int16), code.Good
    for name, number in (("NaN", float("nan")), ("Infinite", float("-inf"))):
        yield name, f"ns=2;s={name}", ua.Variant(number, kind.Double), code.Good


def main() -> None:
    import logging

    logging.disable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--login", action="store_true", help="take only USER with PASSWORD")
    parser.add_argument("--certificate", help="take only Basic256Sha256 with SignAndEncrypt")
    parser.add_argument("--key", help="the private key of the certificate")
    parser.add_argument("--ready", action="store_true", help="print a line when all servers listen")
    parser.add_argument("--changing", action="store_true", help="write another temperature each second")
    options = parser.parse_args()
    asyncio.run(serve(options.ports, options))


if __name__ == "__main__":
    main()
