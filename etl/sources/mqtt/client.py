"""A paho client for one connection, and the failures that it ends with."""

import socket
import ssl
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from etl.config.sources.mqtt import MqttSource
from etl.readings.records import Failure
from etl.sources.contract import MAX_BODY_BYTES, MAX_OVERHEAD_BYTES

KEEPALIVE_S = 20
"""A broker that answers no ping for this long is gone."""
MAX_IN_FLIGHT = 1000
"""Messages that are read and not acknowledged, at most; brokers have limits of their own, mosquitto 20."""
NEVER = 0xFFFFFFFF
"""The broker keeps the session until this client deletes it."""


class FailedError(Exception):
    """A connection that cannot be used."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


class _Socket(ssl.SSLSocket):
    """A TLS socket that is closed where the handshake fails: paho leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def new_client(source: MqttSource, folder: Path, version: MQTTProtocolVersion, is_trial: bool) -> Client:
    """A client that is not connected yet. With `is_trial` it has no session, so that it disturbs no other process.

    Raises:
        FailedError: the certificates to trust cannot be read.

    """
    session = "" if is_trial else source.session
    is_clean = None if version == MQTTProtocolVersion.MQTTv5 else is_trial
    client = Client(CallbackAPIVersion.VERSION2, session, is_clean, protocol=version, manual_ack=True)
    client.suppress_exceptions = False
    if source.target.user is not None:
        client.username_pw_set(source.target.user, source.target.password)
    if source.target.is_secure:
        path = folder / source.ca_file if source.ca_file else None
        try:
            trusted = ssl.create_default_context(cafile=path)
        except OSError as error:
            why = f"ca_file {path} cannot be read: {error.strerror or error}"
            raise FailedError(Failure("tls", why)) from error
        trusted.sslsocket_class = _Socket
        client.tls_set_context(trusted)
    return client


def connect(client: Client, source: MqttSource, timeout: float, is_trial: bool) -> None:
    """Connect and send the first packet; blocks, but for name resolution, at most `timeout` seconds."""
    client.connect_timeout = timeout
    host, port, *_ = source.target
    if client.protocol != MQTTProtocolVersion.MQTTv5:
        client.connect(host, port, KEEPALIVE_S)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = MAX_IN_FLIGHT
    properties.MaximumPacketSize = MAX_BODY_BYTES + MAX_OVERHEAD_BYTES
    if not is_trial:
        properties.SessionExpiryInterval = NEVER
    client.connect(host, port, KEEPALIVE_S, clean_start=is_trial, properties=properties)


def subscribe(client: Client, topic: str) -> None:
    """Subscribe with QoS 1; retained messages come only if the broker had no such subscription."""
    if client.protocol == MQTTProtocolVersion.MQTTv5:
        client.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB))
    else:
        client.subscribe(topic, qos=1)


def refusal(reason: ReasonCode) -> Failure:
    """The failure that a broker names when it refuses a connection or ends one."""
    name = reason.getName()
    words = name[:1].lower() + name[1:]
    if reason.value in (0x86, 0x87):
        return Failure("login", f"the broker refuses this user: {words}")
    if reason.value == 0x8E:
        return Failure("taken_over", "another client with the same client id took the session over")
    if reason.value == 0x84:
        return Failure("protocol", "the broker does not speak this version of MQTT")
    return Failure("broker", f"the broker ends the connection: {words}")


_FAILURES: tuple[tuple[type[BaseException], str, str], ...] = (
    (socket.gaierror, "dns", "the broker's name cannot be resolved"),
    (UnicodeError, "dns", "the broker's name cannot be resolved"),
    (ssl.SSLCertVerificationError, "tls", "the certificate is not trusted: {error.verify_message}"),
    (ssl.SSLError, "tls", "TLS failed: {error.reason}"),
    (ConnectionRefusedError, "refused", "connection refused"),
    (TimeoutError, "timeout", "no answer within {timeout:g} s"),
    (ConnectionError, "reset", "the connection broke off"),
    (OSError, "network", "the network fails: {text}"),
)
"""Errors, their stable code, and a sentence; the first match counts."""


def explain(error: Exception, timeout: float) -> Failure:
    """The failure that an error means."""
    if isinstance(error, FailedError):
        return error.failure
    for kind, reason, sentence in _FAILURES:
        if isinstance(error, kind):
            text = getattr(error, "strerror", None) or str(error)
            return Failure(reason, sentence.format(error=error, timeout=timeout, text=text))
    return Failure("failed", f"the connection failed: {type(error).__name__}")
