"""etl init: a commented config to start from."""

import os
import shlex
from pathlib import Path

import click

from etl.cli.command import finish
from etl.cli.exits import CANNOT_CREATE, OK, ExitError
from etl.config.load import STARTER

SCHEMA = "etl/config.schema.json"
"""The schema as the first line of the starter names it; editors complete the keys with it."""


@click.command("init")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
def command(folder: Path) -> None:
    """Write a commented config.yaml to start from into DIR, by default the current folder.

    It polls a simulated machine and runs as it is. DIR is created if it is missing; an existing config.yaml stays as it
    is, and the exit code is then 73. The other commands find the file in their current folder, or with
    --config DIR/config.yaml.
    """
    finish(lambda: init(folder))


def init(folder: Path) -> int:
    """Write the starter config into a folder; the exit code."""
    path = folder / "config.yaml"
    if os.path.lexists(path):
        raise ExitError(
            f"{path} exists and stays as it is. Edit it, or name another folder: etl init DIR", CANNOT_CREATE
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _create(path, starter())
    except OSError as error:
        raise ExitError(
            f"{path} cannot be written: {error.strerror}: {error.filename or path}. Name another folder: etl init DIR",
            CANNOT_CREATE,
        ) from None
    click.echo(f"{path} polls a simulated machine. Write your machines into it below sources:, then run")
    if folder != Path():
        click.echo(f"  cd {shlex.quote(str(folder))}")
    click.echo("  etl check   # finds mistakes in it\n  etl try     # shows what the machines answer\n  etl run")
    return OK


def _create(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except OSError:
            path.unlink()
            raise


def starter() -> str:
    """The shipped config, with the path of the installed schema in its first line."""
    schema = STARTER.parents[1] / Path(SCHEMA).name
    return STARTER.read_text(encoding="utf-8").replace(SCHEMA, str(schema), 1)
