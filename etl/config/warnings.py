"""What is surely a mistake, but no reason to refuse a config: it may be put right while the process runs."""

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from etl.config.document import KeyPath
from etl.config.load import Loaded
from etl.config.model import Source
from etl.config.problems import Problem
from etl.readings.records import REMOVED_DETECTORS

MAX_THRESHOLD = 1.0
"""A threshold above 100 % of the average misses even a value that falls to zero."""
LINE_SUFFIXES = {".ndjson", ".ldjson", ".jsonlines", ".log", ".csv", ".gz"}
"""Endings of files that are not one JSON document; only .jsonl is followed."""


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
    first: dict[tuple[str | None, ...], str] = {}
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
    for key in ("file", "ca_file"):
        name = getattr(source, key)
        if name and (trouble := _trouble(loaded.path(name))):
            hint = "create it, or correct the path; a relative one starts at the folder of the config"
            yield Problem((*path, key), key, f"{key} {loaded.path(name)} {trouble}", hint)
    yield from _file_warnings(loaded, source.file, (*path, "file"))
    unused = [key for key in ("headers", "ca_file", "timeout") if source.file and getattr(source, key)]
    if source.ca_file and source.url and source.url.lower().startswith("http:"):
        unused.append("ca_file")
    for key in unused:
        kind = "a file" if source.file else "an http:// address"
        yield Problem((*path, key), key, f"{key} has no effect on {kind}", "leave it out")
    for key in ("name", "url", "file"):
        value = getattr(source, key) or ""
        if "{n}" in value and source.count is None:
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


def _file_warnings(loaded: Loaded, name: str | None, path: KeyPath) -> Iterator[Problem]:
    file = loaded.path(name or "")
    if name and not _trouble(file) and not file.is_file():
        yield Problem(path, "file", f"file {file} is not a file", "write the path of a JSON file, not of a folder")
    if name and file.suffix in LINE_SUFFIXES:
        hint = "name it .jsonl if it has a JSON object on each line"
        yield Problem(path, "file", f"file {file} is read as one JSON document, not followed", hint)
    output = os.path.realpath(loaded.path(loaded.config.output.folder))
    if name and Path(os.path.realpath(file)).is_relative_to(output):  # resolve() fails where links form a circle
        message = f"file {file} is in the output folder, so that readings would be read again"
        yield Problem(path, "file", message, "name the machine's own file")


def _duplicates(entry: Source, path: KeyPath, first: dict[tuple[str | None, ...], str]) -> Iterator[Problem]:
    """The sources that read what another one reads in the same way: each reading would be there twice."""
    key = "url" if entry.url else "file"
    for source in entry.expand():
        same = (source.url, source.file, source.records, *sorted(map(str, source.headers.items())))
        if same in first:
            message = f"{source.name} polls the same {key} as {first[same]}"
            template = "write {n} into url" if entry.url else "leave count out: {n} is not replaced in file"
            yield Problem((*path, key), key, message, template if entry.count else "remove one of them")
            return
        first[same] = source.name
