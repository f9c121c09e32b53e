"""The YAML of a config file: its plain values, and the file, line and column of each of them."""

import copy
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from etl.readings.text import clipped, printable

MAX_DEPTH = 10
"""Levels of nesting; a config needs four."""
MAX_ALIASES = 100
"""YAML aliases (`*name`) in a file. Without a bound, a few lines of aliases stand for gigabytes of values."""
MAX_NUMBER_CHARACTERS = 100
"""Characters of a number. YAML has numbers in base 60 (`1:30:00`), which take minutes to convert at full file size."""
MAX_SHOWN_CHARACTERS = 60
"""Characters of a value that a message shows."""

_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")
_NAME_AND_DEFAULT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_LOGIN = re.compile(r"^(['\"]?(?:[A-Za-z0-9+.-]*:?//)?).*@", re.DOTALL)
"""What stands before the host of an address, up to the last @: a password may hold one, too."""
_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")
_TYPED = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
"""Tags of unquoted scalars that are not text. Dates stay text: a name or a header may look like one."""
_IN_QUOTES = "put the value in quotes"
_BACKSLASH = "use single quotes: in double quotes a backslash begins an escape"
_HINTS = {
    "found character '\\t'": "write spaces instead of the tab",
    "found character": _IN_QUOTES,
    "expected alphabetic or numeric": _IN_QUOTES,
    "could not find expected ':'": "write key: value, with a space after the colon",
    "mapping values": "put a value with a colon in quotes, and indent a key like its neighbours",
    "sequence entries": "begin the list on a line of its own",
    "found unexpected": "close the quote that opens here",
    "found unknown escape": _BACKSLASH,
    "expected escape sequence": _BACKSLASH,
    "expected ',' or": "close the bracket that opens here, or add the missing comma",
    "expected <block end>": "check the indentation of this line, and the quotes before it",
    "found undefined alias": "put it in quotes if it is text, or remove it",
    "but found another document": "remove this line and everything below it",
    "the tag": "write a plain value, without the tag",
    "more than": "write the values out",
    "nested": "a config has four levels",
    "": "check the indentation, quotes and brackets here",
}
"""What to do about a mistake in the YAML, by the first words of its message; the first match counts."""
_SHOWN_AT_ITS_START = ("could not find", "found unexpected", "expected ',' or", "expected alphabetic")
"""Mistakes that are shown where the quote, bracket or word begins, not where the parser missed its end."""

KeyPath = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""


class ConfigError(Exception):
    """The config cannot be used. `problems` are lines of the form `file:line:column: message; hint`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Loader(yaml.SafeLoader):
    """Composes nodes, and refuses tags, deep nesting and many aliases before they cost time or memory."""

    _depth = 0
    _aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            return self._compose_alias(event, super().compose_node(parent, index))
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise ComposerError(None, None, f"the tag {tag} is not allowed", event.start_mark)
        if self._depth > MAX_DEPTH:
            raise ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        self.anchors.pop(event.anchor, None)  # an anchor may be defined again
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _compose_alias(self, alias: Any, node: Any) -> Any:
        """A copy of the node with the place of the alias. It shares the children, so that it costs no more."""
        self._aliases += 1
        if self._aliases > MAX_ALIASES:
            raise ComposerError(None, None, f"more than {MAX_ALIASES} aliases", alias.start_mark)
        if node.end_mark is None:  # the node is not complete: the alias is inside it
            raise ComposerError(None, None, f"found undefined alias {alias.anchor!r}", alias.start_mark)
        copied = copy.copy(node)
        copied.start_mark, copied.end_mark = alias.start_mark, alias.end_mark
        return copied


class Document:
    """A YAML file. `value` is its content in dicts, lists, strings, numbers, booleans and None."""

    def __init__(
        self, file: Path, environment: Mapping[str, str], max_bytes: int, empty_hint: str, missing_hint: str
    ) -> None:
        """Read a file of at most `max_bytes`; the hints say what to do about an empty one and about a missing one.

        Raises:
            ConfigError: the file cannot be read, is not YAML, or uses what a config does not need.

        """
        self._file = file
        self._environment = environment
        self._values: dict[int, Any] = {}
        self._text = self._read(max_bytes, missing_hint)
        root = self._compose()
        if root is None:
            raise self.error(_mark_after(""), "the file is empty", empty_hint)
        self._root = root
        self.value = self._value(root)

    def _read(self, max_bytes: int, missing_hint: str) -> str:
        hint = "check its name, its owner and its mode"
        try:
            # Opening a FIFO waits for its other end; that of a shell's `<(command)`, below /dev, is open.
            if self._file.is_fifo() and not self._file.is_relative_to("/dev"):
                raise self.error(_mark_after(""), "cannot be read: it is a FIFO, not a regular file", hint)
            with self._file.open("rb") as file:
                content = file.read(max_bytes + 1)
        except FileNotFoundError:
            raise self.error(_mark_after(""), "the file does not exist", missing_hint) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise self.error(_mark_after(""), f"cannot be read: {reason}", hint) from None
        if len(content) > max_bytes:
            message = f"larger than {max_bytes >> 20} MiB"
            raise self.error(_mark_after(""), message, "a config lists sources, not readings")
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            mark = _mark_after(content[: error.start].decode(errors="replace"))
            raise self.error(mark, "not UTF-8 text", "save the file as UTF-8") from None

    def _compose(self) -> Any:
        """The root node; None of an empty file."""
        try:
            self._loader: Any = _Loader(self._text)
            return self._loader.get_single_node()
        except yaml.reader.ReaderError as error:
            message = str(error).partition("\n")[0]
            raise self.error(_mark_after(self._text[: error.position]), message, "remove it") from None
        except yaml.MarkedYAMLError as error:
            problem = error.problem or ""
            message = ", ".join(filter(None, (error.context, problem)))
            mark = error.context_mark if problem.startswith(_SHOWN_AT_ITS_START) else error.problem_mark
            hint = next(hint for begin, hint in _HINTS.items() if problem.startswith(begin))
            raise self.error(mark, message, hint) from None
        except (ValueError, OverflowError):  # PyYAML converts escapes and version numbers unchecked
            message, hint = "not a valid escape or number", "write the character itself, or use single quotes"
            raise self.error(self._loader.get_mark(), message, hint) from None

    def _value(self, node: yaml.Node) -> Any:
        """The plain value of a node. Aliases share it, so that nested aliases cost no more than references."""
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node.value) not in self._values:
            sequence = isinstance(node, yaml.SequenceNode)
            self._values[id(node.value)] = [*map(self._value, node.value)] if sequence else self._mapping(node)
        return self._values[id(node.value)]

    def _mapping(self, node: yaml.Node) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or not key_node.value:
                hint = "write key: value, and put a value that begins with { in quotes"
                raise self.error(key_node.start_mark, "a key must be a plain word", hint)
            key = self._writable(key_node, key_node.value)
            if key in mapping:
                raise self.error(key_node.start_mark, f"duplicate key {key}", "remove one of them")
            mapping[key] = self._value(value_node)
        return mapping

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        """A scalar by its type: unquoted it may be a number, a boolean or null; otherwise it is text."""
        text = self.expand(node)
        tag = node.tag
        if text != node.value:  # the variables decide, not their names
            tag = self._loader.resolve(yaml.ScalarNode, text, (not node.style, bool(node.style)))
        if tag not in _TYPED:
            return text
        if len(text) <= MAX_NUMBER_CHARACTERS:
            with suppress(ValueError, OverflowError):  # such as 0b_, which only looks like a number
                return self._loader.construct_object(yaml.ScalarNode(tag, text))
        raise self.error(node.start_mark, "this number cannot be read", "put it in quotes if it is text")

    def expand(self, node: yaml.Node) -> str:
        """The text of a scalar, with the values of its variables."""
        return self._writable(node, _VARIABLE.sub(lambda match: self._variable(node, match), node.value))

    def _writable(self, node: yaml.Node, text: str) -> str:
        if _UNWRITABLE.search(text):
            raise self.error(node.start_mark, "a character here cannot be written to a file", "remove it")
        return text

    def _variable(self, node: yaml.Node, match: re.Match[str]) -> str:
        parts = _NAME_AND_DEFAULT.fullmatch(match[1])
        if not parts or not match[2]:
            message = f"{match[0]} is not a variable"
            raise self.error(node.start_mark, message, "write ${NAME} or ${NAME:-default}")
        name, default = parts.groups()
        value = self._environment.get(name)
        if default is not None:
            return value or default
        if value is None:
            message = f"the environment variable {name} is not set"
            raise self.error(node.start_mark, message, f"set it, or write ${{{name}:-default}}")
        return value

    def error(self, mark: Any, message: str, hint: str) -> ConfigError:
        """A problem of this file as an error."""
        return ConfigError([self.line(mark, message, hint)])

    def line(self, mark: Any, message: str, hint: str) -> str:
        """A problem as a line for users; `mark` is a mark of PyYAML."""
        return f"{self._file}:{mark.line + 1}:{mark.column + 1}: {printable(message)}; {printable(hint)}"

    def node(self, path: KeyPath, *, of_key: bool = False) -> yaml.Node:
        """The node of a value, or of its key. Of a value that the file leaves out: the group it belongs to."""
        key_node: yaml.Node = self._root
        node: yaml.Node = self._root
        for part in path:
            if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                key_node = node = node.value[part]
                continue
            pair = next((pair for pair in node.value if pair[0].value == part), None)
            if pair is None:
                break
            key_node, node = pair
        return key_node if of_key else node

    def written(self, node: yaml.Node) -> str:
        """A value as the file has it: variables by name, no login or query of an address, cut after 60 characters."""
        written = " ".join(self._text[node.start_mark.index : node.end_mark.index].split())
        written = _LOGIN.sub(r"\1...@", written)
        written = re.sub(r"(//[^?]*\?)[^\s'\"]+", r"\1...", written)
        return clipped(written, MAX_SHOWN_CHARACTERS)


def _mark_after(text: str) -> yaml.Mark:
    """The place after a text that begins the file."""
    return yaml.Mark("", len(text), text.count("\n"), len(text) - text.rfind("\n") - 1, None, 0)
