"""The table of `etl status`."""

from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl.readings.text import plural, printable

MAX_ROWS = 100
"""Rows of the table, the worst sources first, so that it stays readable; --json has all."""
MAX_CELL = 40
"""Characters of a cell: a machine may send any text as its status."""
PIPE_WIDTH = 1000
"""Columns where stdout is not a terminal, so that no row is wrapped."""
COLOURS = {"down": "bold red", "silent": "yellow", "up": "green"}


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
    yield Text(printable(f"since {source['since']}: {source['reason']}") if source["since"] else "")


def _summary(state: dict[str, Any]) -> Iterable[str]:
    reports = state["reports"]
    running = "running" if state["running"] else "not running"
    yield printable(f"{state['folder']}: {running}, last reading {_ago(state['lag'])}")
    yield f"{state['up']} up, {state['down']} down, {state['silent']} silent"
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
    return printable(text if len(text) <= MAX_CELL else text[: MAX_CELL - 3] + "...")
