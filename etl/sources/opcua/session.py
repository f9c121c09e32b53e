"""A session of an OPC UA server: the connection from the handshake to the last answer."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from asyncua import Client, ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256, SecurityPolicyNone
from asyncua.crypto.uacrypto import CertProperties
from asyncua.ua.ua_binary import struct_from_binary
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from etl.readings.records import Failure
from etl.readings.text import clipped
from etl.sources.contract import AGENT, MAX_BODY_BYTES, MAX_OVERHEAD_BYTES, TOO_LARGE
from etl.sources.opcua.failures import FailedError

REQUEST_TIMEOUT_S = 86_400.0
"""The deadline of asyncua for a request; that of the poll is always earlier."""
SESSION_TIMEOUT_MS = 120_000
"""How long a server keeps a session that nobody uses: servers have room for few, and a process may be killed."""
RENEW_AFTER = 0.75
"""The part of the lifetime of a channel after which it is renewed, as OPC UA Part 4 says."""
CLOSE_S = 0.5
"""How long a server may take to confirm the end of a session."""
_KINDS = (b"MSG", b"ACK", b"OPN", b"ERR", b"CLO")
"""What a message begins with; anything else would be taken for the length of a message, and waited for."""
_SIGN_AND_ENCRYPT = ua.MessageSecurityMode.SignAndEncrypt
_NONE = ua.MessageSecurityMode.None_


@dataclass(frozen=True)
class Access:
    """How a server is reached. Sources that agree in it share a session.

    `address` has no login. `certificate`, `private_key` and `server_certificate` are paths of files, all or none.
    """

    address: str
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    certificate: str = ""
    private_key: str = ""
    server_certificate: str = ""


class Prepared(NamedTuple):
    """What is looked up before a connection: IP addresses, and the contents of the certificate files."""

    addresses: list[str]
    files: tuple[bytes, ...]


def prepare(access: Access) -> Prepared:
    """Resolve the host and read the files; blocks.

    Raises:
        OSError, UnicodeError: the host cannot be resolved.
        FailedError: a file cannot be read.

    """
    files = []
    for key in ("certificate", "private_key", "server_certificate") if access.certificate else ():
        path = getattr(access, key)
        try:
            with open(path, "rb") as file:
                files.append(file.read(MAX_BODY_BYTES))
        except OSError as error:
            why = f"the file in {key} cannot be read: {clipped(path, 200)} ({error.strerror})"
            raise FailedError(Failure("tls", why)) from error
    found = socket.getaddrinfo(access.host, access.port, type=socket.SOCK_STREAM)
    return Prepared(list(dict.fromkeys(str(entry[4][0]) for entry in found)), tuple(files))


class _Protocol(UASocketProtocol):
    """Ends the connection if what comes is no OPC UA, or more than a reading has."""

    received_bytes = 0
    failure: Failure | None = None

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if not self.receive_buffer and not any(kind.startswith(data[:3]) for kind in _KINDS):
            self.fail(Failure("protocol", "the answer is not OPC UA"))
        elif self.received_bytes > MAX_BODY_BYTES + MAX_OVERHEAD_BYTES:
            self.fail(TOO_LARGE)
        else:
            super().data_received(data)

    def disconnect_socket(self) -> None:
        """Called by asyncua when it cannot decode a message."""
        self.fail(Failure("protocol", "the answer is not proper OPC UA"))

    def fail(self, failure: Failure) -> None:
        """Close the connection because of what came from it."""
        self.failure = self.failure or failure
        self.abort()

    def abort(self) -> None:
        """Close the connection without waiting."""
        if self.transport:
            self.transport.abort()


class Session:
    """An open session. `is_ended` says that this side ends it, because of another poll."""

    def __init__(self, client: Client, protocol: _Protocol) -> None:
        self._client = client
        self._protocol = protocol
        self.is_ended = False
        self._renew_at = 0.0
        self._set_renewal()

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as this side can tell."""
        return not self._protocol.is_closed

    async def read(self, parameters: ua.ReadParameters) -> Sequence[ua.DataValue]:
        """Read nodes by one call of the service Read.

        Raises:
            ua.UaStatusCodeError: the server refuses the call.
            FailedError: the connection ended because of what the server sent.
            ConnectionError: the connection ended.

        """
        self._protocol.received_bytes = 0
        try:
            answer = await self._protocol.send_request(ua.ReadRequest(Parameters=parameters), 0)
        except ConnectionError:
            if self._protocol.failure:
                raise FailedError(self._protocol.failure) from None
            raise
        response = struct_from_binary(ua.ReadResponse, answer)
        response.ResponseHeader.ServiceResult.check()
        results: list[ua.DataValue] = response.Results or []
        if len(results) != len(parameters.NodesToRead):
            why = f"the server answers {len(results)} values for {len(parameters.NodesToRead)} nodes"
            raise FailedError(Failure("protocol", why))
        return results

    async def renew_if_due(self) -> None:
        """Renew the keys of the channel before they expire."""
        if time.monotonic() < self._renew_at:
            return
        await self._client.open_secure_channel(renew=True)
        self._client.uaclient.revolve_security_token()
        self._set_renewal()

    def _set_renewal(self) -> None:
        self._renew_at = time.monotonic() + RENEW_AFTER * self._client.secure_channel_timeout / 1000

    async def close(self) -> None:
        """End the session, so that the server has room for another, and the connection."""
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await self._client.uaclient.close_session(True)
                await self._client.close_secure_channel()
        self._protocol.abort()


async def open_session(access: Access, prepared: Prepared) -> Session:
    """Connect to a server and open a session.

    Raises:
        FailedError, OSError, ua.UaError: it cannot be opened; `failures.explain` says why.

    """
    client = await _client(access, prepared)
    if prepared.files:
        # Servers leave a client waiting that encrypts for another certificate: look at theirs first.
        await _check_security(access, prepared)
    protocol = await _connected(client, access, prepared)
    try:
        await client.send_hello()
        await client.open_secure_channel()
        try:
            await client.create_session()
        except ua.UaError:
            if not prepared.files:
                await _check_security(access, prepared)
            raise
        await client.activate_session(access.user or None, access.password or None)
    except BaseException as error:
        protocol.abort()
        if isinstance(error, ConnectionError) and protocol.failure:
            raise FailedError(protocol.failure) from None
        raise
    return Session(client, protocol)


async def _client(access: Access, prepared: Prepared, *, secure: bool = True) -> Client:
    """The client of a server, not connected yet; its security is that of the certificate files."""
    client = Client(access.address, REQUEST_TIMEOUT_S)
    client.name = client.description = AGENT
    client.application_uri = f"urn:{AGENT}"
    client.session_timeout = SESSION_TIMEOUT_MS
    if not (secure and prepared.files):
        return client
    try:
        certificate, private_key, server_certificate = map(_encoded, prepared.files)
        client.application_uri = _application_uri(prepared.files[0]) or client.application_uri
        await client.set_security(
            SecurityPolicyBasic256Sha256,
            certificate,
            private_key,
            server_certificate=server_certificate,
            mode=_SIGN_AND_ENCRYPT,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        why = f"the files in certificate, private_key and server_certificate cannot be used: {clipped(str(error), 200)}"
        raise FailedError(Failure("tls", why)) from error
    return client


async def _connected(client: Client, access: Access, prepared: Prepared) -> _Protocol:
    """The connection to the first IP address that accepts one."""
    loop, failed = asyncio.get_running_loop(), OSError("the host has no address")
    for address in prepared.addresses:
        try:
            _, protocol = await loop.create_connection(
                lambda: _Protocol(REQUEST_TIMEOUT_S, client.security_policy), address, access.port
            )
        except OSError as error:
            failed = error
            continue
        client.uaclient.protocol = protocol
        return protocol
    raise failed


async def _check_security(access: Access, prepared: Prepared) -> None:
    """Compare the endpoints that a server lists to everybody with the certificate files.

    A server that lists none is not judged: opening the channel proves that it has the private key of its certificate.

    Raises:
        FailedError: none of them can be used.
        OSError: the server cannot be reached.

    """
    client = await _client(access, prepared, secure=False)
    protocol = await _connected(client, access, prepared)
    endpoints: list[ua.EndpointDescription] = []
    try:
        with suppress(ConnectionError, ua.UaError, ValueError):
            await client.send_hello()
            await client.open_secure_channel()
            endpoints = await client.get_endpoints()
    finally:
        protocol.abort()
    if failure := _endpoint_failure(endpoints, prepared.files):
        raise FailedError(failure)


def _endpoint_failure(endpoints: Sequence[ua.EndpointDescription], files: Sequence[bytes]) -> Failure | None:
    """Why none of these endpoints can be used."""
    mode, policy = (_SIGN_AND_ENCRYPT, SecurityPolicyBasic256Sha256) if files else (_NONE, SecurityPolicyNone)
    usable = [each for each in endpoints if (each.SecurityMode, each.SecurityPolicyUri) == (mode, policy.URI)]
    if endpoints and not usable:
        offered = ", ".join(sorted({_described(each) for each in endpoints}))
        begin = "does not offer Basic256Sha256 with SignAndEncrypt" if files else "takes no session without security"
        return Failure("tls", f"the server {begin}; it offers {clipped(offered, 200)}")
    trusted = _certificate(files[2]).public_bytes(Encoding.DER) if files else b""
    for endpoint in usable:
        shown = endpoint.ServerCertificate or b""
        if files and not shown.startswith(trusted):
            fingerprint = hashlib.sha256(shown).hexdigest()
            return Failure(
                "tls", f"the server shows another certificate than server_certificate, SHA-256 {fingerprint}"
            )
    return None


def _described(endpoint: ua.EndpointDescription) -> str:
    return f"{str(endpoint.SecurityPolicyUri).rpartition('#')[2]} ({endpoint.SecurityMode.name.rstrip('_')})"


def _encoded(content: bytes) -> CertProperties:
    return CertProperties(content, "pem" if content.lstrip().startswith(b"-----BEGIN") else "der")


def _certificate(content: bytes) -> x509.Certificate:
    is_pem = _encoded(content).extension == "pem"
    return x509.load_pem_x509_certificate(content) if is_pem else x509.load_der_x509_certificate(content)


def _application_uri(certificate: bytes) -> str | None:
    """The URI in a certificate's alternative names, which servers compare with the one that the client sends."""
    try:
        names = _certificate(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), None)
