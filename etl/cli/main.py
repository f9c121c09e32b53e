"""The command line: each command is a module of this package, imported when it is called."""

import os
from importlib import import_module
from keyword import iskeyword

import click

COMMANDS = (
    "alarms",
    "check",
    "export",
    "init",
    "once",
    "rebuild",
    "replay",
    "report",
    "run",
    "status",
    "try",
    "verify",
)


class _LazyGroup(click.Group):
    """Imports the module of a command when that command is called, so that each costs only what it uses."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = f"{name}_" if iskeyword(name) else name
        command: click.Command = import_module(f"etl.cli.{module}").command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="machine-telemetry-etl")
def cli() -> None:
    """Watch machines without operating a platform.

    Polls every machine every few seconds, appends each reading and its moving averages as JSON lines to a folder, and
    writes a report of the day's anomalies every night. Start with `etl init`, `etl check`, `etl try` and `etl run`.
    """


def main() -> None:
    """Run the command line."""
    # OpenBLAS, which numpy brings, would start a thread per core when it is imported; nothing here uses it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    cli(prog_name="etl")
