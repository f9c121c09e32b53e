"""What every command shares: its options, loading the config, and ending with an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from etl.cli.exits import BAD_CONFIG, INTERRUPTED, ExitError
from etl.cli.logs import Format, log_to_stderr
from etl.config.document import ConfigError
from etl.config.load import Loaded, load

config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=Path("config.yaml"),
    show_default=True,
    help="The config file; relative paths in it start at its folder.",
)
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the log on stderr: text, or one JSON object per line.",
)


def execute(file: Path, work: Callable[[Loaded], int], log_format: Format = "text") -> NoReturn:
    """Load the config, do the work, and end the process with the exit code that `work` returns."""
    log_to_stderr(log_format)
    report_error = echo_error if log_format == "text" else logging.getLogger("etl").error
    try:
        code = work(load_config(file, report_error))
    except KeyboardInterrupt:
        report_error("Interrupted. No file is half-written; run the command again to complete it.")
        code = INTERRUPTED
    except ExitError as error:
        report_error(str(error))
        code = error.code
    leave(code)


def load_config(file: Path, report_error: Callable[[str], None]) -> Loaded:
    """Load a config; with a problem in it, report that and exit."""
    try:
        return load(file)
    except ConfigError as error:
        report_error(str(error))
        sys.exit(BAD_CONFIG)


def echo_error(message: str) -> None:
    """Write a message to stderr."""
    click.echo(message, err=True)


def leave(code: int) -> NoReturn:
    """End the process without waiting for threads whose polls were abandoned."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)
