"""etl rebuild: averages and reports derived again from the raw log."""

import time
from pathlib import Path

import click

from etl.audit.rebuild import rebuild as rebuild_folder
from etl.cli.command import config_option, execute, locked, output_root, progress
from etl.cli.exits import CANNOT_CREATE, PROBLEM, ExitError
from etl.cli.verify import bytes_to_read, verify
from etl.config.load import Loaded
from etl.nightly.due import due_days
from etl.readings.days import day_finder
from etl.storage.appender import Appender
from etl.storage.events import Events
from etl.storage.folder import Folder
from etl.storage.retention import without_averages
from etl.storage.settings_log import SettingsLog


@click.command("rebuild")
@config_option
def command(file: Path) -> None:
    """Derive averages and reports again from the raw log, where they differ from it.

    Prints which files changed, then checks the folder as `etl verify` does. The raw log is not changed, except that
    torn and damaged lines at its end are moved to *.torn. Stop `etl run` first.
    """
    execute(file, rebuild)


def rebuild(loaded: Loaded) -> int:
    """Rebuild and verify the folder, and print what changed; the exit code."""
    folder = Folder(output_root(loaded))
    if not folder.days("raw"):
        raise ExitError(f"There is no raw log in {folder.root}. Check output.folder.", PROBLEM)
    with locked(folder.root):
        appender, newest = Appender(folder, "events"), folder.newest_day("events")
        events = Events(appender, day_finder(loaded.zone), time.time, newest)
        unreported = due_days(folder, time.time(), loaded.config.report.at, loaded.zone)
        deleted = without_averages(folder, day_finder(loaded.zone)(time.time()), loaded.config.output.keep_days)
        try:
            with progress("rebuild", bytes_to_read(folder, {*folder.reports(), *unreported})) as advance:
                settings_log = SettingsLog(Folder(folder.root, advance), loaded.settings)
                units = loaded.config.units
                for line in rebuild_folder(settings_log, unreported, deleted, events.record, units):
                    click.echo(line)
            events.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ExitError(
                f"{error.filename or folder.root} cannot be written: {error.strerror}. "
                "No file is half-written; run `etl rebuild` again when it can be written.",
                CANNOT_CREATE,
            ) from None
        return verify(loaded, lambda _: False)
