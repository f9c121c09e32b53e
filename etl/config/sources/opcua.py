"""`opcua`: an OPC UA server, of which some nodes are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

import msgspec
from msgspec import Meta

from etl.config.addresses import is_url
from etl.config.sources.base import Mistake, Source

DEFAULT_PORT = 4840
SECURITY = ("certificate", "private_key", "server_certificate")
"""The keys that together choose Basic256Sha256 with SignAndEncrypt."""
_SCHEME = re.compile(r"opc\.tcp://", re.IGNORECASE)
_GUID = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_NODE_ID = re.compile(
    rf"(ns=[0-9]{{1,5}};)?(i=[0-9]{{1,10}}|s=.+|g={_GUID}|b=([A-Za-z0-9+/]{{4}})*([A-Za-z0-9+/]{{2}}[A-Za-z0-9+/=]=)?)"
)
_NODE_HINT = "write the node id as the server lists it, such as ns=2;s=Oven.Temp or ns=2;i=1005"
_ADDRESS_HINT = "write an opc.tcp:// address, such as opc.tcp://plc-1:4840"
_LOGIN = "write it into opcua, opc.tcp://user:password@plc-1:4840, the password as a variable: ${PLC_PASSWORD}"
_TRUST = "let the server trust the file in certificate; many servers list it as rejected first"
_NO_SECURITY = "set certificate, private_key and server_certificate, or let the server offer security None"
_ADVICE = {
    "another certificate": "if the server's own is new, save it as the file in server_certificate",
    "without security": _NO_SECURITY,
    "does not offer": "let the server offer it, or leave out the three certificate keys",
    "BadNodeIdUnknown": "the server has no such node: compare nodes with its address space; an ns= may have changed",
    "BadNodeIdInvalid": _NODE_HINT,
    "BadNotReadable": "the server lets nobody, or not this user, read this node",
    "BadAttributeIdInvalid": "this node has no value: name a variable, not a folder or an object",
    "BadUserAccessDenied": "the server refuses this user: compare the login in opcua, and what the user may read",
    "BadIdentityToken": "the server refuses this login: write user and password into opcua, or leave them out",
    "BadCertificateUriInvalid": "the certificate needs its application URI as a subject alternative name",
    "BadCertificate": _TRUST,
    "BadSecurityChecksFailed": _TRUST,
    "BadSecurityPolicyRejected": _NO_SECURITY,
    "BadSecurityModeRejected": _NO_SECURITY,
    "BadTooManySessions": "end other clients of the server: it takes no further session",
    "BadTooManyOperations": "name fewer nodes in one source: the server reads only so many at once",
    "BadTcpEndpointUrlInvalid": "the server has no endpoint at this path: compare opcua with its manual",
    "tls": "compare certificate, private_key and server_certificate with the server's own certificate and settings",
    "protocol": "does the server speak opc.tcp on this port?",
    "reset": "the server closed the connection: does it speak opc.tcp on this port, and has it room for a session?",
    "service_fault": "look the name up in the server's manual and its log",
}


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node, and the texts that stand for its numbers."""

    hints: ClassVar[dict[str, str]] = {
        "node": _NODE_HINT,
        "values": "write the text for each number, such as {0: IDLE, 1: STARTED}",
    }

    node: str
    values: dict[int, str] = msgspec.field(default_factory=dict)


class OpcUaSource(Source, frozen=True, kw_only=True):
    """A machine, or a gateway to one, that is an OPC UA server."""

    key = "opcua"
    label = "an opc.tcp:// address"
    schemes = ("opc.tcp",)
    templates = ("opcua",)
    paths = SECURITY
    package, extra = "asyncua", "opcua"
    hints = Source.hints | {
        "opcua": _ADDRESS_HINT,
        "nodes": "write a field of the reading and its node id on each line, such as temperature: ns=2;s=Oven.Temp",
        "certificate": "write the path of this program's certificate, PEM or DER",
        "private_key": "write the path of the private key of certificate, PEM or DER, without a password",
        "server_certificate": "write the path of the server's certificate, the one to trust, PEM or DER",
    }
    unknown_key_hints: ClassVar[dict[str, str]] = {
        "user(_?name)?|pass(word|wd)?|login|auth(entication)?|credentials": _LOGIN,
        "node(_?ids?)?|tags?|variables?|items?": "did you mean nodes?",
        "security(_?(policy|mode))?|policy|mode": (
            "certificate, private_key and server_certificate choose Basic256Sha256 with SignAndEncrypt; "
            "without them there is no security"
        ),
        "endpoint|host(name)?|port|address": "write it into opcua:, such as opc.tcp://plc-1:4840",
        "key(_?file)?": "did you mean private_key?",
        "cert(_?file)?": "did you mean certificate?",
        "ca_file|trusted?|server_cert": "did you mean server_certificate?",
        "namespace|ns": "write it into each node id, such as ns=2;s=Oven.Temp",
    }

    opcua: str
    nodes: Annotated[dict[str, str | Node], Meta(min_length=1)]
    certificate: Annotated[str, Meta(min_length=1)] | None = None
    private_key: Annotated[str, Meta(min_length=1)] | None = None
    server_certificate: Annotated[str, Meta(min_length=1)] | None = None

    @property
    def fields(self) -> dict[str, Node]:
        """The node of each field of the reading."""
        return {name: node if isinstance(node, Node) else Node(node=node) for name, node in self.nodes.items()}

    @property
    def advice(self) -> dict[str, str]:
        """What to do about a failed poll, and about the quality of a value."""
        return _ADVICE

    def numbered(self, n: int) -> Self:
        """The source that this entry stands for at one number of `{n}`, which its node ids may have too."""
        nodes = {
            name: msgspec.structs.replace(node, node=node.node.replace("{n}", str(n)))
            for name, node in self.fields.items()
        }
        return msgspec.structs.replace(super().numbered(n), nodes=nodes)

    def mistakes(self) -> Iterator[Mistake]:
        """Why the source cannot be polled: its address, its nodes, its certificates."""
        yield from self.address_mistakes(_address_problem)
        yield from self._node_mistakes()
        missing = [key for key in SECURITY if getattr(self, key) is None]
        if given := [key for key in SECURITY if key not in missing]:
            for key in missing:
                yield Mistake((given[0],), f"source {self.name} has {given[0]}, but no {key}", self.hints[key])

    def _node_mistakes(self) -> Iterator[Mistake]:
        for name, node in self.fields.items():
            path = ("nodes", name) if isinstance(self.nodes[name], str) else ("nodes", name, "node")
            if name.startswith("_") or not name.isprintable() or not name.strip():
                hint = "write a name for the field; names that begin with _ belong to this program"
                yield Mistake(("nodes", name), f"{name} cannot be a field of the reading", hint)
            if "{n}" in node.node and not self.count:
                yield Mistake(path, f"{name} in nodes has {{n}}, but the source has no count", self.hints["count"])
            if not _NODE_ID.fullmatch(node.node.replace("{n}", "1")) or not node.node.isprintable():
                yield Mistake(path, f"{name} in nodes is not a node id", _node_hint(node.node))


def _node_hint(node: str) -> str:
    """What to write instead of a text that is no node id."""
    if node.startswith("nsu="):
        return "write ns= and the index of this namespace, which the server's NamespaceArray (i=2255) lists from 0"
    if re.fullmatch(r"ns=[0-9]+;[^=]+", node):
        return "write s= before a name, i= before a number, such as ns=2;s=Oven.Temp"
    return _NODE_HINT


def _address_problem(address: str) -> tuple[str, str] | None:
    """Why an address cannot be polled, and what to write instead; None if it can."""
    scheme = _SCHEME.match(address)
    if not scheme:
        return "it has no opc.tcp://", _ADDRESS_HINT
    if not is_url(f"http://{address[scheme.end() :]}"):
        hint = "write opc.tcp://plc-1:4840, and in a login %40 for @, %2F for /, %3A for :"
        return "its host, port or login cannot be read", hint
    return None
