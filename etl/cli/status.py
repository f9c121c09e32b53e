"""etl status: the state of every source, read from the output folder without its lock."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.cli.command import config_option, execute, output_root
from etl.cli.exits import IO_ERROR, OK, PROBLEM, ExitError
from etl.config.load import Loaded
from etl.live.standing import NOT_READY_AFTER_INTERVALS, STATES, state_of
from etl.nightly.due import due_days
from etl.readings.averages.no_number import explain
from etl.readings.averages.window import silence_s
from etl.readings.days import next_reports
from etl.readings.digits import quantity
from etl.readings.records import Settings
from etl.readings.text import natural_key, plural, printable, shortened
from etl.readings.times import rfc3339
from etl.storage.folder import Folder
from etl.storage.latest import Lacking, LastReading, down_events, last_readings, raised_alarms
from etl.storage.lock import is_held
from etl.storage.space import not_written

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
@click.argument("patterns", metavar="[NAME]...", nargs=-1)
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def command(patterns: tuple[str, ...], file: Path, as_json: bool) -> None:
    """Show the state and the last reading of each source, the worst first, and the reports.

    NAME limits it to these sources; it may be a pattern in quotes, such as 'press-*'. Reads only the output folder, so
    it works beside a running `etl run` as well. The exit code is 0 also when sources are down or silent.
    """
    execute(file, lambda loaded: status(loaded, patterns, as_json))


def status(loaded: Loaded, patterns: Sequence[str], as_json: bool) -> int:
    """Print the state of every source that one of the patterns matches, without patterns of all; the exit code."""
    folder = Folder(output_root(loaded))
    if not folder.days("raw") and not folder.days("events"):
        root = folder.root
        problem = "is empty" if root.is_dir() else "is not a folder" if root.exists() else "does not exist"
        raise ExitError(f"{folder.root} {problem}. Start `etl run`, or check output.folder.", PROBLEM)
    names = matching([source.name for source in loaded.sources], patterns, loaded.file)
    try:
        state = read_state(folder, loaded, names, time.time(), is_held(folder.root))
    except OSError as error:
        problem = f"{error.filename or folder.root} cannot be read: {error.strerror or error}."
        raise ExitError(problem, IO_ERROR) from None
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
    else:
        show(state, sys.stdout)
    return OK


def matching(names: list[str], patterns: Sequence[str], file: Path) -> list[str]:
    """The names that one of the patterns is or matches, all without patterns; ExitError if one matches none."""
    matched: set[str] = set()
    for pattern in patterns:
        of_pattern = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        if not of_pattern:
            near = get_close_matches(pattern, names, 1)
            hint = f"Did you mean {near[0]}?" if near else "Put a pattern in quotes, or a shell replaces it by files."
            raise ExitError(printable(f"No source of {file} matches {pattern}. {hint}"), PROBLEM)
        matched |= of_pattern
    return [name for name in names if name in matched] if patterns else names


def read_state(folder: Folder, loaded: Loaded, names: list[str], now: float, running: bool) -> dict[str, Any]:
    """The state of these sources and of their machines, the worst first, of the reports and of the disk.

    Times are RFC 3339, ages seconds. The bytes read are limited, however large the folder is: a source whose last
    reading lies further back has none.
    """
    settings, report_at = loaded.settings, loaded.config.report.at
    listed, is_all = set(names), len(names) == len(loaded.sources)
    last = last_readings(folder, listed, list(settings.parameters.values()), silence_s(settings.interval))
    by_source: dict[str, dict[Any, LastReading]] = {}
    for (source, machine_id), reading in last.items():
        by_source.setdefault(source, {})[machine_id] = reading
    down = _down(folder, by_source)
    sources = [_source(name, by_source.get(name, {}), down.get(name), settings, now) for name in names]
    is_expected = any(source.name not in down and source.always_sends for source in loaded.sources)
    sources.sort(key=lambda source: (*_severity(source), natural_key(source["source"])))
    newest = max((reading.at for reading in last.values()), default=None)
    day, due = next_reports(now, report_at, loaded.zone, 1)[0]
    return {
        "folder": str(folder.root),
        "at": rfc3339(now),
        "running": running,
        "disk": not_written(folder, now, NOT_READY_AFTER_INTERVALS * settings.interval, running, is_expected),
        "last_reading": rfc3339(newest) if newest is not None else None,
        "lag": _age(newest, now),
        **{state: sum(source["state"] == state for source in sources) for state in STATES},
        "no_number": sum(source["no_number"] is not None for source in sources),
        "alarms": [alarm for alarm in raised_alarms(folder) if is_all or alarm["source"] in listed],
        "reports": {
            "last": max(folder.reports(), default=None),
            "due": due_days(folder, now, report_at, loaded.zone),
            "next": {"day": day, "at": due.isoformat()},
        },
        "units": loaded.config.units,
        "sources": sources,
        "machines": [
            machine
            for source in sources
            for machine in _machines(source, by_source.get(source["source"], {}), settings, now)
        ],
    }


def _severity(entry: dict[str, Any]) -> tuple[int, bool]:
    """A sort key by which the worst sources or machines come first."""
    return STATES.index(entry["state"]), not entry["no_number"]


def _down(folder: Folder, by_source: Mapping[str, Mapping[Any, LastReading]]) -> dict[str, dict[str, Any]]:
    """The source_down event of each source that is down.

    One that has a later reading is not: it answered `etl once`, which records neither a start nor a source_up.
    """
    last = {source: rfc3339(next(iter(machines.values())).at) for source, machines in by_source.items()}
    return {source: event for source, event in down_events(folder).items() if event["at"] >= last.get(source, "")}


def _source(
    name: str, machines: Mapping[Any, LastReading], down: dict[str, Any] | None, settings: Settings, now: float
) -> dict[str, Any]:
    last = next(iter(machines.values()), None)  # the newest
    return {
        "source": name,
        "state": state_of(down is not None, last.at if last else None, now, settings.interval),
        "since": down.get("at") if down else None,
        "reason": (down.get("why") or down.get("reason")) if down else None,
        "last_reading": rfc3339(last.at) if last else None,
        "age": _age(last.at if last else None, now),
        "machines": len(machines),
        "status": last.status if last else None,
        "values": dict(zip(settings.parameters, last.values, strict=True)) if last else {},
        "no_number": _no_number([reading.lacking for reading in machines.values() if reading.lacking], settings),
    }


def _machines(
    source: dict[str, Any], machines: Mapping[Any, LastReading], settings: Settings, now: float
) -> list[dict[str, Any]]:
    """The machines of a source, the worst first; `no_number` names the parameters without a number."""
    is_down = source["state"] == "down"
    entries = [
        {
            "source": source["source"],
            "id": machine_id,
            "state": state_of(is_down, last.at, now, settings.interval),
            "last_reading": rfc3339(last.at),
            "age": _age(last.at, now),
            "status": last.status,
            "values": dict(zip(settings.parameters, last.values, strict=True)),
            "no_number": [
                name for name, field in settings.parameters.items() if last.lacking and field in last.lacking.fields
            ],
        }
        for machine_id, last in machines.items()
    ]
    return sorted(entries, key=lambda entry: (*_severity(entry), natural_key(str(entry["id"]))))


def _no_number(lacking: Sequence[Lacking], settings: Settings) -> dict[str, Any] | None:
    """How many machines of a source send no number for each parameter, and the sentence on one of them."""
    if not lacking:
        return None
    counts = Counter(field for machine in lacking for field in machine.fields)
    machines = {name: counts[field] for name, field in settings.parameters.items() if counts[field]}
    return {"machines": machines, "why": explain(lacking[0].line, lacking[0].fields)}


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


def show(state: dict[str, Any], out: IO[str]) -> None:
    """Write the state as a table; in colour where `out` is a terminal and NO_COLOR is not set."""
    console = Console(file=out, width=None if out.isatty() else PIPE_WIDTH, highlight=False)
    parameters = list(dict.fromkeys(name for source in state["sources"] for name in source["values"]))
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "state", "last", "status"):
        table.add_column(heading, justify="right" if heading == "last" else "left")
    for name in parameters:
        table.add_column(Text(printable(f"{name} {state['units'].get(name, '')}".strip())), justify="right")
    table.add_column("why")
    shown, machines = state["sources"][:MAX_ROWS], _shown_machines(state)
    for source in shown:
        table.add_row(*_row(source, parameters))
        for machine in machines.pop(source["source"], ()):
            table.add_row(*_machine_row(machine, parameters))
    for line in _summary(state):
        console.print(Text(line))
    console.print(table)
    for line in _left_out(state, len(shown)):
        console.print(line)


def _shown_machines(state: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The machines of sources with several that have a row, by source: the worst, as many as rows are left."""
    several = _of_several(state)
    rows: dict[str, list[dict[str, Any]]] = {}
    for machine in sorted(several, key=_severity)[: max(0, MAX_ROWS - len(state["sources"]))]:
        rows.setdefault(machine["source"], []).append(machine)
    return rows


def _of_several(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The machines of the sources that have several."""
    several = {source["source"] for source in state["sources"] if source["machines"] > 1}
    return [machine for machine in state["machines"] if machine["source"] in several]


def _left_out(state: dict[str, Any], shown: int) -> Iterable[str]:
    """What has no row."""
    if sources := len(state["sources"]) - shown:
        yield f"and {plural(sources, 'more source')}; --json has all"
    if (machines := len(_of_several(state)) - max(0, MAX_ROWS - len(state["sources"]))) > 0:
        yield f"and {plural(machines, 'more machine')}; `etl status NAME` shows those of a source, --json all"


def _row(source: dict[str, Any], parameters: Iterable[str]) -> Iterable[Text | str]:
    several = source["machines"] > 1
    yield Text(printable(source["source"]))
    yield Text(source["state"], COLOURS[source["state"]])
    yield _ago(source["age"])
    yield f"{source['machines']:,} machines" if several else Text(_cell(source["status"]))
    for name in parameters:
        yield "" if several else Text(_cell(source["values"].get(name)))
    yield Text(printable(_why(source)))


def _machine_row(machine: dict[str, Any], parameters: Iterable[str]) -> Iterable[Text | str]:
    yield Text(f"  {_machine_name(machine['id'])}")
    yield Text(machine["state"], COLOURS[machine["state"]])
    yield _ago(machine["age"])
    yield Text(_cell(machine["status"]))
    for name in parameters:
        yield Text(_cell(machine["values"].get(name)))
    yield Text(printable(f"no number for {', '.join(machine['no_number'])}" if machine["no_number"] else ""))


def _machine_name(machine_id: Any) -> str:
    return "no id" if machine_id is None else f"id {_cell(machine_id)}"


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
    if state["disk"]:
        yield _disk(**state["disk"])
    no_number = f", {state['no_number']} without a number" if state["no_number"] else ""
    yield f"{state['up']} up, {state['down']} down, {state['silent']} silent{no_number}"
    due = f", due {', '.join(reports['due'])}" if reports["due"] else ""
    yield f"reports: last {reports['last'] or 'none'}{due}, next {reports['next']['day']} at {reports['next']['at']}"
    alarms = state["alarms"]
    if alarms:
        yield f"{plural(len(alarms), 'alarm')} raised"
    yield from (printable(f"  {_alarm(alarm, state['units'])}") for alarm in alarms[:MAX_ALARMS])
    if len(alarms) > MAX_ALARMS:
        yield f"  and {len(alarms) - MAX_ALARMS:,} more; --json has all"
    yield ""


def _disk(problem: str, free_bytes: int | None, since: str | None) -> str:
    """What is known of a disk that takes no lines."""
    if problem == "unknown":
        causes = "the disk may reject writes (a quota), or the process hangs; its log says more"
        return f"no line was written since {since}, although not every source is down: {causes}"
    state = "read-only" if problem == "read_only" else "full"
    details = {"full": f" ({plural(free_bytes or 0, 'byte')} free)", "no_inodes": " (no inode is free)"}
    began = f" since {since}" if since else ""
    return f"disk {state}{began}{details.get(problem, '')}{': no line is written' * bool(since)}"


def _alarm(alarm: dict[str, Any], units: Mapping[str, str]) -> str:
    """One alarm in words: "hot: press-7 id 7, temperature 81.2 °C, limit 80 °C, since 2026-01-05T10:00:00.000Z"."""
    machine = alarm["source"] if alarm["id"] is None else f"{alarm['source']} id {_cell(alarm['id'])}"
    unit = units.get(alarm["parameter"])
    limit = "" if alarm["limit"] is None else f", limit {_cell(alarm['limit'], unit)}"
    value = f"{alarm['parameter'] or 'status'} {_cell(alarm['value'], unit)}"
    return f"{alarm['alarm']}: {machine}, {value}{limit}, since {alarm['since']}"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "long ago or never"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _cell(value: Any, unit: str | None = None) -> str:
    if value is None:
        return ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return printable(shortened(quantity(value, unit) if is_number else str(value), MAX_CELL))
