"""What is wrong with a config: values of the wrong type, and what types cannot express."""

import difflib
import importlib.util
import math
import re
import time
import types
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import msgspec
import yaml

from etl.config import local_zone
from etl.config.addresses import host_problem, is_url, network_mistake, path_problem
from etl.config.alarms import alarm_mistakes, parameter_mistakes
from etl.config.document import ConfigError, Document, KeyPath
from etl.config.model import HINTS, SECRETS, Api, Config, hint_of, install_hint
from etl.config.receivers import receiver_mistakes
from etl.config.sources.base import Mistake, ProblemOf, Source
from etl.config.sources.expressions import expression_mistake
from etl.config.sources.kinds import KINDS, Sources, any_kind, kind_of, kind_of_address, typed
from etl.config.unknown_keys import unknown_key
from etl.readings.text import alternatives

MAX_PROBLEMS = 100
"""Problems in one error; nobody reads more at once."""
MAX_SOURCES = 1_000_000
"""Sources of one config with all its counts; more would fill the memory before anything is polled."""
_MIN_INTERVAL_S = 0.1
_MAX_INTERVAL_S = 86_400
_CLUSTER = re.compile(r"(tcp|tls)://[^\s/]+:[0-9]{1,5}")
_SHARD = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")


class Problem(NamedTuple):
    """A message about the value at `path`. Its hint is that of `key` in HINTS, unless it has its own.

    `{value}` in them stands for the value as it is written, which shows variables by their names.
    With an empty `key`, the message is about the key at the end of `path`, which is not in the model.
    """

    path: KeyPath
    key: str
    message: str
    hint: str = ""


class Checker:
    """Turns a document into a Config, or into problems, each with its own place.

    With a `fleet`, the sources are the content of that file.
    """

    def __init__(self, document: Document, fleet: Document | None) -> None:
        self._document = document
        self._fleet = fleet

    def config(self) -> Config:
        """The typed config.

        Raises:
            ConfigError: it cannot be used.

        """
        value = self._document.value
        if self._fleet:
            value = {**value, "sources": self._fleet.value}
        try:
            config: Config = typed(value, Config)
        except msgspec.ValidationError:
            raise ConfigError(self.lines(self._misfits(Config, value, (), "sources"))) from None
        problems = list(_problems(config))
        if problems:
            raise ConfigError(self.lines(problems))
        return config

    def _locate(self, path: KeyPath) -> tuple[Document, KeyPath]:
        """The document that holds a value, and the path in that document."""
        if self._fleet and len(path) > 1 and path[0] == "sources":
            return self._fleet, path[1:]
        return self._document, path

    def lines(self, problems: Iterable[Problem]) -> list[str]:
        """Problems as lines for users, `file:line:column: message; hint`, in the order of the file."""
        lines = set()  # an alias repeats the problems of the value it names
        for problem in islice(problems, MAX_PROBLEMS):
            document, path = self._locate(problem.path)
            node = document.node(path, of_key=not problem.key)
            written = document.written(node)
            message = problem.message.replace("{value}", written)
            hint = problem.hint.replace("{value}", written.strip("'\"")) or HINTS[problem.key]
            line = document.line(node.start_mark, message, hint)
            lines.add((document is self._fleet, node.start_mark.index, line))
        return [line for *_, line in sorted(lines)]

    def _misfits(self, kind: Any, value: Any, path: KeyPath, key: str) -> Iterator[Problem]:
        """Every part of a value that does not fit its type."""
        inner = _inner_type(kind, value)
        if inner is Source:
            yield from self._source_misfits(value, path)
        elif isinstance(value, dict) and _is_group(inner):
            yield from self._group_misfits(inner, value, path)
        elif value and isinstance(value, dict) and inner:
            key_type, item_type = get_args(inner)
            only_keys = types.GenericAlias(dict, (key_type, Any))
            for name, item in value.items():
                if not _fits({name: None}, only_keys):
                    yield Problem((*path, name), "", f"{name} cannot be a key of {key}")
                yield from self._misfits(item_type, item, (*path, name), key)
        elif value and isinstance(value, list) and inner:
            for i, item in enumerate(value):
                yield from self._misfits(get_args(inner)[0], item, (*path, i), key)
        elif not _fits(value, kind):
            yield self._misfit(kind, value, path, key)

    def _source_misfits(self, entry: dict[str, Any], path: KeyPath) -> Iterator[Problem]:
        """What does not fit the kind of a source, or why it is of no kind."""
        if kind := kind_of(entry):
            yield from self._group_misfits(kind, entry, path)
            return
        misfits = list(self._group_misfits(any_kind(), entry, path))
        yield from misfits
        given = [key for key in KINDS if key in entry]
        source = f"source {entry['name']}" if "name" in entry else "the source"
        if not given and not misfits:
            yield Problem(path, "sources", f"{source} has no {alternatives(KINDS)}", "write one of them")
        for key in given[1:]:
            hint = "keep one of them, and write a source of its own for the other"
            yield Problem((*path, key), "sources", f"{source} has both {given[0]} and {key}", hint)

    def _group_misfits(self, kind: type[msgspec.Struct], value: dict[str, Any], path: KeyPath) -> Iterator[Problem]:
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for key in value:
            if key not in fields:
                yield Problem((*path, key), "", *unknown_key(key, kind))
        for key, field in fields.items():
            if key in value:
                for problem in self._misfits(field.type, value[key], (*path, key), key):
                    yield problem._replace(hint=problem.hint or hint_of(kind, key))
            elif field.required:
                yield Problem(path, key, f"{key} is missing", hint_of(kind, key))

    def _misfit(self, kind: Any, value: Any, path: KeyPath, key: str) -> Problem:
        label = _label(path, key)
        if value is None:
            return Problem(path, key, f"{label} is empty")
        if isinstance(value, (list, dict)) and key == "records":
            hint = 'put the expression in quotes, such as records: "[]"'
            return Problem(path, key, "records is a list or a group of keys without quotes", hint)
        if isinstance(value, (list, dict)):
            shown = ("a list" if isinstance(value, list) else "a group of keys") if value else "empty"
            return Problem(path, key, f"{label} cannot be {shown}")
        document, path_in_file = self._locate(path)
        node = document.node(path_in_file)
        written = document.written(node)
        shown = "this value" if key in SECRETS else written
        unquoted = isinstance(node, yaml.ScalarNode) and not isinstance(value, str) and written == node.value
        if unquoted and _fits(document.expand(node), kind):
            return Problem(path, key, f"{label} cannot be {shown} without quotes", "put it in quotes")
        return Problem(path, key, f"{label} cannot be {shown}")


def _label(path: KeyPath, key: str) -> str:
    """The name of a value in a message: its key, or which part of the value of that key it is."""
    if not path:
        return "the file"
    part = path[-1]
    return key if part == key else f"item {part + 1} in {key}" if isinstance(part, int) else f"{part} in {key}"


def _fits(value: Any, kind: Any) -> bool:
    try:
        typed(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _inner_type(kind: Any, value: Any) -> Any:
    """The part of a type that a group or a list may be: a struct, a dict or a tuple; None if it may not be one."""
    if get_origin(kind) is Annotated:
        return _inner_type(get_args(kind)[0], value)
    if get_origin(kind) in (Union, types.UnionType):
        return next((inner for part in get_args(kind) if (inner := _inner_type(part, value))), None)
    if kind is Sources:
        return tuple[Source, ...] if isinstance(value, list) else None
    if isinstance(value, dict):
        return kind if _is_group(kind) or get_origin(kind) is dict else None
    return kind if isinstance(value, list) and get_origin(kind) is tuple else None


def _problems(config: Config) -> Iterator[Problem]:
    """What types cannot express."""
    if not _MIN_INTERVAL_S <= config.interval <= _MAX_INTERVAL_S:
        yield Problem(("interval",), "interval", f"interval cannot be {config.interval:g} s")
    if not math.isfinite(config.report.threshold):
        yield Problem(("report", "threshold"), "threshold", f"threshold cannot be {config.report.threshold}")
    if config.shard is not None and not _is_shard(config.shard):
        yield Problem(("shard",), "shard", f"shard cannot be {config.shard}")
    if config.transport == "curl" and importlib.util.find_spec("pycurl") is None:
        message, hint = "transport curl needs pycurl", install_hint("fleet")
        yield Problem(("transport",), "transport", message, hint)
    yield from (Problem(*mistake) for mistake in receiver_mistakes(config.notify))
    yield from _unusable(("api", "host"), config.api.host, host_problem)
    yield from _unusable(("output", "folder"), config.output.folder, partial(path_problem, "folder"))
    yield from _zone_problems(config)
    yield from (Problem(*mistake) for mistake in parameter_mistakes(config.parameters, config.units))
    yield from _cluster_problems(config.report.cluster)
    yield from _api_problems(config.api)
    yield from (Problem(*mistake) for mistake in alarm_mistakes(config.alarms, config.parameters))
    for i, source in enumerate(config.sources):
        yield from _source_problems(source, config.max_timeout, ("sources", i))
    if sum(source.count or 1 for source in config.sources) > MAX_SOURCES:
        hint = "split them over the configs of several processes"
        yield Problem(("sources",), "sources", f"more than {MAX_SOURCES:,} sources", hint)
        return
    yield from _name_problems(config.sources)


def _unusable(path: KeyPath, value: str | None, problem_of: ProblemOf) -> Iterator[Problem]:
    """The problem of an address or a path, if it has one: why it cannot be used, and what to write."""
    if value is not None and (problem := problem_of(value)):
        key, (why, hint) = str(path[-1]), problem
        yield Problem(path, key, f"{key} cannot be {{value}}: {why}", hint)


def _zone_problems(config: Config) -> Iterator[Problem]:
    if config.timezone == "local":
        if why := local_zone.mistake(time.time()):
            hint = "set timezone: Europe/Berlin, or the name of the zone whose midnight ends your days"
            yield Problem(("timezone",), "timezone", f"timezone local is unknown: {why}", hint)
        return
    try:
        ZoneInfo(config.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(config.timezone, available_timezones() - {"localtime"}, 1, 0.7)
        hint = f"did you mean {near[0]}?" if near else ""
        yield Problem(("timezone",), "timezone", f"timezone {config.timezone} does not exist", hint)


def _cluster_problems(cluster: str | None) -> Iterator[Problem]:
    path = ("report", "cluster")
    if cluster is None:
        return
    if not _CLUSTER.fullmatch(cluster):
        yield Problem(path, "cluster", "cluster cannot be {value}")
    elif importlib.util.find_spec("distributed") is None:
        message, hint = "report.cluster needs dask", install_hint("cluster")
        yield Problem(path, "cluster", message, hint)


def _api_problems(api: Api) -> Iterator[Problem]:
    for i, name in enumerate(api.names):
        if not is_url(f"http://{name}"):
            yield Problem(("api", "names", i), "names", f"item {i + 1} in names cannot be {name}")
    if api.proxy is not None and (mistake := network_mistake(api.proxy)):
        yield Problem(("api", "proxy"), "proxy", f"proxy cannot be {api.proxy}", mistake)


def _name_problems(sources: Iterable[Source]) -> Iterator[Problem]:
    names: set[str] = set()
    for i, entry in enumerate(sources):
        for source in entry.expand():
            if source.name in names:
                is_template = entry.count and "{n}" not in entry.name
                hint = "write {n} into it, which runs from 1 to count" if is_template else entry.hints["name"]
                yield Problem(("sources", i, "name"), "name", f"the name {source.name} occurs twice", hint)
                break
            names.add(source.name)


def _source_problems(source: Source, max_timeout: float, path: KeyPath) -> Iterator[Problem]:
    def problem(key: str, message: str, hint: str = "") -> Problem:
        return Problem((*path, key), key, message, hint or source.hints[key])

    if not source.name.isprintable() or not source.name.strip():
        yield problem("name", "name cannot be {value}, which is blank or not printable")
    if source.timeout is not None and not 0 < source.timeout <= max_timeout:
        hint = f"write more than 0 and at most {max_timeout:g}s, which is 0.8 of the interval"
        yield problem("timeout", f"timeout cannot be {source.timeout:g} s", hint)
    if source.records is not None and (mistake := expression_mistake(source.records)):
        yield problem("records", f"records is not a JMESPath expression: {mistake}")
    if source.by_key and source.records is None:
        hint = "write records: and an expression that gives readings by their ids, such as machines"
        yield problem("id", f"source {source.name} has id but no records", hint)
    if source.package and importlib.util.find_spec(source.package) is None:
        yield problem(source.key, f"{source.key} needs {source.package}", install_hint(source.extra))
    intended = kind_of_address(source.address)
    is_of_another_kind = intended is not None and source.address.partition("://")[0].lower() not in source.schemes
    for key in source.paths:
        if not (is_of_another_kind and key == source.key):
            yield from _unusable((*path, key), getattr(source, key), partial(path_problem, key))
    if intended and is_of_another_kind:
        why, hint = f"it is {intended.label}", f"write {intended.key}: instead of {source.key}:"
        yield problem(source.key, f"{source.key} cannot be {{value}}: {why}", hint)
    else:
        yield from source_problems(source, source.mistakes(), path)


def source_problems(source: Source, mistakes: Iterable[Mistake], path: KeyPath) -> Iterator[Problem]:
    """The mistakes in a source as problems; `path` is that of the source."""
    for mistake in mistakes:
        key = str(mistake.path[0])
        yield Problem((*path, *mistake.path), key, mistake.message, mistake.hint or source.hints[key])


def _is_shard(shard: str) -> bool:
    match = _SHARD.fullmatch(shard)
    return match is not None and int(match[1]) < int(match[2])
