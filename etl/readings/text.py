"""Text that a machine, a file or a user sent, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The text on one line, without terminal control sequences: what is not printable becomes `\uXXXX`."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
