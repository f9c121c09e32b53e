"""Settings: typed, frozen, strict. Reading them touches no network and changes nothing."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import yaml
from msgspec import Meta
from tzlocal import get_localzone_name

from etl.records import Settings

BIGGEST = 1 << 20
"""Bytes of a config file, at most."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
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

    at: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "00:05"
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
    parameters: Annotated[
        dict[Annotated[str, Meta(min_length=1)], Annotated[str, Meta(min_length=1)]], Meta(min_length=1)
    ] = msgspec.field(default_factory=lambda: {"temperature": "temperature", "speed": "fan_speed"})
    output: Output = Output()
    report: Report = Report()
    api: Api = Api()


HINTS = {
    "interval": "write a number and a unit, such as 10s; from 100ms to 24h",
    "window": "write how many readings an average spans, 1 to 1000",
    "timezone": "write local, or a zone such as Europe/Berlin or UTC",
    "sources": "list at least one source: a name, and a url or a file",
    "name": "write 1 to 200 printable characters, different for each source",
    "url": "write an http:// or https:// address",
    "file": "write the path of a JSON file, from this file's folder",
    "timeout": "write a number and a unit, such as 5s; at most 0.8 of the interval",
    "headers": "write header names and values; put numbers in quotes",
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
    "threshold": "write a number, 0 or more; 0.2 is 20 %",
    "api": "write serve:, host:, port: and machines: below it",
    "serve": "write true or false",
    "host": "write an address to listen on, such as 127.0.0.1",
    "port": "write a port, 1 to 65535",
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
    path: _Path
    what: str
    hint: str


def load(file: Path, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read and check a config file.

    Raises:
        ConfigError: it cannot be read or used; every problem that was found is in it.

    """
    try:
        with file.open("rb") as opened:
            text = opened.read(BIGGEST + 1)
    except OSError as error:
        raise ConfigError([f"{file}:1:1: cannot be read: {error.strerror}; name another with --config"]) from None
    if len(text) > BIGGEST:
        raise ConfigError([f"{file}:1:1: larger than 1 MiB; a config lists sources, not readings"])
    return _Document(file, text, environment).loaded()


class _Document:
    """A YAML document with the place of every value in it."""

    def __init__(self, file: Path, text: bytes, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = environment
        self._places: dict[_Path, yaml.Mark] = {}
        self._values: dict[_Path, yaml.Mark] = {}
        self._nodes = 0
        self._value = self._parse(text)

    def _parse(self, text: bytes) -> Any:
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            if node is None:
                raise self._error((1, 1), "the file is empty", HINTS["sources"])
            return self._plain(loader, node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            what = (error.problem or "is not YAML").replace("\t", "\\t")
            hint = "indent with spaces" if "\\t" in what else "check indentation, quotes and brackets here"
            raise self._error(place, what, hint) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise self._error((1, 1), f"is not YAML: {str(error).splitlines()[0]}", "save it as UTF-8 text") from None
        except RecursionError:
            raise self._error((1, 1), "is nested too deeply", "a config has three levels") from None

    def _plain(self, loader: yaml.SafeLoader, node: yaml.Node, path: _Path) -> Any:
        """The node as plain values; its places are remembered on the way."""
        self._nodes += 1
        if self._nodes > 200_000:
            raise self._error(_at(node), "expands to too many values", "remove the aliases")
        self._places.setdefault(path, node.start_mark)
        self._values[path] = node.start_mark
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            self._no_tag(node, "tag:yaml.org,2002:seq")
            return [self._plain(loader, item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(loader, node)

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, path: _Path) -> dict[str, Any]:
        self._no_tag(node, "tag:yaml.org,2002:map")
        plain: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                raise self._error(_at(key_node), "a key must be a word", "check indentation, quotes and brackets here")
            if key in plain:
                raise self._error(_at(key_node), f"`{key}` stands here twice", "remove one of them")
            self._places[(*path, key)] = key_node.start_mark
            plain[key] = self._plain(loader, value_node, (*path, key))
        return plain

    def _no_tag(self, node: yaml.Node, tag: str) -> None:
        if node.tag != tag:
            raise self._error(_at(node), f"the tag {node.tag} is not allowed", "write plain values")

    def _scalar(self, loader: yaml.SafeLoader, node: yaml.Node) -> Any:
        if node.tag not in yaml.SafeLoader.yaml_constructors:
            raise self._error(_at(node), f"the tag {node.tag} is not allowed", "write plain values")
        if _VARIABLE.search(node.value):
            node.value = _VARIABLE.sub(lambda match: self._variable(node, match), node.value)
            if isinstance(node, yaml.ScalarNode) and node.style is None:
                node.tag = loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        try:
            return loader.construct_object(node, deep=True)
        except ValueError as error:
            raise self._error(_at(node), str(error), "put it in quotes") from None

    def _variable(self, node: yaml.Node, match: re.Match[str]) -> str:
        value = self._environment.get(match[1], match[2])
        if value is None:
            raise self._error(
                _at(node), f"the environment has no {match[1]}", f"set it, or write ${{{match[1]}:-default}}"
            )
        return value

    def _error(self, place: tuple[int, int], what: str, hint: str) -> ConfigError:
        return ConfigError([f"{self._file}:{place[0]}:{place[1]}: {what}; {hint}"])

    def loaded(self) -> Loaded:
        """Check the values.

        Raises:
            ConfigError: they cannot be used.

        """
        try:
            config = msgspec.convert(self._value, Config, dec_hook=_duration)
        except msgspec.ValidationError as error:
            raise self._listed([_structural(str(error))]) from None
        problems = list(_problems(config))
        if problems:
            raise self._listed(problems)
        settings = Settings(
            config.window, config.parameters, _resolve(config.timezone), float(config.interval), config.report.threshold
        )
        return Loaded(self._file, config, settings)

    def _listed(self, problems: list[_Problem]) -> ConfigError:
        lines = []
        for problem in problems:
            line, column = self._place(problem)
            lines.append(f"{self._file}:{line}:{column}: {problem.what}; {problem.hint}")
        return ConfigError(lines)

    def _place(self, problem: _Problem) -> tuple[int, int]:
        """Where a problem stands: the value if it is one, the key if the key is wrong or something is missing."""
        places = self._places if problem.what.startswith("unknown key") else self._values
        path = problem.path
        while path not in places:
            path = path[:-1]
        return places[path].line + 1, places[path].column + 1


def _at(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _duration(kind: type, value: Any) -> Any:
    """Read a duration; msgspec calls it for the types it does not know."""
    if kind is not Duration:
        raise NotImplementedError(kind)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no duration")
    return Duration(float(match[1]) * _UNITS[match[2]])


def _structural(message: str) -> _Problem:
    """Turn msgspec's message into a problem with its place and a hint."""
    what, _, where = message.partition(" - at `")
    path: _Path = tuple(
        int(index) if index else word for word, index in re.findall(r"\.(\w+)|\[(\d+)\]", where.split("`")[0])
    )
    if " in `" in where:
        inner = re.findall(r"`(\$[^`]*)`", where)
        path = tuple(re.findall(r"\.(\w+)", inner[-1])) if inner else path
    unknown = re.search(r"unknown field `(.*)`", what)
    if unknown:
        return _Problem((*path, unknown[1]), f"unknown key `{unknown[1]}`", _did_you_mean(unknown[1], path))
    missing = re.search(r"missing required field `(.*)`", what)
    if missing:
        return _Problem(path, f"`{missing[1]}` is missing", HINTS[missing[1]])
    key = next((part for part in reversed(path) if isinstance(part, str) and part in HINTS), "sources")
    return _Problem(path, f"{key}: {what[:1].lower()}{what[1:]}", HINTS[key])


def _did_you_mean(word: str, path: _Path) -> str:
    kinds: dict[str, type[msgspec.Struct]] = {"sources": Source, "output": Output, "report": Report, "api": Api}
    kind = kinds.get(str(path[0]), Config) if path else Config
    near = difflib.get_close_matches(word, kind.__struct_fields__, 1, 0.5)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known keys here are {', '.join(kind.__struct_fields__)}"


def _resolve(timezone: str) -> str:
    return get_localzone_name() or "UTC" if timezone == "local" else timezone


def _problems(config: Config) -> Iterator[_Problem]:
    """What the types cannot say."""
    if not 0.1 <= config.interval <= 86_400:
        yield _Problem(("interval",), f"interval: {config.interval:g} s is out of range", HINTS["interval"])
    try:
        ZoneInfo(_resolve(config.timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield _Problem(("timezone",), f"timezone: there is no zone {config.timezone!r}", HINTS["timezone"])
    if not math.isfinite(config.report.threshold):
        yield _Problem(("report", "threshold"), "threshold: it must be finite", HINTS["threshold"])
    names: set[str] = set()
    for i, source in enumerate(config.sources):
        yield from _source_problems(config, source, ("sources", i))
        if source.name in names:
            yield _Problem(("sources", i, "name"), f"name: {source.name!r} is taken already", HINTS["name"])
        names.add(source.name)


def _source_problems(config: Config, source: Source, path: _Path) -> Iterator[_Problem]:
    if not source.name.isprintable() or not source.name.strip():
        yield _Problem((*path, "name"), f"name: {source.name!r} is not printable", HINTS["name"])
    if (source.url is None) == (source.file is None):
        yield _Problem(path, f"source {source.name!r} needs a url or a file, and not both", HINTS["sources"])
    if source.url is not None and not _is_url(source.url):
        yield _Problem((*path, "url"), "url: this is no address that can be read", HINTS["url"])
    if source.timeout is not None and not 0 < source.timeout <= 0.8 * config.interval:
        what = f"timeout: {source.timeout:g} s is longer than 0.8 of the interval, {0.8 * config.interval:g} s"
        yield _Problem(
            (*path, "timeout"), what if source.timeout else "timeout: it must be more than 0", HINTS["timeout"]
        )
    for name, value in source.headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not value.isascii() or not value.isprintable():
            yield _Problem((*path, "headers", name), f"headers: {name!r} cannot be sent", HINTS["headers"])


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False
