"""What an answer is that is not JSON, and what to change. Pure."""

import json
import re

import orjson

_TEXTS = (
    (rb"\s*\Z", "the answer is empty: is this the right address or file?"),
    (rb"\x1f\x8b", "the answer is gzip: a machine must send Content-Encoding: gzip, a file must be unpacked"),
    (rb"\xff\xfe|\xfe\xff|.{0,100}\x00", "the answer is UTF-16 or binary: the machine must send JSON as UTF-8"),
    (rb"\xef\xbb\xbf", "the answer begins with a byte order mark: the machine must send UTF-8 without it"),
    (rb"\s*<\?xml", "the answer is XML: does the machine offer JSON at another address, or for another Accept header?"),
    (rb"\s*<", "the answer is a web page: the readings have another address, or this one asks for a login"),
    (rb"\s*[\[{]\s*'", "the answer has single quotes: JSON needs double ones"),
    (rb"\s*[\w.$]+\(", "the answer is JSONP, the call of a function: leave the callback out of url"),
    (rb"\s*[\[{]", "the answer has a mistake or lacks its end: the machine must send a JSON object, and all of it"),
    (rb"", 'the machine must answer with a JSON object, such as {"temperature": 21.5, "status": "IDLE"}'),
)
"""What an answer is that is not JSON, by how it begins; the first match counts."""


def about_text(body: bytes) -> str:
    """What an answer is that is not JSON."""
    if constants := _constants(body):
        return f"the answer has {constants[0]}, which JSON does not have: the machine must send null instead"
    lines = body.split(b"\n", 2)[:2]
    if len(lines) == 2 and all(_is_json(line) for line in lines):
        return "the answer has a JSON document on each line: an answer is one document; a file of lines ends in .jsonl"
    if body.startswith((b"{", b"[")) and body.decode(errors="ignore").encode() != body:
        return "the answer is not UTF-8 text: the machine must send a JSON object in UTF-8"
    return next(hint for pattern, hint in _TEXTS if re.match(pattern, body, re.DOTALL))


def _constants(body: bytes) -> list[str]:
    """The names of numbers in an answer that JavaScript has and JSON has not, such as NaN."""
    names: list[str] = []
    try:
        json.loads(body, parse_constant=names.append)
    except (ValueError, RecursionError):
        return []
    return names


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
