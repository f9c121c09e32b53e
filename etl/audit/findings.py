"""The results of a check."""

from collections.abc import Iterator
from typing import NamedTuple

MAX_LISTED = 5
"""Findings of one kind that are listed for each day; the others are counted."""
MAX_SHOWN_CHARS = 200
"""Characters shown of a value or a line."""


class Finding(NamedTuple):
    """One line about the folder. `wrong` is the number of wrong lines or figures; 0 makes it a note."""

    text: str
    wrong: int = 1


class Findings:
    """Findings of one kind about one day: the first MAX_LISTED, and the count of the others."""

    def __init__(self) -> None:
        self._listed: list[Finding] = []
        self._unlisted = 0
        self._unlisted_wrong = 0

    def add(self, text: str, wrong: int = 1) -> None:
        """Add a finding."""
        if len(self._listed) < MAX_LISTED:
            self._listed.append(Finding(text, wrong))
        else:
            self._unlisted += 1
            self._unlisted_wrong += wrong

    def __iter__(self) -> Iterator[Finding]:
        yield from self._listed
        if self._unlisted:
            yield Finding(f"... and {self._unlisted:,} more", self._unlisted_wrong)
