"""The console and the state of a running process, read through functions that the caller passes in."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.resources import files
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qsl

from flask import Blueprint, Response, request

from api.routes import json_response

CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Body(NamedTuple):
    """The body of an answer, `file` from its start and its `size`; or an error, and when to ask again (seconds)."""

    file: IO[bytes] | None = None
    size: int = 0
    status: int = 200
    error: str = ""
    retry_s: int | None = None


FILES = {
    "/": ("text/html", ["console.html"]),
    "/console.css": ("text/css", ["console.css"]),
    "/console.js": (
        "text/javascript",
        [f"console{part}.js" for part in ("_text", "_state", "_table", "_panel", "_reports", "_events", "")],
    ),
}
"""The path of each file of the console: its type, and the templates it consists of, in this order."""


class Views(NamedTuple):
    """The state of a running process. The functions are called from several threads at once."""

    averages: Callable[[], Iterable[bytes]]
    """The latest averages line of each machine."""
    alarms: Callable[[], Iterable[bytes]]
    """The alarms line of each alarm that is raised."""
    events: Callable[[], Iterable[bytes]]
    """The latest lines of the events log, the oldest first."""
    reports: Callable[[], list[str]]
    """The days that have a report, the oldest first."""
    report: Callable[[str], Body | None]
    """The JSON report of a day, or None."""
    not_ready: Callable[[], list[str]]
    """Why the process is not ready; empty if it is."""
    metrics: Callable[[], bytes]
    """Metrics in the Prometheus text format."""
    report_page: Callable[[str], bytes | None]
    """The HTML page of a day's report with links to those beside it, or None."""
    day_so_far: Callable[[bool], Body]
    """The report of the day that is not over: its page if true, else its JSON."""
    machine_day: Callable[[str, str, str], Body]
    """By source, id (JSON) and date, or "today": the page of a machine and day."""
    machine_hours: Callable[[str, str, int], Body]
    """By source, id (JSON) and hours: JSON as that of `machine`, with the charts of the last hours."""
    summaries: Callable[[], Body]
    """The JSON of the summaries of the reports, and of their incidents."""
    overview: Callable[[int], Iterable[bytes]]
    """The JSON of the console, in parts: what is new since the mark of an earlier answer; 0 for everything."""
    machine: Callable[[str, Any], dict[str, Any] | None]
    """By source and id: `charts` (HTML by parameter) and `simulated` (the machine's number in this API, or None).
    None if the machine has sent no reading."""
    export: Callable[[str, str, Any], Iterator[bytes] | None]
    """By day, source and id: the averages lines of a machine on a day as CSV, in pieces; None if it has none."""
    styles: bytes
    """The stylesheet of the charts, which precedes the console's own."""
    script: bytes
    """The script that shows the values of a chart under the pointer."""


def state_routes(views: Views) -> Blueprint:
    """Build the routes that return the state of a running process."""
    routes = Blueprint("state", __name__)
    functions: dict[str, Callable[..., Response]] = {
        "/averages": lambda: _json_list(views.averages()),
        "/alarms": lambda: _json_list(views.alarms()),
        "/events": lambda: _json_list(views.events()),
        "/reports": lambda: json_response(views.reports()),
        "/healthz": lambda: json_response({"status": "ok"}),
        "/metrics": lambda: Response(views.metrics(), content_type="text/plain; version=0.0.4; charset=utf-8"),
        "/readyz": lambda: _readiness(views.not_ready()),
    }
    for path, function in functions.items():
        routes.add_url_rule(path, path, function)
    return routes


def page_routes(views: Views) -> Blueprint:
    """Build the routes of the console's page and of the data it polls."""
    routes = Blueprint("pages", __name__)

    def serve(path: str) -> Response:
        mimetype, names = FILES[path]
        templates = [(files("api") / "templates" / name).read_bytes() for name in names]
        if mimetype == "text/css":
            templates.insert(0, views.styles)
        return _file(b"".join(templates), mimetype)

    for path in FILES:
        routes.add_url_rule(path, path.replace(".", " "), partial(serve, path))
    routes.add_url_rule("/values.js", "values", lambda: _file(views.script, "text/javascript"))

    @routes.get("/console.json")
    def overview() -> Response:
        since = query().get("since", "")
        mark = int(since) if since.isdecimal() and len(since) < 20 else 0
        return Response(views.overview(mark), mimetype="application/json")

    return routes


def _file(content: bytes, mimetype: str) -> Response:
    return Response(content, headers={"Content-Security-Policy": CONSOLE_POLICY}, mimetype=mimetype)


def query() -> dict[str, str]:
    """The query as text of one byte per character: Flask's parser raises on bytes that are not UTF-8."""
    return dict(parse_qsl(request.query_string.decode("latin-1")))


def _readiness(reasons: list[str]) -> Response:
    return json_response({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _json_list(lines: Iterable[bytes]) -> Response:
    return Response(b"[" + b",".join(line.rstrip() for line in lines) + b"]", mimetype="application/json")
