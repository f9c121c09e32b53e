"""The command line: one function a verb."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from etl.cli.logs import Format
    from etl.config.load import Loaded

_CONFIG = click.option(
    "--config", "file", type=click.Path(path_type=Path), default=Path("config.yaml"), show_default=True,
    help="The config file; relative paths in it start at its folder.",
)  # fmt: skip

_LOG_FORMAT = click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="The log on stderr as text, or as a JSON object a line.",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="machine-telemetry-etl")
def cli() -> None:
    """Watch machines without running a platform.

    Reads every machine each few seconds, keeps each reading and its moving averages as JSON lines in a folder, and
    reports the day's anomalies every night. Start with `etl check`, then `etl run`.
    """


@cli.command()
@_CONFIG
@_LOG_FORMAT
@click.option("--insecure", is_flag=True, help="Let everybody write to the API who reaches api.host, without a token.")
def run(file: Path, log_format: Format, insecure: bool) -> None:
    """Poll, average, write and report until SIGTERM or Ctrl-C.

    Readings and averages go to the output folder and, as JSON lines, to stdout; the log goes to stderr.
    """
    _do(file, "run", insecure, log_format=log_format)


@cli.command()
@_CONFIG
@_LOG_FORMAT
def once(file: Path, log_format: Format) -> None:
    """Read every source once, write what they answer, and exit.

    Exit code 0, or 69 if no source answered.
    """
    _do(file, "once", log_format=log_format)


@cli.command()
@_CONFIG
@click.option("--date", "day", metavar="YYYY-MM-DD", help="Report this day; without it, every day that is due.")
def report(file: Path, day: str | None) -> None:
    """Make the anomaly report of closed days, and print the path of each.

    A day that is not closed yet is reported to stdout and nothing is written.
    """
    _do(file, "report", _day(day) if day else None)


@cli.command()
@_CONFIG
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
)
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to fold them into, instead of the one in the config.",
)
def replay(file: Path, files: tuple[Path, ...], output: Path | None) -> None:
    """Fold recorded readings in as if they had been polled when they were taken.

    Each FILE is a JSON array or JSON lines, .gz too; raw logs of this program among them. Days are added whole or not
    at all. Damaged lines are left out and told; the exit code is then 1.
    """
    _do(file, "replay", list(files), output)


@cli.command()
@_CONFIG
def verify(file: Path) -> None:
    """Prove that averages and reports follow from the raw log; changes nothing.

    Also beside a running `etl run`. Each line says what is wrong, or what else to know, and where; the exit code is 1
    if anything is wrong. `etl rebuild` puts it right.
    """
    _do(file, "verify")


@cli.command()
@_CONFIG
def rebuild(file: Path) -> None:
    """Derive averages and reports anew from the raw log, where they differ from it.

    Says which files changed, then proves the folder as `etl verify` does. The raw log stays as it is, but for a torn
    end, which is kept in *.torn. Stop `etl run` first.
    """
    _do(file, "rebuild")


@cli.command()
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def status(file: Path, as_json: bool) -> None:
    """Show the last reading of each source, what is down, and the reports; the worst first.

    From the output folder alone, also beside a running `etl run`. A source that is down, or silent for three
    intervals, is no error here: the exit code is 0.
    """
    _do(file, "status", as_json)


@cli.command()
@_CONFIG
@click.option("--schema", "as_schema", is_flag=True, help="Write the JSON Schema of the config, and check none.")
def check(file: Path, as_schema: bool) -> None:
    """Check the config and say what it means; touches no network.

    Problems go to stderr as file:line:column: what, and a hint; the exit code is then 78.
    """
    if as_schema:
        from etl.config.schema import schema  # noqa: PLC0415

        click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
        return
    from etl.cli import app  # noqa: PLC0415  a command imports what it needs

    click.echo(app.summary(_load(file, _echo)))


def _do(file: Path, verb: str, *arguments: Any, log_format: Format = "text") -> None:
    from etl.cli.logs import log_to_stderr  # noqa: PLC0415

    log_to_stderr(log_format)
    tell = _echo if log_format == "text" else logging.getLogger("etl").error
    loaded = _load(file, tell)
    from etl.cli import app  # noqa: PLC0415

    work: Callable[..., int] = getattr(app, verb)
    try:
        code = work(loaded, *arguments)
    except KeyboardInterrupt:
        tell("Interrupted: no file is half done. Run it again when it suits.")
        code = 130
    except app.ExitError as error:
        tell(str(error))
        code = error.code
    _leave(code)


def _leave(code: int) -> None:
    """End without waiting for threads whose polls were abandoned."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue
    os._exit(code)


def _echo(message: str) -> None:
    click.echo(message, err=True)


def _load(file: Path, tell: Callable[[str], None]) -> Loaded:
    from etl.config import load as config  # noqa: PLC0415
    from etl.config.document import ConfigError  # noqa: PLC0415

    try:
        return config.load(file)
    except ConfigError as error:
        tell(str(error))
        sys.exit(78)


def _day(day: str) -> str:
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise click.BadParameter(f"{day!r} is no day; write it as 2026-11-22", param_hint="--date") from None


def main() -> None:
    """Run the command line."""
    cli(prog_name="etl")


if __name__ == "__main__":
    main()
