"""Settings: typed, frozen, strict. Reading them touches no network and changes nothing."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args, get_origin
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec
import yaml
from msgspec import Meta
from tzlocal import get_localzone_name

from etl.records import Settings

BIGGEST = 1 << 20
"""Bytes of a config file, at most."""

DEEPEST = 10
"""Levels of nesting, at most; a config needs four."""
ALIASES = 100
"""YAML aliases (`*name`), at most."""
MANY = 100
"""Problems that are told at once, at most."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")
_NAME_AND_DEFAULT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_UNUSABLE = re.compile(r"[\x00\ud800-\udfff]")
_TYPED = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
"""Tags of unquoted words that are not text."""
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ADDRESS = re.compile(r"([A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Za-z:.%]+\])(:[0-9]+)?")
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
_Path = tuple[str | int, ...]


class Duration(float):
    """Seconds; written as a number and ms, s, m or h."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A machine to read: over HTTP, or from a file."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    url: str | None = None
    file: str | None = None
    timeout: Duration | None = None
    headers: dict[str, str] = {}
    ca_file: str | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where lines go."""

    folder: Annotated[str, Meta(min_length=1)] = "output"
    stdout: tuple[Literal["raw", "averages"], ...] = ("raw", "averages")
    fsync: Literal["always", "10s", "never"] = "always"
    keep_days: Annotated[int, Meta(ge=1)] | None = None
    compress: Literal["gzip"] | None = None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the night's report is made, and what it calls an anomaly."""

    at: Annotated[str, Meta(pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")] = "00:05"
    threshold: Annotated[float, Meta(ge=0)] = 0.2


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The simulated machines and what the process tells of itself."""

    serve: bool = True
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 5000
    machines: Annotated[int, Meta(ge=1, le=10_000)] = 1


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of config.yaml, with its defaults."""

    sources: Annotated[tuple[Source, ...], Meta(min_length=1)]
    interval: Duration = Duration(10)
    window: Annotated[int, Meta(ge=1, le=1000)] = 5
    timezone: str = "local"
    parameters: Annotated[dict[str, Annotated[str, Meta(min_length=1)]], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: {"temperature": "temperature", "speed": "fan_speed"}
    )
    output: Output = Output()
    report: Report = Report()
    api: Api = Api()


HINTS = {
    "interval": "write a number and a unit, such as 10s; from 100ms to 24h",
    "window": "write how many readings an average spans, 1 to 1000",
    "timezone": "write local, or a zone such as Europe/Berlin or UTC",
    "sources": "write sources: and below it, for each source, - name: machine-1 with a url: or a file:",
    "name": "write 1 to 200 printable characters, different for each source",
    "url": "write an http:// or https:// address",
    "file": "write the path of a JSON file, from this file's folder",
    "timeout": "write a number and a unit, such as 5s; at most 0.8 of the interval",
    "headers": "write Name: value in plain ASCII, numbers in quotes, no space at the ends",
    "ca_file": "write the path of a PEM file, from this file's folder",
    "parameters": "write a name and the field of the reading it averages, such as speed: fan_speed",
    "output": "write folder: and stdout: below it",
    "folder": "write a path, from this file's folder",
    "stdout": "write a list of raw, averages, both or none: [raw, averages]",
    "fsync": "write always, 10s or never",
    "keep_days": "write how many days to keep, 1 or more, or leave it out to keep all",
    "compress": "write gzip, or leave it out",
    "report": "write at: and threshold: below it",
    "at": 'write a local time in quotes, such as "00:05"',
    "threshold": "write a number without quotes, 0 or more; 0.2 is 20 %",
    "api": "write serve:, host:, port: and machines: below it",
    "serve": "write true or false without quotes",
    "host": "write an address to listen on, such as 127.0.0.1",
    "port": "write a port without quotes, 1 to 65535",
    "machines": "write how many machines to simulate, 1 to 10000",
}
"""What to do about a wrong value, by key."""


class ConfigError(Exception):
    """The config cannot be used; `problems` are lines of `file:line:column: what, and a hint`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Loaded(NamedTuple):
    """A checked config, with what was worked out of it."""

    file: Path
    config: Config
    settings: Settings

    def path(self, written: str) -> Path:
        """A path as it was written, from the config's folder."""
        return self.file.parent / written

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose midnight ends a day."""
        return ZoneInfo(self.settings.timezone)

    def timeout(self, source: Source) -> float:
        """The total deadline of a poll in seconds."""
        return source.timeout or min(5.0, 0.8 * self.config.interval)


class _Problem(NamedTuple):
    """Something wrong with the value at `path`, or with its key; without a hint, the one of `key` in HINTS."""

    path: _Path
    key: str
    what: str
    hint: str = ""
    at_key: bool = False


def load(file: Path, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read and check a config file.

    Raises:
        ConfigError: it cannot be read or used; every problem that was found is in it.

    """
    try:
        with file.open("rb") as opened:
            content = opened.read(BIGGEST + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError([f"{file}:1:1: cannot be read: {why}; name another with --config"]) from None
    if len(content) > BIGGEST:
        raise ConfigError([f"{file}:1:1: larger than 1 MiB; a config lists sources, not readings"])
    return _Document(file, content, environment).loaded()


class _Document:
    """A YAML document as plain values, with the place of each of them.

    It is read event by event: what is refused is met before it can grow, and an alias costs no more than a reference.
    """

    def __init__(self, file: Path, content: bytes, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = environment
        self._keys: dict[_Path, Any] = {}
        self._values: dict[_Path, Any] = {}
        self._anchors: dict[str, Any] = {}
        self._aliases = 0
        self._text = self._decode(content)
        self._value = self._parse()

    def _decode(self, content: bytes) -> str:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = content[: error.start].decode(errors="replace")
            raise self._error(_place_after(before), "this is not UTF-8 text", "save the file as UTF-8") from None

    def _parse(self) -> Any:
        try:
            self._loader = cast(Any, yaml.SafeLoader(self._text))
            self._loader.get_event()  # the stream begins
            if self._loader.check_event(yaml.StreamEndEvent):
                raise self._error((1, 1), "the file is empty", HINTS["sources"])
            self._loader.get_event()  # the document begins
            value = self._read(())
            self._loader.get_event()  # the document ends
            if not self._loader.check_event(yaml.StreamEndEvent):
                raise self._error(
                    self._loader.peek_event(), "a second document begins here", "remove this line, and what is below it"
                )
            return value
        except yaml.reader.ReaderError as error:
            place = _place_after(self._text[: error.position])
            what = f"the character {_printable(self._text[error.position])} is not allowed"
            raise self._error(place, what, "remove it") from None
        except yaml.MarkedYAMLError as error:
            raise self._error(*_explained(error)) from None
        except (ValueError, OverflowError):  # an escape that is no character, a number of more digits than Python reads
            raise self._error(
                self._loader.get_mark(),
                "this escape is no character",
                "write the character itself, or use single quotes",
            ) from None

    def _read(self, path: _Path) -> Any:
        """The next value of the document."""
        event = self._loader.get_event()
        self._values[path] = event
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        self._refuse_tag(event)
        if len(path) > DEEPEST:
            raise self._error(event, "this is nested too deeply", "a config has four levels")
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
            raise self._error(event, f"more than {ALIASES} aliases", "write the values out")
        if event.anchor not in self._anchors:
            what = f"*{event.anchor} names nothing above it"
            raise self._error(event, what, "put it in quotes if it is text, or remove it")
        return self._anchors[event.anchor]

    def _refuse_tag(self, event: Any) -> None:
        if event.tag:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(event, f"the tag {tag} is not allowed", "write a plain value, without the tag")

    def _mapping(self, path: _Path) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            event = self._loader.get_event()
            if not isinstance(event, yaml.ScalarEvent) or not event.value:
                what = "a word must stand before the colon"
                raise self._error(event, what, "write key: value, and put a value that begins with { in quotes")
            self._refuse_tag(event)
            key = self._usable(event, event.value)
            if key in plain:
                raise self._error(event, f"{key} stands here twice", "remove one of them")
            self._keys[(*path, key)] = event
            plain[key] = self._read((*path, key))
        self._loader.get_event()
        return plain

    def _scalar(self, event: Any) -> Any:
        """A word as what it means: unquoted it may be a number, true or false, or nothing; else it is text."""
        text = self._filled(event)
        tag = self._loader.resolve(yaml.ScalarNode, text, (not event.style, bool(event.style)))
        if tag not in _TYPED:
            return text
        try:
            return self._loader.construct_object(yaml.ScalarNode(tag, text))
        except (ValueError, OverflowError):
            raise self._error(event, "this number cannot be read", "put it in quotes if it is text") from None

    def _filled(self, event: Any) -> str:
        """A word with its variables replaced."""
        return self._usable(event, _VARIABLE.sub(lambda match: self._variable(event, match), event.value))

    def _usable(self, event: Any, text: str) -> str:
        if _UNUSABLE.search(text):
            raise self._error(event, "a character here cannot be written to a file", "remove it")
        return text

    def _variable(self, event: Any, match: re.Match[str]) -> str:
        found = _NAME_AND_DEFAULT.fullmatch(match[1])
        if not found or not match[2]:
            what = f"{match[0]} is not a variable"
            raise self._error(event, what, "write ${NAME} or ${NAME:-default}")
        name, default = found.groups()
        value = self._environment.get(name)
        if default is not None:
            return value or default
        if value is None:
            what = f"the environment has no {name}"
            raise self._error(event, what, f"set it, or write ${{{name}:-default}}")
        return value

    def _error(self, place: Any, what: str, hint: str) -> ConfigError:
        return ConfigError([self._line(place, what, hint)])

    def _line(self, place: Any, what: str, hint: str) -> str:
        """A problem as it is told; its place is an event, a mark, or a line and column."""
        if not isinstance(place, tuple):
            mark = getattr(place, "start_mark", place)
            place = (mark.line + 1, mark.column + 1)
        return f"{self._file}:{place[0]}:{place[1]}: {_printable(what)}; {_printable(hint)}"

    def loaded(self) -> Loaded:
        """Check the values.

        Raises:
            ConfigError: they cannot be used.

        """
        try:
            config = msgspec.convert(self._value, Config, dec_hook=_duration)
        except msgspec.ValidationError:
            raise self._listed(self._misfits(Config, self._value, (), "sources")) from None
        problems = list(_problems(config))
        if problems:
            raise self._listed(problems)
        settings = Settings(
            config.window, config.parameters, _resolve(config.timezone), float(config.interval), config.report.threshold
        )
        return Loaded(self._file, config, settings)

    def _listed(self, problems: Iterable[_Problem]) -> ConfigError:
        lines = []
        for path, key, what, hint, at_key in islice(problems, MANY):
            event = (at_key and self._keys.get(path)) or self._event(path)
            lines.append((event.start_mark.index, self._line(event, what, hint or HINTS[key])))
        return ConfigError([line for _, line in sorted(lines)])

    def _event(self, path: _Path) -> Any:
        """Where a value was read, else the alias or the group that it came with."""
        while path not in self._values:
            path = path[:-1]
        return self._values[path]

    def _misfits(self, kind: Any, value: Any, path: _Path, key: str) -> Iterator[_Problem]:
        """Everything in a value that is not of its type, each at its own place."""
        bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if isinstance(value, dict) and _is_struct(bare):
            yield from self._misfit_fields(bare, value, path)
        elif value and isinstance(value, dict) and get_origin(bare) is dict:
            for word, item in value.items():
                yield from self._misfits(get_args(bare)[1], item, (*path, word), key)
        elif value and isinstance(value, list) and get_origin(bare) is tuple:
            for i, item in enumerate(value):
                yield from self._misfits(get_args(bare)[0], item, (*path, i), key)
        elif not _fits(value, kind):
            yield self._misfit(kind, value, path, key)

    def _misfit_fields(self, kind: type[msgspec.Struct], value: dict[str, Any], path: _Path) -> Iterator[_Problem]:
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for word in value:
            if word not in fields:
                yield _Problem((*path, word), "", f"unknown key {word}", _did_you_mean(word, kind), at_key=True)
        for name, field in fields.items():
            if name in value:
                yield from self._misfits(field.type, value[name], (*path, name), name)
            elif field.required:
                yield _Problem(path, name, f"{name} is missing")

    def _misfit(self, kind: Any, value: Any, path: _Path, key: str) -> _Problem:
        event = self._event(path)
        label = _label(path, key)
        if value is None:
            return _Problem(path, key, f"{label} is empty")
        if isinstance(value, (list, dict)):
            shown = ("a list" if isinstance(value, list) else "a group of keys") if value else "empty"
            return _Problem(path, key, f"{label} cannot be {shown}")
        shown = "this value" if key == "headers" else self._written(event)
        if not isinstance(value, str) and isinstance(event, yaml.ScalarEvent) and _fits(self._filled(event), kind):
            return _Problem(path, key, f"{label} cannot be {shown} without quotes", "put it in quotes")
        return _Problem(path, key, f"{label} cannot be {shown}")

    def _written(self, event: Any) -> str:
        """A value as it stands in the file: variables by name, passwords left out."""
        written = " ".join(self._text[event.start_mark.index : event.end_mark.index].split())
        written = re.sub("//[^/@]*@", "//...@", written)
        return written if len(written) <= 60 else written[:57] + "..."


def _label(path: _Path, key: str) -> str:
    """What a value is called: by its key, or as a part of what has that key."""
    if not path:
        return "the file"
    part = path[-1]
    return key if part == key else f"item {part + 1} in {key}" if isinstance(part, int) else f"{part} in {key}"


def _place_after(text: str) -> tuple[int, int]:
    """The line and column of what follows a text, from 1."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def _printable(text: str) -> str:
    """A text that cannot disturb a terminal or begin a line."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def _explained(error: yaml.MarkedYAMLError) -> tuple[Any, str, str]:
    """Where a file stops being YAML, what is wrong there, and what to do."""
    problem = error.problem or ""
    what, hint = next(said for begins, said in _MISTAKES.items() if problem.startswith(begins))
    return error.context_mark if problem.startswith(_BEGAN) else error.problem_mark, what, hint


def _duration(kind: type, value: Any) -> Any:
    """Read a duration; msgspec calls it for the types it does not know."""
    if kind is not Duration:
        raise NotImplementedError(kind)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no duration")
    return Duration(float(match[1]) * _UNITS[match[2]])


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, dec_hook=_duration)
    except msgspec.ValidationError:
        return False
    return True


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _did_you_mean(word: str, kind: type[msgspec.Struct]) -> str:
    """What to do about a key that is not known here."""
    homes = {Config: "without indentation", Source: "in a source", Output: "below output:"}
    homes |= {Report: "below report:", Api: "below api:"}
    home = next((home for struct, home in homes.items() if word in struct.__struct_encode_fields__), None)
    if home:
        return f"it belongs {home}"
    known = kind.__struct_encode_fields__
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"known keys here are {', '.join(known)}"


def _resolve(timezone: str) -> str:
    return get_localzone_name() or "UTC" if timezone == "local" else timezone


def _problems(config: Config) -> Iterator[_Problem]:
    """What the types cannot say."""
    if not 0.1 <= config.interval <= 86_400:
        yield _Problem(("interval",), "interval", f"interval cannot be {config.interval:g} s")
    try:
        ZoneInfo(_resolve(config.timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(config.timezone, available_timezones(), 1, 0.7)
        hint = f"did you mean {near[0]}?" if near else ""
        yield _Problem(("timezone",), "timezone", f"timezone {config.timezone} does not exist", hint)
    if not math.isfinite(config.report.threshold):
        yield _Problem(("report", "threshold"), "threshold", f"threshold cannot be {config.report.threshold}")
    names: set[str] = set()
    for i, source in enumerate(config.sources):
        yield from _source_problems(config, source, ("sources", i))
        if source.name in names:
            yield _Problem(("sources", i, "name"), "name", f"name {source.name} is taken already")
        names.add(source.name)


def _source_problems(config: Config, source: Source, path: _Path) -> Iterator[_Problem]:
    if not source.name.isprintable() or not source.name.strip():
        yield _Problem((*path, "name"), "name", "name is blank or not printable")
    if source.url is None and source.file is None:
        yield _Problem(path, "url", f"source {source.name} has no url and no file", "give it one of them")
    if source.url is not None and source.file is not None:
        what = f"source {source.name} has a url and a file"
        yield _Problem((*path, "file"), "file", what, "keep one, and make a source of its own of the other")
    if source.url is not None and not _is_url(source.url):
        yield _Problem((*path, "url"), "url", "url is no address that can be read")
    longest = 0.8 * config.interval
    if source.timeout is not None and not 0 < source.timeout <= longest:
        yield _Problem(
            (*path, "timeout"), "timeout", f"timeout cannot be {source.timeout:g} s",
            f"write more than 0 and at most {longest:g}s, which is 0.8 of the interval",
        )  # fmt: skip
    for name, value in source.headers.items():
        if not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable() or value != value.strip():
            yield _Problem((*path, "headers", name), "headers", f"{name} in headers cannot be sent")


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        address = parts.netloc.rpartition("@")[2]
        known = parts.scheme in ("http", "https") and _ADDRESS.fullmatch(address) and parts.port != 0
    except ValueError:
        return False
    return bool(known) and url.isprintable() and not re.search(r"[\s\\]", url)
