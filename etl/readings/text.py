"""Text for people: made safe for a terminal, a log line or a page; counts that agree with their noun."""

import re
from collections.abc import Iterable, Sequence

_HOST_AND_PORT = re.compile(r"([^:@\[\]]+|\[[^\[\]]*\])(:[0-9]*)?")


def printable(text: str) -> str:
    r"""The text with every character that is not printable (control characters, line feeds, bidi marks) as \uXXXX."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)


def shortened(text: str, limit: int) -> str:
    """The text as it is, of at most `limit` characters; "..." stands for the rest."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def clipped(text: str, limit: int) -> str:
    """The text on one line, printable, of at most `limit` characters; "..." stands for the rest."""
    line = printable(re.sub(r"\s+", " ", text[: 2 * limit].strip()))
    return line if len(line) <= limit and len(text) <= 2 * limit else line[: limit - 3] + "..."


def shown_key(key: str, limit: int) -> str:
    """A key of a reading for messages, clipped; in quotes where spaces at its ends would not show."""
    return clipped(key if key == key.strip() else f'"{key}"', limit)


def excerpt(body: bytes, limit: int = 80) -> str:
    """The first characters of an answer, clipped; bytes that are not UTF-8 as U+FFFD."""
    return clipped(body[: 4 * limit].decode(errors="replace"), limit)


def shown_address(address: str) -> str:
    """A URL or a path for messages: without login and query, which may hold secrets."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return clipped(address, 200)
    before, _, query = rest.partition("?")
    netloc, slash, path = before.partition("/")
    if "@" in path and not _HOST_AND_PORT.fullmatch(netloc.rpartition("@")[2]):
        netloc, slash, path = before, "", ""  # a slash in the password: the host begins after the last @
    return clipped(f"{scheme}://{netloc.rpartition('@')[2]}{slash}{path}{'?...' if query else ''}", 200)


def plural(count: float, noun: str, nouns: str = "") -> str:
    """A count, rounded to a whole number, with its noun: "1 line", "2,000 lines"; `nouns` is a plural without -s."""
    text = f"{count:,.0f}"
    return f"{text} {noun if text == '1' else nouns or noun + 's'}"


def alternatives(names: Iterable[str]) -> str:
    """Names as a choice: "url", "url or file", "url, file or opcua"; empty without names."""
    *first, last = [*names] or [""]
    return f"{', '.join(first)} or {last}" if first else last


def natural_key(text: str) -> list[str | tuple[int, str]]:
    """A sort key by which m2 comes before m10: texts and the numbers between them alternate."""
    parts = re.split("([0-9]+)", text)
    # Numbers are compared as text, the shorter one first: Python converts no text of more than 4,300 digits.
    return [(len(n := part.lstrip("0")), n) if place % 2 else part for place, part in enumerate(parts)]


def day_range(days: Sequence[str]) -> str:
    """The first and the last of some days, at least one: "2026-01-05", "2026-01-05 to 2026-01-09"."""
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def duration(seconds: float) -> str:
    """A duration in the largest unit of which it has at least two."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:g} s"
