"""OPC UA servers of asyncua: `python -m tests.support.opcua_server PORT...`, all with the same nodes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import uuid

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.binary_server_asyncio import BinaryServer
from asyncua.server.user_managers import UserManager

from tests.support.opcua import MEASURED_AT, PASSWORD, USER


class Operators(UserManager):
    """Lets one user in."""

    def get_user(self, iserver, username=None, password=None, certificate=None):
        return User(UserRole.User) if (username, password) == (USER, PASSWORD) else None


async def serve(ports: list[int], options: argparse.Namespace) -> None:
    """Serve the same nodes on each port until the process is killed."""
    server = await _server(ports[0], options)
    await server.start()
    listeners = [BinaryServer(server.iserver, "127.0.0.1", port, server.limits) for port in ports[1:]]
    for listener in listeners:
        listener.set_policies(server._policies)
        await listener.start()
    if options.ready:
        print("ready", flush=True)
    await asyncio.Event().wait()


async def _server(port: int, options: argparse.Namespace):
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
    logging.disable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--login", action="store_true", help="take only USER with PASSWORD")
    parser.add_argument("--certificate", help="take only Basic256Sha256 with SignAndEncrypt")
    parser.add_argument("--key", help="the private key of the certificate")
    parser.add_argument("--ready", action="store_true", help="print a line when all servers listen")
    options = parser.parse_args()
    asyncio.run(serve(options.ports, options))


if __name__ == "__main__":
    main()
