"""Settings: typed, frozen, strict. Reading them touches no network and changes nothing."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import jmespath
import msgspec
import yaml
from msgspec import Meta
from tzlocal import get_localzone_name

from etl.config.document import ConfigError, Document, Where
from etl.readings.records import DetectorName, Settings

BIGGEST = 1 << 20
"""Bytes of a config file, at most."""
BIGGEST_FLEET = 64 << 20
"""Bytes of a file of sources, at most."""
MANY = 100
"""Problems that are told at once, at most."""
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ADDRESS = re.compile(r"([A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Za-z:.%]+\])(:[0-9]+)?")
_CLUSTER = re.compile(r"(tcp|tls)://[^\s/]+:[0-9]{1,5}")
_SHARD = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")


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
    records: str | None = None
    count: Annotated[int, Meta(ge=1, le=100_000)] | None = None


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where lines go."""

    folder: Annotated[str, Meta(min_length=1)] = "output"
    stdout: tuple[Literal["raw", "averages"], ...] = ("raw", "averages")
    fsync: Literal["always", "10s", "never"] = "always"
    keep_days: Annotated[int, Meta(ge=1)] | None = None
    compress: Literal["gzip"] | None = None


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the night's report is made, what it calls an anomaly, and who makes it."""

    at: Annotated[str, Meta(pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")] = "00:05"
    threshold: Annotated[float, Meta(ge=0)] = 0.2
    workers: Annotated[int, Meta(ge=1, le=1000)] = 1
    cluster: str | None = None
    detectors: tuple[DetectorName, ...] = ("telemetry", "status_band")


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The simulated machines and what the process tells of itself."""

    serve: bool = True
    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 5000
    machines: Annotated[int, Meta(ge=1, le=10_000)] = 1
    token: Annotated[str, Meta(pattern=r"\A[!-~]+\Z")] = ""


class Notify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told of sources that stay down and come back, and of the night's report."""

    url: str | None = None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of config.yaml, with its defaults."""

    sources: Annotated[tuple[Source, ...], Meta(min_length=1)]
    interval: Annotated[Duration, Meta(extra_json_schema={"default": "10s"})] = msgspec.field(
        default_factory=lambda: Duration(10)
    )
    transport: Literal["requests", "curl"] = "requests"
    shard: str | None = None
    window: Annotated[int, Meta(ge=1, le=1000)] = 5
    timezone: str = "local"
    parameters: Annotated[dict[str, Annotated[str, Meta(min_length=1)]], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: {"temperature": "temperature", "speed": "fan_speed"}
    )
    output: Output = Output()
    report: Report = Report()
    api: Api = Api()
    notify: Notify = Notify()


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
    "records": "write a JMESPath expression that gives a reading or a list of them, such as machines[]",
    "count": "write how many sources this line stands for, with {n} in the name: 1 to 100000",
    "transport": "write requests or curl",
    "shard": "write which share of the sources this process takes, such as 0/8",
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
    "workers": "write how many processes make the report, 1 to 1000",
    "cluster": "write the address of a dask scheduler, such as tcp://10.0.0.5:8786",
    "detectors": "write a list of telemetry, status_band, history_mad, some of them or none: [telemetry, status_band]",
    "api": "write serve:, host:, port: and machines: below it",
    "serve": "write true or false without quotes",
    "host": "write an address to listen on, such as 127.0.0.1",
    "port": "write a port without quotes, 1 to 65535",
    "machines": "write how many machines to simulate, 1 to 10000",
    "token": 'write "${API_TOKEN}" with its quotes, and set that variable to a long random word',
    "notify": "write url: below it",
}
"""What to do about a wrong value, by key."""
SECRETS = {"headers", "token"}
"""Keys whose values are not shown."""


class Loaded(NamedTuple):
    """A checked config, with what was worked out of it."""

    file: Path
    config: Config
    settings: Settings
    sources: tuple[Source, ...]
    """The sources of this process: templates written out, other shards left out."""

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

    path: Where
    key: str
    what: str
    hint: str = ""
    at_key: bool = False


def load(file: Path, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read and check a config file.

    Raises:
        ConfigError: it cannot be read or used; every problem that was found is in it.

    """
    document = Document(file, environment, BIGGEST, HINTS["sources"])
    fleet = None
    if isinstance(document.value, dict) and isinstance(document.value.get("sources"), str):
        fleet = Document(file.parent / document.value["sources"], environment, BIGGEST_FLEET, HINTS["sources"])
        document.value["sources"] = fleet.value
    config = _Checker(document, fleet).config()
    settings = Settings(
        config.window,
        config.parameters,
        _resolve(config.timezone),
        float(config.interval),
        config.report.threshold,
        config.report.detectors,
    )
    return Loaded(file, config, settings, tuple(_share(config.shard, _written_out(config.sources))))


def _written_out(sources: Iterable[Source]) -> Iterator[Source]:
    """The sources, with a template as many times as it says."""
    for source in sources:
        if source.count is None:
            yield source
            continue
        for n in range(1, source.count + 1):
            url = source.url and source.url.replace("{n}", str(n))
            yield msgspec.structs.replace(source, name=source.name.replace("{n}", str(n)), url=url, count=None)


def _share(shard: str | None, sources: Iterable[Source]) -> Iterator[Source]:
    """The sources of a shard: each goes to the shard that ranks it highest, so that a new one takes only its own."""
    if shard is None:
        yield from sources
        return
    mine, of = map(int, shard.split("/"))
    for source in sources:
        if max(range(of), key=lambda number: _rank(source.name, number)) == mine:
            yield source


def _rank(name: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}/{name}".encode(), digest_size=8).digest()


class _Checker:
    """What is wrong with a config, each problem at its own place; the sources may stand in a file of their own."""

    def __init__(self, document: Document, fleet: Document | None) -> None:
        self._document = document
        self._fleet = fleet

    def config(self) -> Config:
        """The config.

        Raises:
            ConfigError: it cannot be used.

        """
        value = self._document.value
        try:
            config = msgspec.convert(value, Config, dec_hook=_duration)
        except msgspec.ValidationError:
            raise self._listed(self._misfits(Config, value, (), "sources")) from None
        problems = list(_problems(config))
        if problems:
            raise self._listed(problems)
        return config

    def _find(self, path: Where) -> tuple[Document, Where]:
        """The document that holds a value, and where it stands there."""
        if self._fleet and len(path) > 1 and path[0] == "sources":
            return self._fleet, path[1:]
        return self._document, path

    def _listed(self, problems: Iterable[_Problem]) -> ConfigError:
        lines = []
        for path, key, what, hint, at_key in islice(problems, MANY):
            document, where = self._find(path)
            event = (at_key and document.keys.get(where)) or document.event(where)
            order = document is self._fleet, event.start_mark.index
            lines.append((order, document.line(event, what, hint or HINTS[key])))
        return ConfigError([line for _, line in sorted(lines)])

    def _misfits(self, kind: Any, value: Any, path: Where, key: str) -> Iterator[_Problem]:
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

    def _misfit_fields(self, kind: type[msgspec.Struct], value: dict[str, Any], path: Where) -> Iterator[_Problem]:
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for word in value:
            if word not in fields:
                yield _Problem((*path, word), "", f"unknown key {word}", _did_you_mean(word, kind), at_key=True)
        for name, field in fields.items():
            if name in value:
                yield from self._misfits(field.type, value[name], (*path, name), name)
            elif field.required:
                yield _Problem(path, name, f"{name} is missing")

    def _misfit(self, kind: Any, value: Any, path: Where, key: str) -> _Problem:
        document, where = self._find(path)
        event = document.event(where)
        label = _label(path, key)
        if value is None:
            return _Problem(path, key, f"{label} is empty")
        if isinstance(value, (list, dict)):
            shown = ("a list" if isinstance(value, list) else "a group of keys") if value else "empty"
            return _Problem(path, key, f"{label} cannot be {shown}")
        shown = "this value" if key in SECRETS else document.written(event)
        if not isinstance(value, str) and isinstance(event, yaml.ScalarEvent) and _fits(document.filled(event), kind):
            return _Problem(path, key, f"{label} cannot be {shown} without quotes", "put it in quotes")
        return _Problem(path, key, f"{label} cannot be {shown}")


def _label(path: Where, key: str) -> str:
    """What a value is called: by its key, or as a part of what has that key."""
    if not path:
        return "the file"
    part = path[-1]
    return key if part == key else f"item {part + 1} in {key}" if isinstance(part, int) else f"{part} in {key}"


def _duration(kind: type, value: Any) -> Any:
    """Read a duration; msgspec calls it for the types it does not know."""
    if kind is not Duration:
        raise NotImplementedError(kind)
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
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
    homes |= {Report: "below report:", Api: "below api:", Notify: "below notify:"}
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
    if config.shard is not None and not _is_shard(config.shard):
        yield _Problem(("shard",), "shard", f"shard cannot be {config.shard}")
    if config.transport == "curl" and importlib.util.find_spec("pycurl") is None:
        what, hint = "transport curl needs pycurl", "install the extra: pip install 'machine-telemetry-etl[fleet]'"
        yield _Problem(("transport",), "transport", what, hint)
    yield from _address_problems(config)
    names: set[str] = set()
    for i, source in enumerate(config.sources):
        yield from _source_problems(config, source, ("sources", i))
        for written in _written_out([source]):
            if written.name in names:
                yield _Problem(("sources", i, "name"), "name", f"name {written.name} is taken already")
                break
            names.add(written.name)


def _address_problems(config: Config) -> Iterator[_Problem]:
    if config.notify.url is not None and not _is_url(config.notify.url):
        yield _Problem(("notify", "url"), "url", "url is no address that can be reached")
    if config.report.cluster is not None:
        yield from _cluster_problems(config.report.cluster)


def _cluster_problems(cluster: str) -> Iterator[_Problem]:
    path = ("report", "cluster")
    if not _CLUSTER.fullmatch(cluster):
        yield _Problem(path, "cluster", "cluster is no address of a scheduler")
    elif importlib.util.find_spec("distributed") is None:
        what, hint = "report.cluster needs dask", "install the extra: pip install 'machine-telemetry-etl[cluster]'"
        yield _Problem(path, "cluster", what, hint)


def _source_problems(config: Config, source: Source, path: Where) -> Iterator[_Problem]:
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
    if source.records is not None and (wrong := _not_jmespath(source.records)):
        yield _Problem((*path, "records"), "records", wrong)
    for name, value in source.headers.items():
        if not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable() or value != value.strip():
            yield _Problem((*path, "headers", name), "headers", f"{name} in headers cannot be sent")


def _is_shard(shard: str) -> bool:
    match = _SHARD.fullmatch(shard)
    return match is not None and int(match[1]) < int(match[2])


def _not_jmespath(expression: str) -> str | None:
    try:
        jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        return f"records is no JMESPath expression: {str(error).splitlines()[0]}"
    return None


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        address = parts.netloc.rpartition("@")[2]
        known = parts.scheme in ("http", "https") and _ADDRESS.fullmatch(address) and parts.port != 0
    except ValueError:
        return False
    return bool(known) and url.isprintable() and not re.search(r"[\s\\]", url)
