"""The table of what is an answer: responses as bytes, and what a poll gives for each of them over every transport."""

from __future__ import annotations

import gzip
import zlib
from typing import NamedTuple

from etl.sources.contract import MAX_BODY_BYTES
from tests.support.servers import READING, chunked, gzip_bomb

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(READING)


class Case(NamedTuple):
    """Bytes that a machine sends, the body or the failure's code, and whether it then closes the connection."""

    sent: bytes
    outcome: bytes | str = READING
    closes: bool = False


def response(headers: bytes = b"", body: bytes = READING, status: bytes = OK) -> bytes:
    return status + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def framed(headers: bytes, body: bytes = READING) -> bytes:
    """A response whose headers alone say where its body ends."""
    return OK + headers + b"\r\n" + body


def in_chunks(body: bytes, headers: bytes = b"") -> bytes:
    return framed(headers + b"Transfer-Encoding: chunked\r\n", body)


def encoded(coding: bytes, body: bytes = READING) -> bytes:
    return response(b"Content-Encoding: " + coding + b"\r\n", body)


def one_chunk(size: bytes, end: bytes = b"\r\n0\r\n\r\n") -> bytes:
    return in_chunks(size % len(READING) + b"\r\n" + READING + end)


def deflate_raw(body: bytes = READING) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


GZIP, ZLIB = gzip.compress(READING), zlib.compress(READING)
INTERIM = b"HTTP/1.1 %b\r\nLink: </a>\r\nContent-Length: 5\r\n\r\n"
HEADS = {
    "no reason": Case(response(status=b"HTTP/1.1 200\r\n")),
    "lower case": Case(response(status=b"http/1.1 200 ok\r\n").replace(b"Content-Length", b"content-length")),
    "HTTP/1.0": Case(response(status=b"HTTP/1.0 200 OK\r\n")),
    "HTTP/2.0 as text": Case(response(status=b"HTTP/2.0 200 OK\r\n")),
    "tabs in the status line": Case(response(status=b"HTTP/1.1\t200\tOK\r\n")),
    "a reason of 70 KB": Case(response(status=b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n")),
    "201": Case(response(status=b"HTTP/1.1 201 Created\r\n")),
    "205": Case(response(status=b"HTTP/1.1 205 Reset Content\r\n")),
    "206": Case(response(b"Content-Range: bytes 0-106/107\r\n", status=b"HTTP/1.1 206 Partial Content\r\n")),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "204 with a body": Case(response(status=b"HTTP/1.1 204 No Content\r\n"), b""),
    "100 first": Case(INTERIM % b"100 Continue" + response()),
    "102 first": Case(INTERIM % b"102 Processing" + response()),
    "103 first, twice": Case(INTERIM % b"103 Early Hints" * 2 + response()),
    "199 first": Case(INTERIM % b"199 What" + response()),
    "103 and the end": Case(INTERIM % b"103 Early Hints", "reset", closes=True),
    "101": Case(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "protocol"),
    "101 first": Case(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + response(), "protocol"),
    "304": Case(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 39\r\n\r\n", "http_status"),
    "300": Case(response(status=b"HTTP/1.1 300 Multiple Choices\r\n"), "http_status"),
    "404 with a bad header": Case(b"HTTP/1.1 404 No\r\nX: \0\r\n\r\n", "http_status"),
    "404 that ends in its head": Case(b"HTTP/1.1 404 No\r\nX: y", "http_status", closes=True),
    "404 with 6,000 headers": Case(response(b"X: y\r\n" * 6000, status=b"HTTP/1.1 404 No\r\n"), "http_status"),
    "a header like a status line": Case(response(b"HTTP/1.1 500 x: y\r\n")),
    "a body like a head": Case(response(body=b"HTTP/1.1 500 No\r\n\r\n"), b"HTTP/1.1 500 No\r\n\r\n"),
    "500 with a bad length": Case(b"HTTP/1.1 500 No\r\nContent-Length: -1\r\n\r\n", "http_status"),
    "404 in a compression of its own": Case(
        response(b"Content-Encoding: br\r\n", status=b"HTTP/1.1 404 No\r\n"), "http_status"
    ),
    "HTTP/0.9": Case(READING, "protocol"),
    "HTTP/0.9, closed": Case(READING, "protocol", closes=True),
    "ICY": Case(response(status=b"ICY 200 OK\r\n"), "protocol"),
    "RTSP": Case(response(status=b"RTSP/1.0 200 OK\r\n"), "protocol"),
    "MQTT": Case(b"\x20\x02\x00\x00", "protocol"),
    "HTTP/2 frames": Case(b"\0\0\x12\x04\0\0\0\0\0" + bytes(18), "protocol"),
    **{
        f"status line {line!r}": Case(response(status=line + b"\r\n"), "protocol")
        for line in (
            b"HTTP/1.2 200 OK",
            b"HTTP/2 200 OK",
            b"HTTP/0.9 200 OK",
            b"HTTP/1.10 200 OK",
            b"HTTP/ 200 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 +200 OK",
            b" HTTP/1.1 200",
            b"HTTP/1.1 -200 OK",
            b"HTTP/1.1 2_0 OK",
            b"\r\nHTTP/1.1 200 OK",
            b"\xef\xbb\xbfHTTP/1.1 200 OK",
        )
    },
    "101 headers": Case(response(b"".join(b"X-%d: y\r\n" % n for n in range(101)))),
    "4,900 headers": Case(response(b"X: y\r\n" * 4900)),
    "6,000 headers": Case(response(b"X: y\r\n" * 6000), "too_large"),
    "a header of 70 KB": Case(response(b"X: " + b"y" * 70_000 + b"\r\n")),
    "a header of 100 KB": Case(response(b"X: " + b"y" * 100_000 + b"\r\n")),
    "a header of 110 KB": Case(response(b"X: " + b"y" * 110_000 + b"\r\n"), "too_large"),
    "headers of 290 KB": Case(response((b"X: " + b"y" * 58_000 + b"\r\n") * 5)),
    "headers of 400 KB": Case(response((b"X: " + b"y" * 80_000 + b"\r\n") * 5), "too_large"),
    "lines that end in LF": Case(response(b"X: y\r\n").replace(b"\r\n", b"\n")),
    "some lines that end in LF": Case(OK + b"X: y\n" + LENGTH[:-2] + b"\n\r\n" + READING),
    "a continued header": Case(response(b"X: a\r\n b\r\n\tc\r\n")),
    "a continued length": Case(framed(b"Content-Length:\r\n %d\r\n" % len(READING))),
    "a continuation first": Case(OK + b" x: y\r\n" + LENGTH + b"\r\n" + READING),
    "a header without a name": Case(response(b": x\r\n")),
    "a space in a name": Case(response(b"X Y: z\r\n")),
    "no ASCII in a header": Case(response("X: größe\r\n".encode() + b"Y: gr\xf6\xdfe\r\n")),
    "control characters before a length": Case(response(b"X: a\x0b\x1c\x85Content-Length: 3\r\n")),
    "a header without a colon": Case(response(b"what is this\r\n"), "protocol"),
    "NUL in a header": Case(response(b"X: a\0b\r\n"), "protocol"),
    "NUL in a name": Case(response(b"X\0Y: b\r\n"), "protocol"),
    "CR in a header": Case(response(b"X: a\rb\r\n"), "protocol"),
    "a charset, a BOM": Case(
        response(b"Content-Type: text/html; charset=latin-1\r\n", b"\xef\xbb\xbf{}"), b"\xef\xbb\xbf{}"
    ),
    "latin-1": Case(response(body=b'{"a":"\xf6"}'), b'{"a":"\xf6"}'),
    "ends in the head": Case(OK + b"Content-Le", "reset", closes=True),
    "ends before the empty line": Case(OK + LENGTH, "reset", closes=True),
    "ends in the status line": Case(b"HTTP/1.1 200", "reset", closes=True),
    "ends in the version": Case(b"HTTP", "reset", closes=True),
}
LENGTHS = {
    "twice the same": Case(response(LENGTH)),
    "a list": Case(framed(b"Content-Length: %d, %d,%d\r\n" % (len(READING), len(READING), len(READING)))),
    "zeros before it": Case(framed(b"Content-Length: 000%d\r\n" % len(READING))),
    "white space around it": Case(framed(b"Content-Length:\t %d \t\r\n" % len(READING))),
    "nothing": Case(framed(b"Content-Length: 0\r\n"), b""),
    "what follows is not read": Case(response() + b"HTTP/1.1 500 No\r\n\r\n"),
    "two lengths": Case(response(b"Content-Length: 7\r\n"), "protocol"),
    "two lengths in a list": Case(framed(b"Content-Length: %d, 7\r\n" % len(READING)), "protocol"),
    **{
        f"Content-Length: {value!r}": Case(framed(b"Content-Length: " + value + b"\r\n"), "protocol")
        for value in (b"-1", b"+107", b"0x6b", b"", b"abc", b"1_07", b"107.0", b"107 bytes", b"107;", b"107,", b"\xb2")
    },
    "-1, closed": Case(framed(b"Content-Length: -1\r\n"), "protocol", closes=True),
    "text, closed": Case(framed(b"Content-Length: abc\r\n"), "protocol", closes=True),
    "more than the limit": Case(framed(b"Content-Length: %d\r\n" % (MAX_BODY_BYTES + 1)), "too_large"),
    "beyond 64 bits": Case(framed(b"Content-Length: 99999999999999999999999999\r\n"), "too_large"),
    "until the end": Case(framed(b""), closes=True),
    "until the end, kept alive": Case(framed(b"Connection: keep-alive\r\n"), closes=True),
    "until the end, in LF and 1.0": Case(b"HTTP/1.0 200 OK\n\n" + READING, closes=True),
    "nothing until the end": Case(framed(b"", b""), b"", closes=True),
    "a byte short": Case(OK + LENGTH + b"\r\n" + READING[:-1], "reset", closes=True),
}
CHUNKS = {
    "in pieces": Case(in_chunks(chunked(*(bytes([byte]) for byte in READING)))),
    "Chunked": Case(framed(b"transfer-encoding:   Chunked \r\n", chunked(READING))),
    "in HTTP/1.0": Case(in_chunks(chunked(READING)).replace(b"HTTP/1.1", b"HTTP/1.0")),
    "extensions": Case(one_chunk(b'%x;a=b;c="d;e"', b"\r\n0;f\r\n\r\n")),
    "trailers": Case(one_chunk(b"%x", b"\r\n0\r\nContent-Length: 3\r\nContent-Encoding: gzip\r\n\r\n")),
    "capitals, zeros, spaces": Case(one_chunk(b"00%X  ", b"\r\n000\r\n\r\n")),
    "lines that end in LF": Case(in_chunks(b"%x\n%b\n0\n\n" % (len(READING), READING))),
    "with a length": Case(in_chunks(chunked(READING), LENGTH)),
    "with another length": Case(in_chunks(chunked(READING), b"Content-Length: 5\r\n")),
    "another length after": Case(framed(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", chunked(READING))),
    "with a bad length": Case(in_chunks(chunked(READING), b"Content-Length: -5\r\n"), "protocol"),
    "bad length after": Case(
        framed(b"Transfer-Encoding: chunked\r\nContent-Length: x\r\n", chunked(READING)), "protocol"
    ),
    "twice": Case(framed(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked(READING))),
    "identity, chunked": Case(framed(b"Transfer-Encoding: identity, chunked\r\n", chunked(READING))),
    **{
        f"size {size!r}": Case(one_chunk(size), "protocol")
        for size in (
            b"-%x",
            b"+%x",
            b"0x%x",
            b" %x",
            b"_%x",
            b"fffffffffffffffff%x",
            b"0" * 40 + b"%x",
            b"; %x",
            b"what%x",
        )
    },
    "4,900 trailers": Case(one_chunk(b"%x", b"\r\n0\r\n" + b"X: y\r\n" * 4900 + b"\r\n")),
    "6,000 trailers": Case(one_chunk(b"%x", b"\r\n0\r\n" + b"X: y\r\n" * 6000 + b"\r\n"), "too_large"),
    "a trailer of 110 KB": Case(one_chunk(b"%x", b"\r\n0\r\nX: " + b"y" * 110_000 + b"\r\n\r\n"), "too_large"),
    "a trailer without a colon": Case(one_chunk(b"%x", b"\r\n0\r\nwhat\r\n\r\n"), "protocol"),
    "two CR": Case(in_chunks(b"%x\r\r\n%b\r\r\n0\r\n\r\n" % (len(READING), READING))),
    "more than the limit": Case(in_chunks(chunked(bytes(MAX_BODY_BYTES + 1))), "too_large"),
    "size of nothing": Case(in_chunks(b"\r\n" + READING + b"\r\n0\r\n\r\n"), "protocol"),
    "longer than its size": Case(in_chunks(b"%x\r\n%b\r\n0\r\n\r\n" % (len(READING) - 1, READING)), "protocol"),
    "no line end": Case(one_chunk(b"%x", b"XX0\r\n\r\n"), "protocol"),
    "no last chunk": Case(one_chunk(b"%x", b"\r\n"), "reset", closes=True),
    "no end": Case(one_chunk(b"%x", b"\r\n0\r\n"), "reset", closes=True),
    "ends in a trailer": Case(one_chunk(b"%x", b"\r\n0\r\nX: y"), "reset", closes=True),
    "Transfer-Encoding: identity": Case(response(b"Transfer-Encoding: identity\r\n")),
    "identity of nothing": Case(response(b"Transfer-Encoding: identity\r\n", b""), b""),
    "identity, longer than its length": Case(response(b"Transfer-Encoding: identity\r\n") + b"stray"),
    "identity until the end": Case(framed(b"Transfer-Encoding: identity\r\n"), closes=True),
    "an empty Transfer-Encoding": Case(response(b"Transfer-Encoding:\r\n")),
    "Transfer-Encoding: gzip, chunked": Case(
        framed(b"Transfer-Encoding: gzip, chunked\r\n", chunked(GZIP)), "encoding"
    ),
    "Transfer-Encoding: what": Case(response(b"Transfer-Encoding: what\r\n"), "encoding"),
    "chunked, identity": Case(framed(b"Transfer-Encoding: chunked, identity\r\n", chunked(READING)), "encoding"),
}
CODINGS = {
    **{name: Case(encoded(name.encode())) for name in ("utf-8", "UTF-8", "identity", "none", "", "binary", "json")},
    "gzip": Case(encoded(b"gzip", GZIP)),
    "GZIP, x-gzip": Case(encoded(b"GZIP, x-gzip", gzip.compress(GZIP))),
    "utf-8, gzip": Case(encoded(b"utf-8, gzip", GZIP)),
    "gzip in two lines": Case(encoded(b"gzip\r\nContent-Encoding: gzip", gzip.compress(GZIP))),
    "deflate, gzip": Case(encoded(b"deflate, gzip", gzip.compress(ZLIB))),
    "gzip in chunks": Case(in_chunks(chunked(GZIP[:20], GZIP[20:], b"x"), b"Content-Encoding: gzip\r\n")),
    "gzip until the end": Case(framed(b"Content-Encoding: gzip\r\n", GZIP), closes=True),
    "gzip and a byte": Case(encoded(b"gzip", GZIP + b"x")),
    "gzip and zeros": Case(encoded(b"gzip", GZIP + bytes(100))),
    "gzip in two members": Case(encoded(b"gzip", gzip.compress(READING[:9]) + gzip.compress(READING[9:]))),
    "gzip of nothing": Case(encoded(b"gzip", gzip.compress(b"")), b""),
    "gzip without a body": Case(encoded(b"gzip", b""), b""),
    "deflate": Case(encoded(b"deflate", ZLIB)),
    "deflate and a byte": Case(encoded(b"deflate", ZLIB + b"x")),
    "deflate, raw": Case(encoded(b"deflate", deflate_raw())),
    "deflate, raw, and a byte": Case(encoded(b"deflate", deflate_raw() + b"x")),
    "deflate without a body": Case(encoded(b"deflate", b""), b""),
    "gzip, cut": Case(encoded(b"gzip", GZIP[:-12]), "encoding"),
    "gzip without its checksum": Case(encoded(b"gzip", GZIP[:-8]), "encoding"),
    "gzip with a wrong checksum": Case(encoded(b"gzip", GZIP[:-8] + b"12345678"), "encoding"),
    "gzip, cut by the end": Case(framed(b"Content-Encoding: gzip\r\n", GZIP[:-12]), "encoding", closes=True),
    "gzip, and its second member is broken": Case(encoded(b"gzip", GZIP + GZIP[:9]), "encoding"),
    "gzip in 100,000 members": Case(encoded(b"gzip", gzip.compress(b"") * 100_000), "encoding"),
    "deflate, cut": Case(encoded(b"deflate", ZLIB[:-6]), "encoding"),
    "gzip for deflate": Case(encoded(b"deflate", GZIP), "encoding"),
    "text for gzip": Case(encoded(b"gzip"), "encoding"),
    "six of them": Case(encoded(b", ".join([b"gzip"] * 6)), "encoding"),
    "br": Case(encoded(b"br", b"\x0b\x02\x80{}\x03"), "encoding"),
    "zstd": Case(encoded(b"zstd", b"\x28\xb5\x2f\xfd"), "encoding"),
    "compress": Case(encoded(b"compress"), "encoding"),
    "a bomb": Case(encoded(b"gzip", gzip_bomb(6)), "too_large"),
    "a bomb in a bomb": Case(encoded(b"gzip, gzip", gzip.compress(gzip_bomb(20))), "too_large"),
    "exactly the limit": Case(encoded(b"gzip", gzip.compress(b"7" * MAX_BODY_BYTES)), b"7" * MAX_BODY_BYTES),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in {"head": HEADS, "length": LENGTHS, "chunks": CHUNKS, "coding": CODINGS}.items()
    for name, case in cases.items()
}
