"""etl export: averages, readings or alarms of some days as a CSV or Parquet file."""

import logging
import sys
from collections.abc import Iterator
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import click

from etl.audit.export.columns import TooManyColumnsError
from etl.audit.export.csv_text import DELIMITERS, csv_pieces
from etl.audit.export.table import Kind, Skip, Table, passes
from etl.audit.export.target import naming, unusable, written_aside
from etl.cli.command import config_option, execute, output_root, progress
from etl.cli.exits import CANNOT_CREATE, OK, PROBLEM, USAGE, ExitError
from etl.config.load import Loaded
from etl.config.model import install_hint
from etl.readings.text import plural
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog

MAX_LISTED = 20
"""Damaged lines that are listed one by one; the others are counted."""
MAX_GAPS = 5
"""Runs of days without a log that are named; the others are counted."""

log = logging.getLogger("etl")


class Days(NamedTuple):
    """The first and the last day of an export."""

    first: date
    last: date

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def _parsed(_ctx: click.Context, _param: click.Parameter, value: str) -> Days:
    texts = value.split("..")
    try:
        days = Days(date.fromisoformat(texts[0]), date.fromisoformat(texts[-1]))
    except ValueError:
        days = None
    if not days or value not in (str(days.first), f"{days.first}..{days.last}"):
        raise click.BadParameter(f"{value!r} is not a day. Write 2026-11-22, or 2026-11-22..2026-11-28 for several.")
    if days.last < days.first:
        raise click.BadParameter(f"{value!r} ends before it begins. Write the earlier day first.")
    return days


@click.command("export")
@config_option
@click.argument("days", metavar="DAY[..DAY]", callback=_parsed)
@click.option("--to", metavar="FILE", required=True, help="FILE.csv or FILE.parquet; - writes CSV to stdout.")
@click.option(
    "--kind",
    type=click.Choice(["averages", "raw", "alarms"]),
    default="averages",
    show_default=True,
    help="Which log to export.",
)
@click.option(
    "--decimal",
    type=click.Choice(list(DELIMITERS)),
    default=".",
    show_default=True,
    help="Decimal sign in CSV; with a comma, cells are separated by semicolons.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def command(file: Path, days: Days, to: str, kind: Kind, **options: Any) -> None:
    """Write the averages, readings or alarms of a day, or of several, as a table for other programs.

    DAY is YYYY-MM-DD; 2026-11-22..2026-11-28 are the seven days from the first to the last. Works beside a running
    `etl run`. The columns are the keys of the lines, in order. FILE is complete or does not exist. Damaged lines are
    left out and listed; the exit code is then 1. Parquet needs the extra `parquet`.
    """
    path = None if to == "-" else Path(to)
    execute(file, lambda loaded: export(loaded, days, kind, Output(path, **options)))


class Output(NamedTuple):
    """Where to write, and how; `path` is None for stdout."""

    path: Path | None
    decimal: str
    force: bool


def export(loaded: Loaded, days: Days, kind: Kind, output: Output) -> int:
    """Write the lines of these days; the exit code."""
    folder = Folder(output_root(loaded))
    _check(output, folder.root)
    exported = [day for day in folder.days(kind) if str(days.first) <= day <= str(days.last)]
    if not exported:
        raise ExitError(f"{folder.root} has no {kind} of {days}.", PROBLEM)
    if gaps := list(_gaps(days, exported)):
        rest = f" and {plural(len(gaps) - MAX_GAPS, 'more gap')}" if len(gaps) > MAX_GAPS else ""
        click.echo(f"note: there are no {kind} of {', '.join(gaps[:MAX_GAPS])}{rest}", err=True)
    skipped = Skipped()
    with progress("export", passes(kind) * folder.stored_bytes(kind, exported)) as advance:
        try:
            table = Table(SettingsLog(folder, loaded.settings), kind, exported, advance)
        except TooManyColumnsError as error:
            raise ExitError(f"{error}. Export fewer days at once.", PROBLEM) from None
        if not table.columns:
            raise ExitError(f"There is no complete line in the {kind} of {days}.", PROBLEM)
        _write(table, output, skipped.add)
    skipped.end()
    summary = (
        f"{plural(table.lines, 'line')} of {plural(len(exported), 'day')}, {plural(skipped.lines, 'damaged line')}"
    )
    click.echo(f"{summary}: {output.path or 'stdout'}", err=output.path is None)
    return PROBLEM if skipped.lines else OK


class Skipped:
    """Lists the first damaged lines, and counts all."""

    def __init__(self) -> None:
        self.lines = 0

    def add(self, path: str, line: int, why: str) -> None:
        """Take in a damaged line."""
        self.lines += 1
        if self.lines <= MAX_LISTED:
            log.warning("%s:%d: left out, the line is damaged: %s", path, line, why)

    def end(self) -> None:
        """Log how many were not listed."""
        if self.lines > MAX_LISTED:
            log.warning("... and %s", plural(self.lines - MAX_LISTED, "more damaged line"))


def _check(output: Output, root: Path) -> None:
    """Raise ExitError if the table cannot be written where it should be."""
    path = output.path
    if path is None:
        return
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ExitError(f"{path} ends neither with .csv nor with .parquet. Name the file so.", USAGE)
    if suffix == ".parquet" and output.decimal != ".":
        raise ExitError("Numbers in Parquet have no decimal sign. Leave out --decimal.", USAGE)
    if why := unusable(path, root):
        raise ExitError(f"{why}. Write to another file.", CANNOT_CREATE)
    if path.exists() and not output.force:
        raise ExitError(f"{path} exists. Write to another file, or replace it with --force.", CANNOT_CREATE)


def _write(table: Table, output: Output, skip: Skip) -> None:
    if output.path is None:
        for piece in _csv(table, output, skip):
            with naming(Path("stdout")):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
    elif output.path.suffix.lower() == ".csv":
        with written_aside(output.path) as file:
            file.writelines(_csv(table, output, skip))
    else:
        try:
            from etl.audit.export.parquet import write_parquet  # noqa: PLC0415  pyarrow is an extra
        except ImportError as error:
            hint = install_hint("parquet")
            raise ExitError(f"Parquet needs pyarrow, which cannot be used ({error}): {hint}.", CANNOT_CREATE) from None
        with written_aside(output.path) as file:
            write_parquet(table.columns, table.rows(skip), file)


def _csv(table: Table, output: Output, skip: Skip) -> Iterator[bytes]:
    return csv_pieces(table.columns, chain.from_iterable(table.rows(skip, times_as_text=True)), output.decimal)


def _gaps(days: Days, exported: list[str]) -> Iterator[str]:
    """The runs of days without a log."""
    following = days.first.toordinal()
    for day in [*(date.fromisoformat(day).toordinal() for day in exported), days.last.toordinal() + 1]:
        if following < day:
            yield str(Days(date.fromordinal(following), date.fromordinal(day - 1)))
        following = day + 1
