"""Text for people: made safe for a terminal, a log line or a page; counts that agree with their noun."""

from collections.abc import Sequence


def printable(text: str) -> str:
    r"""The text with every character that is not printable (control characters, line feeds, bidi marks) as \uXXXX."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)


def plural(count: float, noun: str, nouns: str = "") -> str:
    """A count, rounded to a whole number, with its noun: "1 line", "2,000 lines"; `nouns` is a plural without -s."""
    text = f"{count:,.0f}"
    return f"{text} {noun if text == '1' else nouns or noun + 's'}"


def day_range(days: Sequence[str]) -> str:
    """The first and the last of some days, at least one: "2026-01-05", "2026-01-05 to 2026-01-09"."""
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
