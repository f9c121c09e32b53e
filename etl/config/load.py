"""Load config.yaml: the typed config and what follows from it. Nothing here touches the network or writes a file."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from etl.config.addresses import path_problem
from etl.config.alarms import alarm_rules
from etl.config.document import ConfigError, Document
from etl.config.model import DEFAULT_TIMEOUT_S, HINTS, Config
from etl.config.problems import Checker
from etl.config.sources.base import Source
from etl.config.sources.kinds import Sources
from etl.readings.records import REMOVED_DETECTORS, Settings
from etl.readings.text import clipped

MAX_CONFIG_BYTES = 1 << 20
"""A config file is some kilobytes; a larger one is a mistake in its name."""
MAX_FLEET_BYTES = 64 << 20
"""A file of sources: 65 bytes a source, so a million of them."""
STARTER = Path(__file__).with_name("starter.yaml")
"""The config that `etl init` writes, with all defaults."""
MAX_ERROR_CHARACTERS = 200
"""Characters of an unexpected error in a message."""


class Loaded(NamedTuple):
    """A checked config, and what was derived from it."""

    file: Path
    config: Config
    settings: Settings
    sources: tuple[Source, ...]
    """The sources of this process: templates expanded, those of other shards left out."""

    def path(self, written: str) -> Path:
        """A path of the config; a relative one starts at the config's folder."""
        return self.file.parent / written

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose midnight ends a day."""
        return ZoneInfo(self.settings.timezone)

    def timeout(self, source: Source) -> float:
        """The total deadline of a poll in seconds."""
        return source.timeout or self.default_timeout

    @property
    def default_timeout(self) -> float:
        """The total deadline of a poll in seconds, for sources without `timeout`."""
        return min(DEFAULT_TIMEOUT_S, self.config.max_timeout)


def load(file: Path, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read and check a config file, and the file of sources that it may name.

    Raises:
        ConfigError: the config cannot be used; the error lists every problem found.

    """
    return load_checked(file, environment)[0]


def load_checked(file: Path, environment: Mapping[str, str] = os.environ) -> tuple[Loaded, Checker]:
    """Do what `load` does; also returns the checker, which knows the place of each value.

    Raises:
        ConfigError: the config cannot be used; the error lists every problem found.

    """
    try:
        return _load(file, environment)
    except ConfigError:
        raise
    except Exception as error:  # an error that the checks did not foresee must not end a process that reloads
        why = clipped(f"{type(error).__name__}: {error}".strip(": "), MAX_ERROR_CHARACTERS)
        hint = "remove what you changed last, and report this message"
        raise ConfigError([f"{file}:1:1: the config cannot be read: {why}; {hint}"]) from error


def _load(file: Path, environment: Mapping[str, str]) -> tuple[Loaded, Checker]:
    missing = "write one with `etl init`, or name yours with --config FILE"
    document = Document(file, environment, MAX_CONFIG_BYTES, HINTS["sources"], missing)
    checker = Checker(document, _fleet(document, file, environment))
    return _loaded(file, checker.config()), checker


def defaults(file: Path) -> Loaded:
    """All defaults and no source, as if `file` said so; the zone is UTC: that of this machine may be unknown."""
    return _loaded(file, Config(sources=Sources(), timezone="UTC"))


def _loaded(file: Path, config: Config) -> Loaded:
    settings = Settings(
        window=config.window,
        parameters=config.parameters,
        timezone=config.zone_name,
        interval=float(config.interval),
        threshold=config.report.threshold,
        detectors=tuple(name for name in config.report.detectors if name not in REMOVED_DETECTORS),
        alarms=alarm_rules(config.alarms),
    )
    return Loaded(file, config, settings, tuple(_sources(config)))


def _fleet(document: Document, file: Path, environment: Mapping[str, str]) -> Document | None:
    """The file of sources that a config names; None if it lists them itself."""
    if not isinstance(document.value, dict) or not isinstance(document.value.get("sources"), str):
        return None
    name = document.value["sources"]
    if problem := path_problem("sources", name):
        node, (why, hint) = document.node(("sources",)), problem
        raise document.error(node.start_mark, f"sources cannot be {document.written(node)}: {why}", hint)
    missing = f"create it, or correct sources in {file}"
    return Document(file.parent / name, environment, MAX_FLEET_BYTES, HINTS["sources"], missing)


def _sources(config: Config) -> Iterator[Source]:
    """The sources of this process. Each goes to the shard that ranks its name highest, as in rendezvous hashing.

    So an additional shard takes its own share and moves no other source.
    """
    shard, shards = map(int, config.shard.split("/")) if config.shard else (0, 1)
    for entry in config.sources:
        for source in entry.expand():
            if shards == 1 or max(range(shards), key=lambda number: _rank(source.name, number)) == shard:
                yield source


def _rank(name: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{shard}/{name}".encode(), digest_size=8).digest()
