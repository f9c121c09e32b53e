"""etl once: one tick over all sources."""

import time
from pathlib import Path

import click

from etl.cli.command import config_option, execute, locked, log_format_option, output_root
from etl.cli.exits import IO_ERROR, OK, UNAVAILABLE, ExitError
from etl.config.load import Loaded
from etl.live.pipeline import Pipeline
from etl.live.sinks.stdout import Stdout
from etl.readings.text import plural

STDOUT_PATIENCE_S = 5.0
"""A reader of stdout gets this long to take the last lines."""


@click.command("once")
@config_option
@log_format_option
def command(file: Path, log_format: str) -> None:
    """Poll every source once, write the answers, and exit.

    Exit code 0, or 69 if no source answered.
    """
    execute(file, once, log_format)


def once(loaded: Loaded) -> int:
    """Poll every source once; the exit code."""
    with locked(output_root(loaded)):
        stdout = Stdout()
        pipeline = Pipeline(loaded, time.time, stdout)
        pipeline.tick_once()
        pipeline.close()
        pipeline.settle()
        pipeline.logs.close()
        stdout.close(STDOUT_PATIENCE_S)
        standing, unwritten = pipeline.standing, pipeline.writer.unwritten
        if unwritten:
            readings, folder = plural(unwritten, "reading"), pipeline.folder.root
            raise ExitError(f"{readings} could not be written to {folder}: {standing.stuck}", IO_ERROR)
        if standing.counts["answered"]:
            return OK
        hint = "`etl try` says what to change; `python -m api` starts a simulated machine"
        raise ExitError(f"No source answered, as the lines above say: {hint}.", UNAVAILABLE)
