"""etl verify: the folder checked against its raw log."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from etl.audit.verify import Proof
from etl.cli.command import config_option, execute, output_root, progress
from etl.cli.exits import IO_ERROR, OK, PROBLEM, ExitError
from etl.config.load import Loaded
from etl.nightly.due import due_days
from etl.readings.days import day_finder
from etl.storage.folder import Folder
from etl.storage.lock import is_held
from etl.storage.retention import without_averages
from etl.storage.settings_log import SettingsLog


@click.command("verify")
@config_option
def command(file: Path) -> None:
    """Prove that averages and reports follow from the raw log; changes nothing.

    Works beside a running `etl run`. Each line names a file and what is wrong with it, or a note; the exit code is 1
    if anything is wrong. `etl rebuild` repairs it.
    """
    execute(file, verify)


def verify(loaded: Loaded, is_running: Callable[[Path], bool] = is_held) -> int:
    """Verify the folder and print the findings; the exit code."""
    folder = Folder(output_root(loaded))
    try:
        unreported = due_days(folder, time.time(), loaded.config.report.at, loaded.zone)
        with progress("verify", bytes_to_read(folder, folder.reports())) as advance:
            settings_log = SettingsLog(Folder(folder.root, advance), loaded.settings)
            deleted = without_averages(folder, day_finder(loaded.zone)(time.time()), loaded.config.output.keep_days)
            proof = Proof(settings_log, unreported, is_running, deleted)
            for finding in proof.findings():
                click.echo(f"{'wrong' if finding.wrong else 'note'}: {finding.text}")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExitError(f"{error.filename or folder.root} cannot be read: {error.strerror}.", IO_ERROR) from None
    click.echo(proof.summary())
    return PROBLEM if proof.wrong else OK


def bytes_to_read(folder: Folder, reports: Iterable[str]) -> int:
    """Bytes to read to derive the averages of every day and these reports."""
    return folder.stored_bytes("raw", folder.days("raw")) + folder.stored_bytes("raw", reports)
