"""How everything stands, from the folder alone: beside a running process, without its lock, from the ends of its files.

What is looked at is bounded, however big the folder is: a source whose last reading lies further back has none here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import orjson

from etl.nightly.report import due_days
from etl.readings.days import next_reports
from etl.readings.records import Settings
from etl.readings.text import printable
from etl.readings.wire import RejectedError, raw_decoder, rfc3339
from etl.storage.folder import Folder

RAW, EVENTS = 16 << 20, 8 << 20
"""Bytes of the ends of the raw log and of the events that are read, at most."""
SILENT = 3
"""Intervals without a reading after which a source that is not known to be down is called silent."""
ROWS = 100
"""Rows of the table, at most; the worst come first."""
WORST_FIRST = ("down", "silent", "up")
"""The states of a source: its polls fail; they do not, but no reading came for some time; readings come."""


class _Last(NamedTuple):
    """The last reading of a source; `machines` counts those in the same poll."""

    at: float
    status: Any
    values: Sequence[Any]
    machines: int


def look(
    folder: Folder, names: Iterable[str], settings: Settings, report_at: str, now: float, running: bool
) -> dict[str, Any]:
    """How each source stands, the worst first, and the reports; plain values, times as RFC 3339, ages in seconds.

    Raises:
        OSError: a file cannot be read.

    """
    wanted = list(names)
    last = _last_readings(folder, set(wanted), list(settings.parameters.values()))
    down = _down(folder)
    sources = [_source(name, last.get(name), down.get(name), settings, now) for name in wanted]
    sources.sort(key=lambda source: (WORST_FIRST.index(source["state"]), source["source"]))
    newest = max((reading.at for reading in last.values()), default=None)
    zone = ZoneInfo(settings.timezone)
    day, due = next_reports(now, report_at, zone, 1)[0]
    return {
        "folder": str(folder.root),
        "at": rfc3339(now),
        "running": running,
        "last_reading": rfc3339(newest) if newest is not None else None,
        "lag": _age(newest, now),
        **{state: sum(source["state"] == state for source in sources) for state in WORST_FIRST},
        "reports": {
            "last": max(folder.reports(), default=None),
            "due": due_days(folder, now, report_at, zone),
            "next": {"day": day, "at": due.isoformat()},
        },
        "sources": sources,
    }


def _source(
    name: str, last: _Last | None, down: dict[str, Any] | None, settings: Settings, now: float
) -> dict[str, Any]:
    if last and down and down["at"] < rfc3339(last.at):
        down = None  # it answered since, to `etl once`, which tells no start
    age = _age(last.at if last else None, now)
    silent = age is None or age > SILENT * settings.interval
    return {
        "source": name,
        "state": "down" if down else "silent" if silent else "up",
        "since": down.get("at") if down else None,
        "reason": (down.get("why") or down.get("reason")) if down else None,
        "last_reading": rfc3339(last.at) if last else None,
        "age": age,
        "machines": last.machines if last else 0,
        "status": last.status if last else None,
        "values": dict(zip(settings.parameters, last.values, strict=True)) if last else {},
    }


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


def _last_readings(folder: Folder, names: set[str], fields: list[str]) -> dict[str, _Last]:
    decode = raw_decoder(fields)
    last: dict[str, _Last] = {}
    ids: set[Any] = set()
    missing = set(names)
    for line in folder.backwards("raw", RAW):
        try:
            reading = decode(line)
        except RejectedError:
            continue
        name, number = reading.machine
        if name in missing:
            missing.remove(name)
            ids = {number}
            last[name] = _Last(reading.polled_at, reading.status, reading.values, 1)
        elif name in last and reading.polled_at == last[name].at:  # the lines of a poll stand together
            ids.add(number)
            last[name] = last[name]._replace(machines=len(ids))
        elif not missing:
            break
    return last


def _down(folder: Folder) -> dict[str, dict[str, Any]]:
    """The event that told it, of each source that is down; a start begins without knowing of any."""
    latest: dict[str, dict[str, Any]] = {}
    for line in folder.backwards("events", EVENTS):
        try:
            event = orjson.loads(line)
            kind, source = event["event"], event["source"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            continue
        if kind == "start":
            break
        if kind in ("source_down", "source_up") and isinstance(source, str) and isinstance(event.get("at"), str):
            latest.setdefault(source, event)
    return {source: event for source, event in latest.items() if event["event"] == "source_down"}


def encode(found: dict[str, Any]) -> bytes:
    """What `look` found as one JSON document."""
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def show(found: dict[str, Any], out: IO[str]) -> None:
    """Write what `look` found as a table; in colours where `out` is a terminal and NO_COLOR is not set."""
    from rich.console import Console  # noqa: PLC0415  only who looks at a table pays for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=out, width=None if out.isatty() else 1000, highlight=False)
    colours = dict(zip(WORST_FIRST, ("bold red", "yellow", "green"), strict=True))
    parameters = list(dict.fromkeys(name for source in found["sources"] for name in source["values"]))
    table = Table(box=None, pad_edge=False)
    for heading in ("source", "state", "last", "status", *parameters, "why"):
        table.add_column(printable(heading), justify="right" if heading in ("last", *parameters) else "left")
    for source in found["sources"][:ROWS]:
        several = source["machines"] > 1
        table.add_row(
            Text(printable(source["source"])),
            Text(source["state"], colours[source["state"]]),
            _ago(source["age"]),
            f"{source['machines']} machines" if several else Text(_cell(source["status"])),
            *("" if several else Text(_cell(source["values"].get(name))) for name in parameters),
            Text(printable(f"since {source['since']}: {source['reason']}") if source["since"] else ""),
        )
    for line in _head(found):
        console.print(Text(line))
    console.print(table)
    if len(found["sources"]) > ROWS:
        console.print(f"and {len(found['sources']) - ROWS} more; --json has all")


def _head(found: dict[str, Any]) -> Iterable[str]:
    reports = found["reports"]
    running = "running" if found["running"] else "not running"
    yield printable(f"{found['folder']}: {running}, last reading {_ago(found['lag'])}")
    yield f"{found['up']} up, {found['down']} down, {found['silent']} silent"
    due = f", due {', '.join(reports['due'])}" if reports["due"] else ""
    yield f"reports: last {reports['last'] or 'none'}{due}, next {reports['next']['day']} at {reports['next']['at']}"
    yield ""


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
    return printable(text if len(text) <= 40 else text[:37] + "...")
