"""Text from outside made safe for a terminal, a log line or a page."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The text with every character that is not printable (control characters, line feeds, bidi marks) as \uXXXX."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
