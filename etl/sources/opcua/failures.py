"""What asyncua and the system raise, as failures of a poll."""

import socket
import ssl
import struct

from asyncua import ua
from asyncua.crypto.uacrypto import InvalidSignature

from etl.readings.records import Failure
from etl.readings.text import clipped
from etl.sources.contract import timed_out
from etl.sources.opcua.values import status_name

MAX_WORDS = 200
"""Characters of an error's own words in a sentence."""


class FailedError(Exception):
    """Why a poll failed, where that is already explained."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


_FAILURES: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((socket.gaierror, UnicodeError), "dns", "the host's name cannot be resolved"),
    ((ConnectionRefusedError,), "refused", "connection refused"),
    ((ConnectionError,), "reset", "the connection broke off"),
    ((InvalidSignature,), "tls", "the server's signature does not belong to its certificate"),
    ((ssl.SSLError,), "tls", "the certificates cannot be used: {words}"),
    ((OSError,), "network", "the network fails: {words}"),
    (
        (struct.error, ua.UaError, ValueError, LookupError, RecursionError),
        "protocol",
        "the answer is not proper OPC UA: {words}",
    ),
)
"""Errors, their stable code and a sentence; the first match counts."""


def explain(error: BaseException, timeout: float) -> Failure:
    """The failure of a poll with this deadline in seconds."""
    if isinstance(error, FailedError):
        return error.failure
    if isinstance(error, TimeoutError):
        return timed_out(timeout)
    if isinstance(error, ua.UaStatusCodeError):
        _, sentence = ua.status_codes.get_name_and_doc(error.code)
        return Failure("service_fault", f"the server answers {status_name(error.code)}: {sentence.rstrip('.')}")
    words = clipped(getattr(error, "strerror", None) or str(error) or type(error).__name__, MAX_WORDS)
    for kinds, reason, sentence in _FAILURES:
        if isinstance(error, kinds):
            return Failure(reason, sentence.format(words=words))
    return Failure("failed", f"the server cannot be read: {type(error).__name__}")
