"""Two files of lines, or two JSON values, held against each other, and the difference in words. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple

import orjson

AHEAD = (8, 64, 512, 4096)
"""How many lines are looked at, step by step, to find where two files agree again."""
LONGEST = 300
"""Characters of a value or a line that are shown, at most."""


class Difference(NamedTuple):
    """Where a file differs from what is expected, by the number of its line.

    Without `found`, `lines` lines are missing there, of which `expected` is the first; without `expected`, `lines`
    lines are surplus. `end`: nothing follows.
    """

    line: int
    expected: bytes
    found: bytes
    lines: int = 1
    end: bool = False


def differences(expected: Iterable[bytes], found: Iterable[bytes]) -> Iterator[Difference]:
    """Walk through two files side by side, in memory that does not grow; a line that is lost shifts no other."""
    wanted_on, there_on = iter(expected), iter(found)
    wanted: deque[bytes] = deque()
    there: deque[bytes] = deque()
    line = 1
    while True:
        for e, f in zip_longest(chain(_taken(wanted), wanted_on), chain(_taken(there), there_on), fillvalue=b""):
            if e != f:
                break
            line += 1
        else:
            return
        if not (e and f):
            count = 1 + len(wanted) + len(there) + sum(1 for _ in chain(wanted_on, there_on))
            yield Difference(line, e, f, count, end=True)
            return
        wanted.appendleft(e)
        there.appendleft(f)
        i, j = _meet(wanted, wanted_on, there, there_on)
        yield from _apart(line, [wanted.popleft() for _ in range(i)], [there.popleft() for _ in range(j)])
        line += j


def _taken(lines: deque[bytes]) -> Iterator[bytes]:
    while lines:
        yield lines.popleft()


def _meet(wanted: deque[bytes], wanted_on: Iterator[bytes], there: deque[bytes], there_on: Iterator[bytes]) -> Any:
    """How many lines of each to pass over, as few as can be, until both go on with the same line."""
    for ahead in AHEAD:
        wanted.extend(islice(wanted_on, max(0, ahead - len(wanted))))
        there.extend(islice(there_on, max(0, ahead - len(there))))
        places: dict[bytes, int] = {}
        for j, line in enumerate(there):
            places.setdefault(line, j)
        ways = ((i + places[line], i, places[line]) for i, line in enumerate(wanted) if line in places)
        if nearest := min(ways, default=None):
            return nearest[1:]
    return len(wanted), len(there)


def _apart(line: int, wanted: list[bytes], there: list[bytes]) -> Iterator[Difference]:
    for e, f in zip(wanted, there, strict=False):
        yield Difference(line, e, f)
        line += 1
    missing, surplus = wanted[len(there) :], there[len(wanted) :]
    if missing or surplus:
        yield Difference(line, next(iter(missing), b""), next(iter(surplus), b""), len(missing or surplus))


def described(difference: Difference) -> str:
    """Say what is wrong with a line, or between two lines."""
    _, expected, found, count, _ = difference
    if not found:
        return f"{_lines(count)} missing here: {shown_line(expected)}"
    if not expected:
        return f"{_lines(count)} surplus: {shown_line(found)}"
    try:
        keys = _keys(orjson.loads(expected), orjson.loads(found))
    except orjson.JSONDecodeError:
        return f"is not JSON: {shown_line(found)}"
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return (", ".join(keys[:3]) or f"is written differently: {shown_line(found)}") + more


def _lines(count: int) -> str:
    return "a line is" if count == 1 else f"{count} lines are"


def _keys(expected: Any, found: Any) -> list[str]:
    if not isinstance(found, dict):
        return [differs("the line", found, expected)]
    keys = [f"{key} is missing" for key in expected if key not in found]
    keys += [f"{shown(key)} is surplus" for key in found if key not in expected]
    both = [key for key in expected if key in found]
    return keys + [differs(key, found[key], expected[key]) for key in both if not same(found[key], expected[key])]


def same(found: Any, expected: Any) -> bool:
    """Whether two JSON values are the same to the last bit: 1, 1.0 and true are three values."""
    return bool(found == expected) and (type(found) is type(expected) is str or repr(found) == repr(expected))


def differs(what: str, found: Any, expected: Any) -> str:
    """Say that a value is another one than expected."""
    return f"{what} is {shown(found)}, expected {shown(expected)}"


def shown(value: Any) -> str:
    """A JSON value for people: ASCII on one line, cut where it is long."""
    return _cut(json.dumps(value))


def shown_line(line: bytes) -> str:
    """A line of a file for people, in the same way, whatever bytes it has."""
    text = line.rstrip(b"\n").decode("ascii", "backslashreplace")
    return _cut("".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
