"""etl status: the state of every source, read from the output folder without its lock."""

import sys
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import msgspec

from etl.cli.command import config_option, execute, output_root
from etl.cli.exits import FOUND, IO_ERROR, OK, ExitError
from etl.cli.status_table import show
from etl.config.load import Loaded
from etl.live.standing import STATES, state_of
from etl.nightly.due import due_days
from etl.readings.days import next_reports
from etl.readings.records import Settings
from etl.readings.times import rfc3339
from etl.storage.folder import Folder
from etl.storage.latest import LastReading, down_events, last_readings
from etl.storage.lock import is_held


@click.command("status")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def command(file: Path, as_json: bool) -> None:
    """Show the state and the last reading of each source, the worst first, and the reports.

    Reads only the output folder, so it works beside a running `etl run` as well. The exit code is 0 also when sources
    are down or silent.
    """
    execute(file, lambda loaded: status(loaded, as_json))


def status(loaded: Loaded, as_json: bool) -> int:
    """Print the state of every source; the exit code."""
    folder = Folder(output_root(loaded))
    if not folder.days("raw") and not folder.days("events"):
        root = folder.root
        problem = "is empty" if root.is_dir() else "is not a folder" if root.exists() else "does not exist"
        raise ExitError(f"{folder.root} {problem}. Start `etl run`, or check output.folder.", FOUND)
    names = [source.name for source in loaded.sources]
    try:
        state = read_state(folder, names, loaded.settings, loaded.config.report.at, time.time(), is_held(folder.root))
    except OSError as error:
        problem = f"{error.filename or folder.root} cannot be read: {error.strerror or error}."
        raise ExitError(problem, IO_ERROR) from None
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
    else:
        show(state, sys.stdout)
    return OK


def read_state(
    folder: Folder, names: list[str], settings: Settings, report_at: str, now: float, running: bool
) -> dict[str, Any]:
    """The state of each source, the worst first, and of the reports; times as RFC 3339, ages in seconds.

    The bytes read are limited, however large the folder is: a source whose last reading lies further back has none.
    """
    last = last_readings(folder, set(names), list(settings.parameters.values()))
    down = down_events(folder)
    sources = [_source(name, last.get(name), down.get(name), settings, now) for name in names]
    sources.sort(key=lambda source: (STATES.index(source["state"]), source["source"]))
    newest = max((reading.at for reading in last.values()), default=None)
    zone = ZoneInfo(settings.timezone)
    day, due = next_reports(now, report_at, zone, 1)[0]
    return {
        "folder": str(folder.root),
        "at": rfc3339(now),
        "running": running,
        "last_reading": rfc3339(newest) if newest is not None else None,
        "lag": _age(newest, now),
        **{state: sum(source["state"] == state for source in sources) for state in STATES},
        "reports": {
            "last": max(folder.reports(), default=None),
            "due": due_days(folder, now, report_at, zone),
            "next": {"day": day, "at": due.isoformat()},
        },
        "sources": sources,
    }


def _source(
    name: str, last: LastReading | None, down: dict[str, Any] | None, settings: Settings, now: float
) -> dict[str, Any]:
    if last and down and down["at"] < rfc3339(last.at):
        down = None  # it answered later, to `etl once`, which records neither a start nor a source_up
    return {
        "source": name,
        "state": state_of(down is not None, last.at if last else None, now, settings.interval),
        "since": down.get("at") if down else None,
        "reason": (down.get("why") or down.get("reason")) if down else None,
        "last_reading": rfc3339(last.at) if last else None,
        "age": _age(last.at if last else None, now),
        "machines": last.machines if last else 0,
        "status": last.status if last else None,
        "values": dict(zip(settings.parameters, last.values, strict=True)) if last else {},
    }


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)
