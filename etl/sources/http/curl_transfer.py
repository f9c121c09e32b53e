"""One request of `curl_transport`: a libcurl handle that is given requests, and what it received."""

import errno
import os
import time
from functools import lru_cache
from typing import Any, NamedTuple

import pycurl

from etl.readings.records import Failure
from etl.sources.contract import MAX_BODY_BYTES, TOO_LARGE, timed_out
from etl.sources.http.answer import (
    BROKE_OFF,
    LARGE_HEAD,
    NOT_HTTP,
    UNKNOWN_TRANSFER_CODING,
    FailedError,
    Head,
    decode,
    parse_head,
    refusal,
    unreadable_certificates,
)
from etl.sources.http.request import HttpRequest, closes_connection, environment_certificates
from etl.sources.intake import BUSY, Lease
from etl.sources.poll_threads import PendingPoll

_E_TOO_LARGE = 100
"""CURLE_TOO_LARGE, which pycurl does not name."""
_PROXY = Failure("proxy", "the proxy cannot be reached, or refuses")
_FAILURES = {
    pycurl.E_COULDNT_RESOLVE_HOST: Failure("dns", "the host's name cannot be resolved"),
    pycurl.E_COULDNT_RESOLVE_PROXY: _PROXY,
    pycurl.E_GOT_NOTHING: BROKE_OFF,
    pycurl.E_RECV_ERROR: BROKE_OFF,
    pycurl.E_SEND_ERROR: BROKE_OFF,
    pycurl.E_PARTIAL_FILE: BROKE_OFF,
    pycurl.E_FILESIZE_EXCEEDED: TOO_LARGE,
    _E_TOO_LARGE: LARGE_HEAD,
    pycurl.E_BAD_CONTENT_ENCODING: UNKNOWN_TRANSFER_CODING,
}
_TLS_ERRORS = {
    pycurl.E_SSL_CONNECT_ERROR,
    pycurl.E_PEER_FAILED_VERIFICATION,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CIPHER,
}
MAX_KEPT_BYTES = 1 << 10
"""Size limit of a head whose judgement is kept: machines of one kind send the same one, for a second at least."""
_EMPTY_LINES = (b"\r\n", b"\n")


class Request(NamedTuple):
    """The request of every poll of a source as libcurl takes it; `digest` has its login by digest, if any."""

    url: str
    proxy: bytes
    trusted: str | None
    headers: tuple[bytes, ...]
    closes: bool
    digest: HttpRequest | None


def request_of(plain: HttpRequest) -> Request:
    """A request as libcurl takes it."""
    headers, closes = _shared(_lines(plain.headers)), closes_connection(plain.headers)
    digest = plain if plain.digest else None
    return Request(plain.url, os.fsencode(plain.proxy), plain.trusted, headers, closes, digest)


class Transfer:
    """A libcurl handle with what it received for the current request; it is reused for other sources.

    libcurl reads the head and the chunks; whether that is an answer, and its compression, is up to `answer`. The
    trusted certificates of a handle cannot be set back to those of libcurl, so they are the same for all its requests.
    """

    def __init__(self, trusted: str | None) -> None:
        self.trusted = trusted
        self.poll: PendingPoll
        self.easy = easy = pycurl.Curl()
        self.started = 0.0
        self.head: Head | None = None
        self.lease: Lease | None = None
        self._lines: list[bytes] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self._length: int | None = None
        self._until_closed = False
        self._failed: Failure | None = None
        self._options: dict[int, Any] = {}
        easy.setopt(pycurl.HEADERFUNCTION, self._write_head)
        easy.setopt(pycurl.WRITEFUNCTION, self._write)
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        easy.setopt(pycurl.FOLLOWLOCATION, 0)
        easy.setopt(pycurl.NOPROXY, "")  # `request` chooses the proxy, not libcurl
        _trust(easy, trusted, pycurl.CAINFO, pycurl.CAPATH)
        _trust(easy, environment_certificates(), pycurl.PROXY_CAINFO, pycurl.PROXY_CAPATH)
        easy.setopt(pycurl.MAXFILESIZE_LARGE, MAX_BODY_BYTES)
        easy.setopt(pycurl.DNS_CACHE_TIMEOUT, 0)
        easy.setopt(pycurl.TCP_NODELAY, 1)

    def begin(self, poll: PendingPoll, request: Request, lease: Lease) -> None:
        """Set what differs from the request before; `lease` counts the answer."""
        self.poll, self.lease, self.started = poll, lease, time.monotonic()
        headers = (*request.headers, *_lines(request.digest.login())) if request.digest else request.headers
        for option, value in (
            (pycurl.URL, request.url),
            (pycurl.PROXY, request.proxy),
            (pycurl.HTTPHEADER, headers),
            (pycurl.FORBID_REUSE, request.closes),
            (pycurl.TIMEOUT_MS, max(1, round((poll.deadline - self.started) * 1000))),
            (pycurl.FRESH_CONNECT, poll.opened_connection),
        ):
            if self._options.get(option) != value:
                self._options[option] = value
                self.easy.setopt(option, value)

    def clear(self) -> None:
        """Forget what was received."""
        self.head, self.lease, self._lines, self._chunks, self._size = None, None, [], [], 0
        self._length, self._until_closed, self._failed = None, False, None

    def body(self) -> bytes:
        """The decoded body of a complete transfer.

        Raises:
            FailedError: it is no answer.

        """
        if self.head is None or self.head.status < 200:
            raise FailedError(refusal(self.easy.getinfo(pycurl.RESPONSE_CODE)) or BROKE_OFF)
        received = b"".join(self._chunks)[: self._length]
        body = decode(received, self.head.field("content-encoding"))
        if self.lease and len(body) > len(received) and not self.lease.grow(len(body) - len(received)):
            raise FailedError(BUSY)
        return body

    def is_complete(self, code: int, message: str) -> bool:
        """Whether the body is complete though libcurl reports an error.

        `_write` has ended a transfer that libcurl would read until the connection is closed, or the machine has closed
        a TLS connection without a notice; a body that was cut off is no JSON.
        """
        if code == pycurl.E_WRITE_ERROR:
            return self._has_length()
        return code == pycurl.E_RECV_ERROR and self._until_closed and "unexpected eof" in message

    def _has_length(self) -> bool:
        return self._length is not None and self._size >= self._length

    def failure(self, code: int, message: str) -> Failure:
        """The failure that an error of libcurl means."""
        easy = self.easy
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return timed_out(self.poll.timeout)
        not_connected = code == pycurl.E_COULDNT_CONNECT
        if self._options[pycurl.PROXY] and (not_connected or easy.getinfo(pycurl.HTTP_CONNECTCODE) >= 300):
            return _PROXY
        if refused := self._failed or refusal(easy.getinfo(pycurl.RESPONSE_CODE)):
            return refused
        if not_connected:
            return _connect_failure(easy.getinfo(pycurl.OS_ERRNO))
        return self._later_failure(code, message)

    def _later_failure(self, code: int, message: str) -> Failure:
        """The failure that an error after connecting means."""
        if code == pycurl.E_SSL_CACERT_BADFILE:
            return unreadable_certificates(self.trusted)
        if code in _TLS_ERRORS:
            return Failure("tls", f"TLS failed: {message.split(' (http', maxsplit=1)[0]}"[:200])
        if code == _E_TOO_LARGE and not self.easy.getinfo(pycurl.REQUEST_SIZE):
            return Failure("failed", "the request cannot be made: its headers are too large")
        if message.startswith("Too large response headers"):
            return LARGE_HEAD
        # libcurl also reports a malformed answer as a failed receive.
        malformed = code == pycurl.E_RECV_ERROR and not self.easy.getinfo(pycurl.OS_ERRNO) and "SSL" not in message
        return NOT_HTTP if malformed else _FAILURES.get(code, NOT_HTTP)

    def _write_head(self, line: bytes) -> int | None:
        """Receive a line of a head, of which the last one counts, or a trailer; returning 0 ends the transfer."""
        if self.head:
            if self._size or not line.startswith(b"HTTP/"):
                return None
            self.head, self._lines = None, []
        self._lines.append(line)
        if len(line) > 2 or line not in _EMPTY_LINES:
            return None
        head = b"".join(self._lines)
        judge = _judged if len(head) <= MAX_KEPT_BYTES else _judged.__wrapped__
        self.head, self._failed, self._length, self._until_closed = judge(head)
        return 0 if self._failed or self._length == 0 else None

    def _write(self, chunk: bytes) -> int | None:
        self._size += len(chunk)
        if self._size > MAX_BODY_BYTES:
            self._failed = TOO_LARGE
        elif self.lease and not self.lease.grow(len(chunk)):
            self._failed = BUSY
        if self._failed:
            return 0
        self._chunks.append(chunk)
        return 0 if self._has_length() else None


@lru_cache(maxsize=256)
def _judged(text: bytes) -> tuple[Head | None, Failure | None, int | None, bool]:
    """A complete head, why it is refused, the length at which to stop, and whether the body ends with the connection.

    libcurl stops at the end of a body by itself, unless its length stands beside a Transfer-Encoding.
    """
    head = None
    try:
        head = parse_head(text.split(b"\n"))
        failed = refusal(head.status, head.field("location"))
        if failed or head.status < 200:
            return head, failed, None, False
        chunked, length = head.is_chunked(), head.length()
    except FailedError as error:
        return head, error.failure, None, False
    stop = length if not chunked and "transfer-encoding" in head.fields else None
    return head, None, stop, not chunked and length is None


def _lines(headers: dict[str, bytes]) -> tuple[bytes, ...]:
    """Headers as libcurl takes them: "name;" sends an empty one, where "name:" would remove it."""
    return tuple(name.encode() + (b": " + value if value else b";") for name, value in headers.items())


@lru_cache(maxsize=256)
def _shared(headers: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The first of equal headers: thousands of sources have the same."""
    return headers


def _trust(easy: pycurl.Curl, trusted: str | None, file_option: int, folder_option: int) -> None:
    """Let a handle trust this file or folder of certificates, if there is one."""
    if trusted:
        easy.setopt(folder_option if os.path.isdir(trusted) else file_option, os.fsencode(trusted))


def _connect_failure(os_errno: int) -> Failure:
    if os_errno == errno.ECONNREFUSED:
        return Failure("refused", "connection refused")
    return Failure(
        "network", f"the network fails: {os.strerror(os_errno)}" if os_errno else "the host cannot be reached"
    )
