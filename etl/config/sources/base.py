"""What every kind of source has: its common keys, and what the rest of the program asks of a source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import msgspec
from msgspec import Meta

from etl.config.document import KeyPath

DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

ProblemOf = Callable[[str], tuple[str, str] | None]
"""Why a text cannot be used, and what to write instead; None if it can."""


class Duration(float):
    """Seconds; written as a number and ms, s, m or h."""

    @classmethod
    def parse(cls, value: Any) -> Duration:
        """A duration from its text; ValueError if it is not one."""
        match = DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is not a duration")
        return cls(float(match[1]) * _SECONDS[match[2]])


class Mistake(NamedTuple):
    """What is wrong with the value at `path`, which starts at the entry of the source.

    `{value}` in `message` and `hint` stands for the value as it is written. Without a hint, that of the key counts.
    """

    path: KeyPath
    message: str
    hint: str = ""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A source. The kind is chosen by its key, such as `url`, which holds the address.

    A kind is a struct with its own keys. Structs inside of it have `hints` too, for each of their keys.
    """

    key: ClassVar[str]
    """The key that chooses the kind."""
    label: ClassVar[str]
    """What the key holds, in a sentence: "an http:// address"."""
    no_answer: ClassVar[str] = "no answer yet"
    """What a poll without failure and without answers means."""
    hints: ClassVar[dict[str, str]] = {
        "name": "write 1 to 200 printable characters, different for each source",
        "timeout": "write a number and a unit, such as 5s; at most 0.8 of the interval",
        "count": "write how many sources this entry stands for, 1 to 100000, with {n} in the name",
    }
    """What to write, by key: the hint behind a problem, and the description in the JSON Schema."""
    unknown_key_hints: ClassVar[dict[str, str]] = {}
    """Patterns of keys that people may write and the kind does not have, each with a hint."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes of its addresses, those included that it names a mistake itself: `url: opc.tcp://...` gets a hint."""
    secrets: ClassVar[tuple[str, ...]] = ()
    """The keys whose values no message shows."""
    templates: ClassVar[tuple[str, ...]] = ()
    """The keys in which `{n}` is replaced, beside `name`."""
    paths: ClassVar[tuple[str, ...]] = ()
    """The keys that hold the path of a file of this machine."""
    has_deadline: ClassVar[bool] = True
    """Whether a poll ends at its timeout."""
    package: ClassVar[str] = ""
    """The module that polls need and a plain installation lacks, from the extra `extra`; empty if there is none."""
    extra: ClassVar[str] = ""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    timeout: Duration | None = None
    count: Annotated[int, Meta(ge=1, le=100_000)] | None = None

    @property
    def address(self) -> str:
        """What is polled, for people; it may hold a login."""
        return str(getattr(self, self.key))

    @property
    def records(self) -> str | None:
        """The JMESPath expression that selects readings from an answer; None if an answer is a reading."""
        return None

    @property
    def by_key(self) -> bool:
        """Whether `records` gives an object whose keys are the ids of its readings."""
        return False

    @property
    def always_sends(self) -> bool:
        """Whether each poll without failure has a reading; `records` may match none."""
        return self.records is None

    @property
    def advice(self) -> dict[str, str]:
        """What to do about a failed poll, by words of its sentence or by its code, before the general advice."""
        return {}

    def expand(self) -> Iterator[Self]:
        """The sources this entry stands for: with `count`, one for each number of `{n}`; else the entry itself."""
        if self.count is None:
            yield self
            return
        for n in range(1, self.count + 1):
            yield self.numbered(n)

    def numbered(self, n: int) -> Self:
        """The source that this entry stands for at one number of `{n}`."""
        texts = {key: getattr(self, key).replace("{n}", str(n)) for key in ("name", *self.templates)}
        return msgspec.structs.replace(self, **texts, count=None)

    def address_mistakes(self, problem_of: ProblemOf) -> Iterator[Mistake]:
        """Why the address cannot be polled: of a template the first or the last one that it stands for."""
        numbers = (1, self.count) if self.count else ()
        addresses = [self.address.replace("{n}", str(n)) for n in numbers] or [self.address]
        problem = next(filter(None, map(problem_of, addresses)), None)
        if problem and "{n}" in self.address and not numbers:
            problem = ("it has {n}, but the source has no count", self.hints["count"])
        if problem:
            yield Mistake((self.key,), f"{self.key} cannot be {{value}}: {problem[0]}", problem[1])

    def mistakes(self) -> Iterator[Mistake]:
        """Why the source cannot be polled, beyond the types of its keys."""
        yield from ()

    def warnings(self, folder: Path, output: Path) -> Iterator[Mistake]:
        """What `etl check` warns of. Relative paths start at `folder`; `output` is the output folder."""
        del folder, output
        yield from ()


class JsonSource(Source, frozen=True, kw_only=True):
    """A source whose answers are JSON documents, from which `records` selects readings."""

    hints = Source.hints | {
        "records": "write a JMESPath expression that selects a reading or a list of readings, such as machines[]",
        "id": "write id: key, beside records that give readings by their ids, "
        "or leave it out and select the id in records",
    }
    records: str | None = None
    id: Literal["key"] | None = None

    @property
    def by_key(self) -> bool:
        """Whether `records` gives an object whose keys are the ids of its readings."""
        return self.id == "key"
