"""etl status: the state of every source, read from the output folder without its lock."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.cli.command import config_option, execute, output_root
from etl.cli.exits import IO_ERROR, OK, PROBLEM, ExitError
from etl.config.load import Loaded
from etl.live.standing import STATES, state_of
from etl.nightly.due import due_days
from etl.readings.days import next_reports
from etl.readings.records import Settings
from etl.readings.text import plural, printable, shortened
from etl.readings.times import rfc3339
from etl.storage.folder import Folder
from etl.storage.latest import Lacking, LastReading, down_events, last_readings, raised_alarms
from etl.storage.lock import is_held

MAX_ROWS = 100
"""Rows of the table, the worst sources first, so that it stays readable; --json has all."""
MAX_ALARMS = 20
"""Raised alarms listed above the table; --json has all."""
MAX_CELL = 40
"""Characters of a cell: a machine may send any text as its status."""
PIPE_WIDTH = 1000
"""Columns where stdout is not a terminal, so that no row is wrapped."""
COLOURS = {"down": "bold red", "silent": "yellow", "up": "green"}


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
        raise ExitError(f"{folder.root} {problem}. Start `etl run`, or check output.folder.", PROBLEM)
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
    sources.sort(key=lambda source: (STATES.index(source["state"]), source["no_number"] is None, source["source"]))
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
        "no_number": sum(source["no_number"] is not None for source in sources),
        "alarms": raised_alarms(folder),
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
        "no_number": _no_number(last.lacking, settings) if last and last.lacking else None,
    }


def _no_number(lacking: Lacking, settings: Settings) -> dict[str, Any]:
    """How many machines of a source send no number for each parameter, and the sentence on one of them."""
    counts = {name: lacking.machines[field] for name, field in settings.parameters.items()}
    return {"machines": {name: count for name, count in counts.items() if count}, "why": lacking.why}


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


def show(state: dict[str, Any], out: IO[str]) -> None:
    """Write the state as a table; in colour where `out` is a terminal and NO_COLOR is not set."""
    console = Console(file=out, width=None if out.isatty() else PIPE_WIDTH, highlight=False)
    parameters = list(dict.fromkeys(name for source in state["sources"] for name in source["values"]))
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "state", "last", "status", *parameters, "why"):
        table.add_column(printable(heading), justify="right" if heading in ("last", *parameters) else "left")
    for source in state["sources"][:MAX_ROWS]:
        table.add_row(*_row(source, parameters))
    for line in _summary(state):
        console.print(Text(line))
    console.print(table)
    if len(state["sources"]) > MAX_ROWS:
        console.print(f"and {plural(len(state['sources']) - MAX_ROWS, 'more source')}; --json has all")


def _row(source: dict[str, Any], parameters: Iterable[str]) -> Iterable[Text | str]:
    several = source["machines"] > 1
    yield Text(printable(source["source"]))
    yield Text(source["state"], COLOURS[source["state"]])
    yield _ago(source["age"])
    yield f"{source['machines']} machines" if several else Text(_cell(source["status"]))
    for name in parameters:
        yield "" if several else Text(_cell(source["values"].get(name)))
    yield Text(printable(_why(source)))


def _why(source: dict[str, Any]) -> str:
    if source["since"]:
        return f"since {source['since']}: {source['reason']}"
    if not source["no_number"]:
        return ""
    machines, why = source["no_number"]["machines"], source["no_number"]["why"]
    return why if source["machines"] < 2 else f"{plural(max(machines.values()), 'machine')}, such as: {why}"


def _summary(state: dict[str, Any]) -> Iterable[str]:
    reports = state["reports"]
    running = "running" if state["running"] else "not running"
    yield printable(f"{state['folder']}: {running}, last reading {_ago(state['lag'])}")
    no_number = f", {state['no_number']} without a number" if state["no_number"] else ""
    yield f"{state['up']} up, {state['down']} down, {state['silent']} silent{no_number}"
    due = f", due {', '.join(reports['due'])}" if reports["due"] else ""
    yield f"reports: last {reports['last'] or 'none'}{due}, next {reports['next']['day']} at {reports['next']['at']}"
    alarms = state["alarms"]
    if alarms:
        yield f"{plural(len(alarms), 'alarm')} raised"
    yield from (printable(f"  {_alarm(alarm)}") for alarm in alarms[:MAX_ALARMS])
    if len(alarms) > MAX_ALARMS:
        yield f"  and {len(alarms) - MAX_ALARMS:,} more; --json has all"
    yield ""


def _alarm(alarm: dict[str, Any]) -> str:
    """One alarm in words: "hot: press-7 id 7, temperature 81.2, limit 80, since 2026-01-05T10:00:00.000Z"."""
    machine = alarm["source"] if alarm["id"] is None else f"{alarm['source']} id {alarm['id']}"
    limit = "" if alarm["limit"] is None else f", limit {_cell(alarm['limit'])}"
    value = f"{alarm['parameter'] or 'status'} {_cell(alarm['value'])}"
    return f"{alarm['alarm']}: {machine}, {value}{limit}, since {alarm['since']}"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "long ago or never"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    return printable(shortened(text, MAX_CELL))
