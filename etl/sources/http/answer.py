"""What every HTTP transport takes for an answer: one set of rules for the head, the length, the codings, the status.

    the machine sends                                   the poll gives
    status 200 to 299, also without a reason            the body; it may be empty
    100, 102, 103 and other interim heads               nothing yet: the final head follows
    101; no HTTP, HTTP/0.9, ICY, HTTP/2 as text         protocol
    a redirect; any other status                        redirect, with the target's host; http_status
    Content-Length: 39, or 39, 39, or repeated          the body
    Content-Length: -1, +39, abc, empty, 39, 40         protocol
    Transfer-Encoding: chunked, with a length or not    the body, by its chunks; extensions and trailers are ignored
    a chunk without a hexadecimal size or a line end    protocol
    Transfer-Encoding: identity                         the body, by its length or until the connection is closed
    any other Transfer-Encoding                         encoding
    neither length nor chunks                           what comes until the connection is closed
    lines that end in LF, continued header lines        the same as in their proper form
    a NUL, a bare CR or no colon in a header            protocol
    gzip, x-gzip, deflate (also raw), up to 5 of them   the decoded body; what follows the compressed data is ignored
    ... broken, cut short; br, zstd, compress           encoding
    any other Content-Encoding (identity, utf-8)        the body as it is
    more than 5 MiB, also once decoded                  too_large
    headers above 300 KiB, 100 KiB in one, 5000 lines   too_large
    a connection that ends before the answer does       reset

Where libcurl leaves no choice its rule is that of both.
"""

import re
import zlib
from collections.abc import Sequence
from http.client import responses
from typing import NamedTuple
from urllib.parse import urlsplit

from etl.readings.records import Failure
from etl.readings.text import clipped
from etl.sources.contract import MAX_BODY_BYTES, TOO_LARGE

MAX_HEAD_BYTES = 300 << 10
"""Size limit of all heads of one answer. This limit and the next two are libcurl's, which cannot be changed."""
MAX_HEADER_BYTES = (100 << 10) - 1
"""Size limit of one line of a head."""
MAX_HEADERS = 5000
"""Limit of header lines in all heads of one answer."""
MAX_CODINGS = 5
"""Limit of compressions on top of each other."""
MAX_MEMBERS = 100
"""Limit of gzip members in one body: each costs a copy of what follows it."""

NOT_HTTP = Failure("protocol", "the answer is not proper HTTP")
BROKE_OFF = Failure("reset", "the connection broke off")
BROKEN_CODING = Failure("encoding", "the answer's compression is broken")
UNKNOWN_TRANSFER_CODING = Failure("encoding", "the answer has an unknown Transfer-Encoding")
LARGE_HEAD = Failure("too_large", "the answer's headers exceed 300 KiB, 100 KiB in one of them, or 5000 lines")

_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]|2\.0)[ \t]([1-9][0-9]{2})", re.IGNORECASE)
_LENGTH = re.compile(r"[0-9]+")
_UNDECODED = {"br", "zstd", "compress", "x-compress"}
"""Compressions that no request accepts; other names that are not known stand for no compression at all."""


class FailedError(Exception):
    """Carries a complete failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


def unreadable_certificates(path: str | None) -> Failure:
    """The failure of a source whose trusted certificates cannot be read."""
    return Failure("tls", f"the certificates in ca_file cannot be read: {clipped(path or '', 200)}")


class Head(NamedTuple):
    """The version (10 for HTTP/1.0, else 11), status and headers of an answer: the values of each lower-case name."""

    version: int
    status: int
    fields: dict[str, list[str]]

    def field(self, name: str) -> str:
        """The values of a header as one; empty without it."""
        return ", ".join(self.fields.get(name, ()))

    def closes(self) -> bool:
        """Whether the machine closes the connection after the answer."""
        connection = self.field("connection").lower()
        return "close" in connection or (self.version == 10 and "keep-alive" not in connection)

    def is_chunked(self) -> bool:
        """Whether the body is sent in chunks.

        Raises:
            FailedError: it has another transfer coding.

        """
        if "transfer-encoding" not in self.fields:
            return False
        codings = _names(self.field("transfer-encoding"))
        plain = [coding for coding in codings if coding != "identity"]
        if set(plain) - {"chunked"} or (plain and codings[-1] == "identity"):
            raise FailedError(UNKNOWN_TRANSFER_CODING)
        return bool(plain)

    def length(self) -> int | None:
        """The Content-Length; None without one.

        Raises:
            FailedError: it is malformed, contradicts itself, or is above the limit.

        """
        if "content-length" not in self.fields:
            return None
        lengths = [length.strip(" \t") for length in self.field("content-length").split(",")]
        distinct = {length.lstrip("0") or "0" for length in lengths}
        if len(distinct) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            raise FailedError(NOT_HTTP)
        (digits,) = distinct
        if len(digits) > len(str(MAX_BODY_BYTES)) or int(digits) > MAX_BODY_BYTES:
            raise FailedError(TOO_LARGE)
        return int(digits)


def parse_head(lines: Sequence[bytes]) -> Head:
    """The head in these lines: the status line, headers, perhaps the empty line.

    Raises:
        FailedError: it is malformed.

    """
    status = _STATUS_LINE.match(lines[0])
    if not status:
        raise FailedError(NOT_HTTP)
    fields: dict[str, list[str]] = {}
    values: list[str] = []
    for line in lines[1:]:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode("latin-1")
        name, colon, value = text.partition(":")
        if "\r" in text or "\0" in text or (text and not colon and text[0] not in " \t"):
            raise FailedError(NOT_HTTP)
        if text and text[0] not in " \t":
            values = fields.setdefault(name.lower(), [])
            values.append(value.strip(" \t"))
        elif values:
            values[-1] = f"{values[-1]} {text}".strip(" \t")
    return Head(10 if status[1] == b"1.0" else 11, int(status[2]), fields)


def refusal(status: int, location: str = "") -> Failure | None:
    """The failure that an HTTP status means; None if its answer is a reading. `location` is where a redirect leads."""
    if status == 101:
        return Failure("protocol", "HTTP 101: the machine changes to another protocol")
    if status < 300:
        return None
    if status in (301, 302, 303, 307, 308):
        return Failure("redirect", f"HTTP {status}: redirects are not followed{_target(location)}")
    return Failure("http_status", f"HTTP {status} {responses.get(status, '')}".rstrip())


def _target(location: str) -> str:
    """Where a redirect leads, without what may be secret: the user, the path and the query."""
    try:
        parts = urlsplit(location.encode("latin-1").decode(errors="replace"))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if not host.isprintable():
        return ""
    if not host:
        return "; it leads to another path of the same host" if location else ""
    where = (f"{host}:{port}" if port else host)[:100]
    return f"; it leads to {where}" + (f" over {parts.scheme}" if parts.scheme in ("http", "https") else "")


def decode(body: bytes, content_encoding: str) -> bytes:
    """The body without the compressions that the header Content-Encoding names.

    Raises:
        FailedError: a compression is broken or not accepted, or the decoded body is above the limit.

    """
    if not content_encoding:
        return body
    codings = _names(content_encoding)
    if len(codings) > MAX_CODINGS:
        raise FailedError(BROKEN_CODING)
    try:
        for coding in reversed(codings):
            if coding in _UNDECODED:
                raise FailedError(Failure("encoding", f"the answer is compressed with {coding}, not gzip or deflate"))
            if coding in ("gzip", "x-gzip"):
                body = _inflate(body, zlib.MAX_WBITS | 16)
            elif coding == "deflate":
                body = _inflate_either(body)
    except zlib.error as error:
        raise FailedError(BROKEN_CODING) from error
    return body


def _inflate_either(body: bytes) -> bytes:
    """Decode `deflate`, which is zlib's format, but which some machines send without its header and checksum."""
    try:
        return _inflate(body, zlib.MAX_WBITS)
    except zlib.error:
        return _inflate(body, -zlib.MAX_WBITS)


def _inflate(body: bytes, wbits: int) -> bytes:
    """Decode compressed data, all members of gzip; what follows them is ignored."""
    decoded = bytearray()
    for _ in range(MAX_MEMBERS):
        if not body:
            return bytes(decoded)
        decoder = zlib.decompressobj(wbits)
        decoded += decoder.decompress(body, MAX_BODY_BYTES + 1 - len(decoded))
        if len(decoded) > MAX_BODY_BYTES:
            raise FailedError(TOO_LARGE)
        if not decoder.eof:
            raise FailedError(BROKEN_CODING)
        body = decoder.unused_data
        if not body.startswith(b"\x1f\x8b"):
            return bytes(decoded)
    raise FailedError(BROKEN_CODING)


def _names(field: str) -> list[str]:
    """The names that a header lists, in lower case."""
    return [name for name in (item.strip(" \t").lower() for item in field.split(",")) if name]
