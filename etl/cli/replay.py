"""etl replay: recorded readings imported as if they had been polled."""

import logging
import os
import time
from collections import defaultdict
from pathlib import Path

import click
import jmespath

from etl.audit.recording.files import RecordedSource, Recording, Rejection
from etl.audit.replay import RefusedError
from etl.audit.replay import replay as import_files
from etl.cli.command import checked, config_option, execute, locked, output_root, progress
from etl.cli.exits import CANNOT_CREATE, OK, PROBLEM, USAGE, ExitError
from etl.config.load import Loaded
from etl.config.sources.file import FileSource
from etl.readings.days import day_finder
from etl.readings.text import day_range, plural
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog

MAX_LISTED = 20
"""Rejected lines that are listed one by one; the others are counted."""

log = logging.getLogger("etl")


@click.command("replay")
@config_option
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
    help="The folder to import into, instead of the one in the config.",
)
def command(file: Path, files: tuple[Path, ...], output: Path | None) -> None:
    """Import recorded readings as if they had been polled at the time they were taken.

    Each FILE is a JSON array, JSON lines, or CSV with a header, .gz too; raw logs of this program among them. Days are
    added completely or not at all. Rejected lines are listed; the exit code is then 1.
    """
    execute(file, lambda loaded: replay(loaded, list(files), output))


def replay(loaded: Loaded, files: list[Path], output: Path | None) -> int:
    """Import recorded readings into the folder, or into `output`; the exit code."""
    if len({os.path.realpath(file) for file in files}) < len(files):
        raise ExitError("A file is named twice, so its readings would be imported twice. Name each file once.", USAGE)
    sources = defaultdict(list)
    for source in loaded.sources:
        if isinstance(source, FileSource):
            records = jmespath.compile(source.records) if source.records else None
            path = Path(os.path.realpath(loaded.path(source.file)))  # resolve() fails where links form a circle
            sources[path].append(RecordedSource(source.name, records, source.by_key))
    folder = Folder(checked(output) if output else output_root(loaded))
    rejected = 0

    def reject(rejection: Rejection) -> None:
        nonlocal rejected
        rejected += 1
        if rejected <= MAX_LISTED:
            log.warning("%s:%d: rejected, %s", rejection.file, rejection.line, rejection.why)

    with locked(folder.root), progress("replay", 2 * sum(file.stat().st_size for file in files)) as advance:
        today = day_finder(loaded.zone)(time.time())
        recording = Recording(sources, loaded.zone, today, advance)
        try:
            result = import_files(SettingsLog(folder, loaded.settings), recording, files, reject, advance)
        except RefusedError as error:
            hint = "Nothing was changed. Import into another folder with --output DIR."
            raise ExitError(f"{error}. {hint}", CANNOT_CREATE) from None
        except OSError as error:
            problem = f"{error.filename or folder.root}: {error.strerror or error}"
            raise ExitError(f"{problem}. Nothing was changed.", CANNOT_CREATE) from None
    for unit, count in recording.epochs.items():
        verb = "was a number" if count == 1 else "were numbers"
        log.info("%s %s, read as %s since 1970", plural(count, "time"), verb, unit)
    if rejected > MAX_LISTED:
        log.warning("... and %s", plural(rejected - MAX_LISTED, "more rejected line"))
    click.echo(
        f"{plural(result.readings, 'reading')}, {plural(rejected, 'rejected line')}; "
        f"days added: {_days(result.added)}; already present: {_days(result.present)}"
    )
    return PROBLEM if rejected or not result.readings else OK


def _days(days: list[str]) -> str:
    return f"{len(days)} ({day_range(days)})" if days else "none"
