"""A YAML file as plain values, with the place of each of them, so that a mistake can be named where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

DEEPEST = 10
"""Levels of nesting, at most; a config needs four."""
ALIASES = 100
"""YAML aliases (`*name`), at most."""

_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")
_NAME_AND_DEFAULT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_UNUSABLE = re.compile(r"[\x00\ud800-\udfff]")
_TYPED = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
"""Tags of unquoted words that are not text."""
_BACKSLASH = ("a backslash in double quotes has a meaning of its own", "use single quotes")
_UNQUOTED = ("a value cannot begin with this character", "put the value in quotes")
_MISTAKES: dict[str, tuple[str, str]] = {
    "found character '\\t'": ("a tab stands here", "write spaces instead"),
    "found character": _UNQUOTED,
    "expected alphabetic or numeric": _UNQUOTED,
    "could not find expected ':'": ("the colon after this word is missing", "write key: value"),
    "mapping values": (
        "a colon cannot stand here",
        "put a value with a colon in quotes; indent a key like its neighbours",
    ),
    "sequence entries": ("a list item cannot stand here", "begin it on a line of its own"),
    "found unexpected": ("the quote that opens here is not closed", "close it"),
    "found unknown escape": _BACKSLASH,
    "expected escape sequence": _BACKSLASH,
    "expected ',' or": ("the bracket that opens here is not closed, or a comma in it is missing", "close it"),
    "expected <block end>": ("this does not fit the lines above it", "check its indentation, and the quotes before it"),
    "": ("this is not YAML", "check the indentation, quotes and brackets here"),
}
"""What PyYAML says of a mistake, by its first words: what we say, and what to do."""
_BEGAN = ("could not find", "found unexpected", "expected ',' or", "expected alphabetic")
"""Mistakes that are shown where the thing began, not where it was missed."""

Where = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""


class ConfigError(Exception):
    """The config cannot be used; `problems` are lines of `file:line:column: what, and a hint`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Document:
    """A YAML document as plain values, with the place of each of them.

    It is read event by event: what is refused is met before it can grow, and an alias costs no more than a reference.
    """

    def __init__(self, file: Path, environment: Mapping[str, str], biggest: int, hint: str) -> None:
        """Read a file of at most `biggest` bytes; `hint` says what to write into an empty one.

        Raises:
            ConfigError: it cannot be read.

        """
        self._file = file
        self._hint = hint
        self._environment = environment
        self.keys: dict[Where, Any] = {}
        self._values: dict[Where, Any] = {}
        self._anchors: dict[str, Any] = {}
        self._aliases = 0
        self._text = self._decode(self._load(biggest))
        self.value = self._parse()

    def _load(self, biggest: int) -> bytes:
        try:
            with self._file.open("rb") as opened:
                content = opened.read(biggest + 1)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise self.error((1, 1), f"cannot be read: {why}", "check its name, its owner and its mode") from None
        if len(content) > biggest:
            what = f"larger than {biggest >> 20} MiB"
            raise self.error((1, 1), what, "a config lists sources, not readings")
        return content

    def _decode(self, content: bytes) -> str:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode(errors="replace")
            raise self.error(_place_after(before), "this is not UTF-8 text", "save the file as UTF-8") from None

    def _parse(self) -> Any:
        try:
            self._loader = cast(Any, yaml.SafeLoader(self._text))
            self._loader.get_event()  # the stream begins
            if self._loader.check_event(yaml.StreamEndEvent):
                raise self.error((1, 1), "the file is empty", self._hint)
            self._loader.get_event()  # the document begins
            value = self._read(())
            self._loader.get_event()  # the document ends
            if not self._loader.check_event(yaml.StreamEndEvent):
                raise self.error(
                    self._loader.peek_event(), "a second document begins here", "remove this line, and what is below it"
                )
            return value
        except yaml.reader.ReaderError as error:
            place = _place_after(self._text[: error.position])
            what = f"the character {printable(self._text[error.position])} is not allowed"
            raise self.error(place, what, "remove it") from None
        except yaml.MarkedYAMLError as error:
            raise self.error(*_explained(error)) from None
        except (ValueError, OverflowError):  # an escape that is no character, a number of more digits than Python reads
            raise self.error(
                self._loader.get_mark(),
                "this escape is no character",
                "write the character itself, or use single quotes",
            ) from None

    def _read(self, path: Where) -> Any:
        """The next value of the document."""
        event = self._loader.get_event()
        self._values[path] = event
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        self._refuse_tag(event)
        if len(path) > DEEPEST:
            raise self.error(event, "this is nested too deeply", "a config has four levels")
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not self._loader.check_event(yaml.SequenceEndEvent):
                value.append(self._read((*path, len(value))))
            self._loader.get_event()
        else:
            value = self._mapping(path)
        if event.anchor:
            self._anchors[event.anchor] = value
        return value

    def _aliased(self, event: Any) -> Any:
        self._aliases += 1
        if self._aliases > ALIASES:
            raise self.error(event, f"more than {ALIASES} aliases", "write the values out")
        if event.anchor not in self._anchors:
            what = f"*{event.anchor} names nothing above it"
            raise self.error(event, what, "put it in quotes if it is text, or remove it")
        return self._anchors[event.anchor]

    def _refuse_tag(self, event: Any) -> None:
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self.error(event, f"the tag {tag} is not allowed", "write a plain value, without the tag")

    def _mapping(self, path: Where) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            event = self._loader.get_event()
            if not isinstance(event, yaml.ScalarEvent) or not event.value:
                what = "a word must stand before the colon"
                raise self.error(event, what, "write key: value, and put a value that begins with { in quotes")
            self._refuse_tag(event)
            key = self._usable(event, event.value)
            if key in plain:
                raise self.error(event, f"{key} stands here twice", "remove one of them")
            self.keys[(*path, key)] = event
            plain[key] = self._read((*path, key))
        self._loader.get_event()
        return plain

    def _scalar(self, event: Any) -> Any:
        """A word as what it means: unquoted it may be a number, true or false, or nothing; else it is text."""
        text = self.filled(event)
        tag = self._loader.resolve(yaml.ScalarNode, text, (not event.style, bool(event.style)))
        if tag not in _TYPED:
            return text
        try:
            return self._loader.construct_object(yaml.ScalarNode(tag, text))
        except (ValueError, OverflowError):
            raise self.error(event, "this number cannot be read", "put it in quotes if it is text") from None

    def filled(self, event: Any) -> str:
        """A word with its variables replaced."""
        return self._usable(event, _VARIABLE.sub(lambda match: self._variable(event, match), event.value))

    def _usable(self, event: Any, text: str) -> str:
        if _UNUSABLE.search(text):
            raise self.error(event, "a character here cannot be written to a file", "remove it")
        return text

    def _variable(self, event: Any, match: re.Match[str]) -> str:
        found = _NAME_AND_DEFAULT.fullmatch(match[1])
        if not found or not match[2]:
            what = f"{match[0]} is not a variable"
            raise self.error(event, what, "write ${NAME} or ${NAME:-default}")
        name, default = found.groups()
        value = self._environment.get(name)
        if default is not None:
            return value or default
        if value is None:
            what = f"the environment has no {name}"
            raise self.error(event, what, f"set it, or write ${{{name}:-default}}")
        return value

    def error(self, place: Any, what: str, hint: str) -> ConfigError:
        """One problem as an error."""
        return ConfigError([self.line(place, what, hint)])

    def line(self, place: Any, what: str, hint: str) -> str:
        """A problem as it is told; its place is an event, a mark, or a line and column."""
        if not isinstance(place, tuple):
            mark = getattr(place, "start_mark", place)
            place = (mark.line + 1, mark.column + 1)
        return f"{self._file}:{place[0]}:{place[1]}: {printable(what)}; {printable(hint)}"

    def event(self, where: Where) -> Any:
        """Where a value was read, else the alias or the group that it came with."""
        while where not in self._values:
            where = where[:-1]
        return self._values[where]

    def written(self, event: Any) -> str:
        """A value as it stands in the file: variables by name, passwords left out."""
        written = " ".join(self._text[event.start_mark.index : event.end_mark.index].split())
        written = re.sub("//[^/@]*@", "//...@", written)
        return written if len(written) <= 60 else written[:57] + "..."


def _place_after(text: str) -> tuple[int, int]:
    """The line and column of what follows a text, from 1."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def printable(text: str) -> str:
    """A text that cannot disturb a terminal or begin a line."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def _explained(error: yaml.MarkedYAMLError) -> tuple[Any, str, str]:
    """Where a file stops being YAML, what is wrong there, and what to do."""
    problem = error.problem or ""
    what, hint = next(said for begins, said in _MISTAKES.items() if problem.startswith(begins))
    return error.context_mark if problem.startswith(_BEGAN) else error.problem_mark, what, hint
