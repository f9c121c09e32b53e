"""The answers of the connections in `requests_connection`, read from their sockets by the rules of `answer`.

http.client and urllib3 refuse much that machines send, read what is dangerous, and bound neither the heads nor the
chunks. They see an answer that has no chunks and at most one Content-Length.
"""

from __future__ import annotations

import http.client
import io
import re
from typing import Any

from etl.sources.contract import MAX_BODY_BYTES, MAX_OVERHEAD_BYTES, TOO_LARGE
from etl.sources.http.answer import (
    BROKE_OFF,
    LARGE_HEAD,
    MAX_HEAD_BYTES,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    NOT_HTTP,
    FailedError,
    Head,
    parse_head,
    refusal,
)

_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}(?![0-9a-fA-F])")


class Response(http.client.HTTPResponse):
    """An answer whose head and chunks are read here."""

    is_last = False
    """Whether the connection is closed after the answer, whatever the machine says."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        limited: Any = _LimitedSocket(sock)
        super().__init__(limited, *args, **kwargs)

    def begin(self) -> None:
        """Read the heads, up to the final one, and prepare the body.

        Raises:
            FailedError: the head is malformed or too large.

        """
        if self.headers is not None:
            return
        lines = _HeadLines(self.fp)
        head = lines.head()
        self.code = self.status = head.status
        self.reason, self.version, self.chunked = "", head.version, False
        self.headers = self.msg = http.client.HTTPMessage()
        for name, values in head.fields.items():
            if name not in ("content-length", "transfer-encoding"):
                self.headers[name] = ", ".join(values)
        self._use_length(head, lines)

    def _use_length(self, head: Head, lines: _HeadLines) -> None:
        """Set where the body ends, and whether the connection ends with it."""
        self.length: int | None = 0
        self.will_close = True
        if refusal(head.status):
            return
        chunked, length = head.is_chunked(), head.length()
        if head.status == 204:
            length, chunked = 0, False
        self.length = None if chunked else length
        self.will_close = self.is_last or head.closes() or (length is None and not chunked)
        if chunked:
            self.fp = io.BufferedReader(_Chunks(self.fp, lines))
        elif length is not None:
            self.headers["content-length"] = str(length)


class LastResponse(Response):
    """An answer to a request with `Connection: close`."""

    is_last = True


class _HeadLines:
    """The lines of the heads and trailers of an answer, within their limits."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lines_left = MAX_HEADERS
        self._bytes_left = MAX_HEAD_BYTES

    def head(self) -> Head:
        """The final head: those of interim answers come before it."""
        while True:
            line = self._line(b"HTTP/")
            head = parse_head([line])
            try:
                head = parse_head([line, *self.fields()])
            except FailedError as error:
                raise FailedError(refusal(head.status) or error.failure) from error
            if head.status >= 200 or head.status == 101:
                return head

    def fields(self) -> list[bytes]:
        """The lines up to the empty one."""
        lines: list[bytes] = []
        while (line := self._line()) not in (b"\r\n", b"\n"):
            lines.append(line)
            self._lines_left -= 1
            if self._lines_left < 0:
                raise FailedError(LARGE_HEAD)
        return lines

    def _line(self, start: bytes = b"") -> bytes:
        """A line, which must begin with `start`: a machine that does not speak HTTP may never end its line."""
        line: bytes = b""
        while len(line) < len(start):
            byte = self._stream.read(1)
            if byte.lower() != start[len(line) : len(line) + 1].lower():
                if not byte and not line:
                    raise http.client.RemoteDisconnected("no answer")
                raise FailedError(NOT_HTTP if byte else BROKE_OFF)
            line += byte
        line += self._stream.readline(MAX_HEADER_BYTES + 1 - len(line))
        self._bytes_left -= len(line)
        if len(line) > MAX_HEADER_BYTES or self._bytes_left < 0:
            raise FailedError(LARGE_HEAD)
        if not line.endswith(b"\n"):
            raise FailedError(BROKE_OFF)
        return line


class _Chunks(io.RawIOBase):
    """The body of a chunked answer; reading fails where the chunks are malformed or end early."""

    def __init__(self, stream: Any, lines: _HeadLines) -> None:
        self._stream = stream
        self._lines = lines
        self._bytes_left = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._bytes_left and not self._ended:
            self._start_chunk()
        if self._ended:
            return 0
        data = self._stream.read(min(len(buffer), self._bytes_left))
        if not data:
            raise FailedError(BROKE_OFF)
        buffer[: len(data)] = data
        self._bytes_left -= len(data)
        if not self._bytes_left and self._line().strip(b"\r\n"):
            raise FailedError(NOT_HTTP)
        return len(data)

    def _start_chunk(self) -> None:
        """Read the size of the next chunk, or what follows the last one."""
        size = _CHUNK_SIZE.match(self._line())
        if not size:
            raise FailedError(NOT_HTTP)
        self._bytes_left = int(size[0], 16)
        self._ended = not self._bytes_left
        if self._ended and any(
            b":" not in line or b"\0" in line or b"\r" in line[:-2] for line in self._lines.fields()
        ):
            raise FailedError(NOT_HTTP)

    def _line(self) -> bytes:
        line: bytes = self._stream.readline()
        if not line.endswith(b"\n"):
            raise FailedError(BROKE_OFF)
        return line

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LimitedStream(io.RawIOBase):
    """The bytes of one answer as received; reading fails beyond the size limit, in chunk lines and trailers too."""

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self._bytes_left = MAX_BODY_BYTES + MAX_OVERHEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._stream.readinto(buffer)
        self._bytes_left -= count or 0
        if self._bytes_left < 0:
            raise FailedError(TOO_LARGE)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LimitedSocket:
    """Stands in for the socket of an http.client response, which only calls `makefile`."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_LimitedStream(self._sock.makefile(mode, buffering=0)))
