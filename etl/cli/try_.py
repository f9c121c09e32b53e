"""etl try: sources polled once and shown, without lock or folder."""

import difflib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import click
import jmespath

from etl.cli.command import DEFAULT_CONFIG, config_option, finish
from etl.cli.exits import BAD_CONFIG, OK, PROBLEM, UNAVAILABLE, USAGE, ExitError
from etl.config.addresses import url_problem
from etl.config.load import Loaded, defaults, load
from etl.config.sources.base import JsonSource, Source
from etl.config.sources.file import FileSource
from etl.config.sources.http import HttpSource
from etl.config.sources.kinds import kind_of_address
from etl.readings.answers import reading_of, split
from etl.readings.averages.window import number
from etl.readings.records import Poll, RejectedError
from etl.readings.text import clipped, excerpt, plural, shown_address
from etl.sources.advice import failure_hint, hints, missing_number, quality_hints, shown_json
from etl.sources.contract import Context
from etl.sources.intake import Intake
from etl.sources.registry import by_kind, open_transports

MAX_SUMMARIZED = 100
"""Sources in the summary of several: those without a number first."""
MAX_SHOWN_READINGS = 3
MAX_SHOWN_ANSWER = 400
MAX_SHOWN_READING = 300
"""Characters of an answer, and of a reading of it."""


@click.command("try")
@config_option
@click.argument("target", metavar="[NAME | URL | FILE]", required=False)
def command(file: Path, target: str | None) -> None:
    """Poll a source once and show the answer, its readings and what would be averaged. Nothing is written.

    NAME is a source of the config, polled with all its settings. A URL or a FILE needs no config. Without an argument,
    every source is polled: a summary with a line for each, or the only one in full.

    Exit code 0; 69 if no source answered; 1 if one of them did not, or sent no number for any parameter.
    """
    finish(lambda: try_(file, target))


def try_(file: Path, target: str | None) -> int:
    """Poll the sources that `target` means, and print what they answer; the exit code."""
    # Path.exists raises for a name that is too long.
    needs_no_config = target is not None and ("://" in target or os.path.exists(target))
    has_config = file != DEFAULT_CONFIG or os.path.exists(file)
    if target and not needs_no_config and not has_config:
        message = f"{clipped(target, 200)} is no URL and no file, and {file} does not exist"
        hint = "Write a URL with http://, or the path of a file; for named sources write a config with `etl init`."
        raise ExitError(f"{message}. {hint}", BAD_CONFIG)
    loaded = load(file) if has_config or not needs_no_config else defaults(file)
    if target is not None:
        loaded = loaded._replace(sources=(_source(loaded, target),))
    if any(source.address.startswith(f"{loaded.config.api.address}/") for source in loaded.sources):
        from etl.cli.serving import serve_simulated  # noqa: PLC0415  Flask is loaded only to serve

        serve_simulated(loaded.config.api)
    results = [_judged(loaded, source, poll) for source, poll in zip(loaded.sources, _poll(loaded), strict=True)]
    if len(results) == 1:
        _print(_details(loaded, results[0]))
    else:
        _print(_summary(loaded, results))
    if all(result.poll.failure for result in results):
        return UNAVAILABLE
    return OK if all(any(result.numbers) for result in results) else PROBLEM


class _Result(NamedTuple):
    """A poll, the readings taken from its answers, and why others were rejected."""

    source: Source
    poll: Poll
    readings: list[dict[str, Any]]
    rejections: list[RejectedError]
    numbers: list[list[float]]
    """For each parameter of the config, the numbers of the readings that have one."""


def _source(loaded: Loaded, target: str) -> Source:
    """The source that an argument means: one of the config by its name or address, else a URL or a file."""
    sources = [source for entry in loaded.config.sources for source in entry.expand()]
    for source in sources:
        if target in (source.name, source.address):
            return source
    if kind := kind_of_address(target):
        hint = f"write a source with {kind.key}: into the config, and its name after etl try"
        raise ExitError(f"{shown_address(target)} cannot be polled alone: it is {kind.label}; {hint}", USAGE)
    if "://" in target:
        if problem := url_problem(target):
            why, hint = problem
            shown = shown_address(target)
            raise ExitError(f"{shown} cannot be polled: {why}; {hint.replace('{value}', shown)}", USAGE)
        return HttpSource(name=shown_address(target), url=target)
    if os.path.exists(target):
        return FileSource(name=target, file=str(Path(target).absolute()))
    near = difflib.get_close_matches(target, [source.name for source in sources], 1)
    hint = f"Did you mean {near[0]}?" if near else "Write the name of a source, a URL with http://, or a path."
    raise ExitError(f"{clipped(target, 200)} is no source of {loaded.file} and no file. {hint}", USAGE)


def _poll(loaded: Loaded) -> list[Poll]:
    """Poll the sources over their transports, each with its own settings; the results in the order of the sources."""
    context = Context(
        time.time, Intake(), loaded.file.parent, loaded.default_timeout, loaded.config.transport, is_trial=True
    )
    results: SimpleQueue[Sequence[Poll]] = SimpleQueue()
    transports = open_transports(loaded.sources, context, {})
    for kind, sources in by_kind(loaded.sources).items():
        transports[kind].start([source.name for source in sources], results.put)
    polls: dict[str, Poll] = {}
    while len(polls) < len(loaded.sources):
        # A source that sends on its own may deliver further ones: the first counts.
        polls = {poll.source: poll for poll in results.get()} | polls
    for transport in transports.values():
        transport.close()
    return [polls[source.name] for source in loaded.sources]


def _judged(loaded: Loaded, source: Source, poll: Poll) -> _Result:
    """What a poll gives: its readings, why others were rejected, and the number of each parameter in each reading."""
    records = split(poll, jmespath.compile(source.records), source.by_key) if source.records else poll
    readings: list[dict[str, Any]] = []
    rejections = list(records.rejections)
    for answer in records.answers:
        try:
            readings.append(reading_of(answer))
        except RejectedError as error:
            rejections.append(error)
    fields = loaded.config.parameters.values()
    numbers = [[v for reading in readings if (v := number(reading.get(field))) is not None] for field in fields]
    return _Result(source, poll, readings, rejections, numbers)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _address(source: Source) -> str:
    return shown_address(source.address)


def _details(loaded: Loaded, result: _Result) -> Iterator[str]:
    """One source in full: what came, the readings, what each parameter would average, and what to change."""
    source, poll, readings, rejections, _ = result
    name, address = clipped(source.name, 200), _address(source)
    yield name if name == address else f"{name}: {address}"
    if poll.failure:
        yield f"  no answer: {poll.failure.why} ({poll.failure.reason})"
        if hint := failure_hint(poll.failure, source):
            yield f"  hint: {hint}"
        return
    if not poll.answers:
        yield f"  {source.no_answer}"
        return
    body = poll.answers[0].body
    answers = "an answer" if len(poll.answers) == 1 else f"{plural(len(poll.answers), 'line')}, the first"
    yield f"  {answers} of {plural(len(body), 'byte')}:"
    yield f"    {excerpt(body, MAX_SHOWN_ANSWER)}"
    yield f"  {plural(len(readings), 'reading')}{':' if readings else ''}"
    for reading in readings[:MAX_SHOWN_READINGS]:
        yield f"    {shown_json(reading, MAX_SHOWN_READING)}"
    if len(readings) > MAX_SHOWN_READINGS:
        yield f"    ... {plural(len(readings) - MAX_SHOWN_READINGS, 'further reading')}"
    for error in dict.fromkeys(map(str, rejections[:MAX_SHOWN_READINGS])):
        yield f"  rejected: {error}"
    yield from _parameters(loaded, result)
    if any(error.reason == "too_many" for error in rejections):
        yield "  hint: ask the machine for less, or split the source into several"
        return
    if isinstance(source, JsonSource):
        advice = hints(body, source.records, readings, loaded.config.parameters.values(), source.by_key)
    else:
        advice = [hint for reading in readings[:1] for hint in quality_hints(reading, source)]
    for hint in advice:
        yield f"  hint: {hint}"


def _parameters(loaded: Loaded, result: _Result) -> Iterator[str]:
    """What each parameter would average in the readings of an answer."""
    if not result.readings:
        return
    for (parameter, field), numbers in zip(loaded.config.parameters.items(), result.numbers, strict=True):
        if not numbers:
            why = missing_number(result.readings[0], field)
            yield f"  {clipped(parameter, 100)}: no number: {why}"
            continue
        shown = ", ".join(f"{value:.10g}" for value in numbers[:MAX_SHOWN_READINGS])
        rest = ", ..." if len(numbers) > MAX_SHOWN_READINGS else ""
        lacking = len(result.readings) - len(numbers)
        without = f" ({plural(lacking, 'reading')} without a number)" if lacking else ""
        yield f"  {clipped(parameter, 100)}: {shown}{rest} from {clipped(field, 100)}{without}"


def _summary(loaded: Loaded, results: Sequence[_Result]) -> Iterator[str]:
    """Several sources, a line for each; those without a number first."""
    worst = sorted(results, key=lambda result: (not result.poll.failure, all(result.numbers)))
    for result in worst[:MAX_SUMMARIZED]:
        yield f"{clipped(result.source.name, 60)}: {_outcome(loaded, result)}"
    if len(results) > MAX_SUMMARIZED:
        yield f"... {plural(len(results) - MAX_SUMMARIZED, 'further source')}"
    answered = sum(not result.poll.failure for result in results)
    complete = sum(all(result.numbers) for result in results)
    yield (
        f"{plural(len(results), 'source')}: {answered:,} answered, {complete:,} with a number for each parameter; "
        "etl try NAME shows one in full"
    )


def _outcome(loaded: Loaded, result: _Result) -> str:
    """What a source gave, in a line."""
    if result.poll.failure:
        return f"no answer: {result.poll.failure.why} ({_address(result.source)})"
    if not result.readings:
        return f"no reading: {result.rejections[0]}" if result.rejections else result.source.no_answer
    values = [
        f"{clipped(parameter, 40)} {f'{numbers[0]:.10g}' if numbers else 'no number'}"
        for parameter, numbers in zip(loaded.config.parameters, result.numbers, strict=True)
    ]
    return f"{plural(len(result.readings), 'reading')}, {', '.join(values)}"
