"""What is surely a mistake, but no reason to refuse a config: it may be put right while the process runs."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from etl.config.document import KeyPath
from etl.config.load import Loaded
from etl.config.problems import Problem, source_problems
from etl.config.sources.base import Source
from etl.readings.records import REMOVED_DETECTORS

MAX_THRESHOLD = 1.0
"""A threshold above 100 % of the average misses even a value that falls to zero."""


def warnings(loaded: Loaded) -> Iterator[Problem]:
    """What to warn of; reads the file system, and no network."""
    threshold = loaded.config.report.threshold
    if threshold > MAX_THRESHOLD:
        message = f"threshold {threshold:g} is {100 * threshold:,.0f} % of the average"
        yield Problem(("report", "threshold"), "threshold", message, f"for {threshold:g} % write {threshold / 100:g}")
    for i, name in enumerate(loaded.config.report.detectors):
        if name in REMOVED_DETECTORS:
            message = f"the detector {name} no longer exists, and is ignored"
            yield Problem(("report", "detectors", i), "detectors", message, "remove it from the list")
    if not loaded.sources:
        message = f"shard {loaded.config.shard} has none of the sources"
        yield Problem(("shard",), "shard", message, "use fewer shards")
    yield from _parameter_warnings(loaded)
    for i, alarm in enumerate(loaded.config.alarms):
        if loaded.sources and not any(fnmatchcase(source.name, alarm.sources) for source in loaded.sources):
            message = f"alarm {alarm.name} watches no source: none matches {alarm.sources}"
            yield Problem(("alarms", i, "sources"), "alarms.sources", message)
    first: dict[tuple[str, bytes], str] = {}
    for i, entry in enumerate(loaded.config.sources):
        path = ("sources", i)
        yield from _source_warnings(loaded, entry, path)
        yield from _duplicates(entry, path, first)


def _parameter_warnings(loaded: Loaded) -> Iterator[Problem]:
    fields: dict[str, str] = {}
    for parameter, field in loaded.config.parameters.items():
        path = ("parameters", parameter)
        if field in fields:
            message = f"{parameter} and {fields[field]} average the same field, {field}"
            yield Problem(path, "parameters", message, "give each parameter its own field")
        fields.setdefault(field, parameter)
        if "." in field and not any(source.records for source in loaded.config.sources):
            hint = "a field is one key of the reading: records of a source picks a value inside an object"
            yield Problem(path, "parameters", f"{field} in parameters has a dot", hint)


def _source_warnings(loaded: Loaded, source: Source, path: KeyPath) -> Iterator[Problem]:
    for key in source.paths:
        name = getattr(source, key)
        if name and (trouble := _trouble(loaded.path(name))):
            hint = "create it, or correct the path; a relative one starts at the folder of the config"
            yield Problem((*path, key), key, f"{key} {loaded.path(name)} {trouble}", hint)
    warnings_of_kind = source.warnings(loaded.file.parent, loaded.path(loaded.config.output.folder))
    yield from source_problems(source, warnings_of_kind, path)
    for key in dict.fromkeys(("name", source.key, *source.templates)):
        if "{n}" in getattr(source, key) and source.count is None:
            yield Problem((*path, key), key, f"{key} has {{n}}, but count is missing", "write count: below it")


def _trouble(path: Path) -> str | None:
    """Why a path leads to nothing; None if it leads to something."""
    try:
        path.stat()
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be reached: {error.strerror}"
    return None


def _duplicates(entry: Source, path: KeyPath, first: dict[tuple[str, bytes], str]) -> Iterator[Problem]:
    """The sources that read what another one reads in the same way: each reading would be there twice."""
    key = entry.key
    for source in entry.expand():
        same = (key, msgspec.json.encode(msgspec.structs.replace(source, name="", timeout=None)))
        if same in first:
            message = f"{source.name} polls the same {key} as {first[same]}"
            template = (
                f"write {{n}} into {key}"
                if key in entry.templates
                else f"leave count out: {{n}} is not replaced in {key}"
            )
            yield Problem((*path, key), key, message, template if entry.count else "remove one of them")
            return
        first[same] = source.name
