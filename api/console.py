"""The console and the state of a running process, read through functions that the caller passes in."""

import json
from collections.abc import Callable, Iterable
from datetime import date
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from flask import Blueprint, Response, abort, request

from api.routes import json_response

CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
"""The page of a report has a policy of its own, with the hashes of its style and script; the browser enforces both.
That of a page of version 0.2 allows no script."""


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
    report: Callable[[str], bytes | None]
    """The JSON report of a day, or None."""
    not_ready: Callable[[], list[str]]
    """Why the process is not ready; empty if it is."""
    metrics: Callable[[], bytes]
    """Metrics in the Prometheus text format."""
    report_page: Callable[[str], bytes | None]
    """The HTML page of a day's report, or None."""
    overview: Callable[[int], Iterable[bytes]]
    """The JSON of the console, in parts: what is new since the mark of an earlier answer; 0 for everything."""
    machine: Callable[[str, Any], dict[str, Any] | None]
    """By source and id: `charts` (HTML by parameter) and `simulated` (the machine's number in this API, or None).
    None if the machine has sent no reading."""
    styles: bytes
    """The stylesheet of the charts, which precedes the console's own."""


def state_routes(views: Views) -> Blueprint:
    """Build the routes that return the state of a running process."""
    routes = Blueprint("state", __name__)
    functions: dict[str, Callable[..., Response]] = {
        "/averages": lambda: _json_list(views.averages()),
        "/alarms": lambda: _json_list(views.alarms()),
        "/events": lambda: _json_list(views.events()),
        "/reports": lambda: json_response(views.reports()),
        "/reports/<day>": lambda day: _report(views, day),
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

    @routes.get("/", defaults={"name": "console.html", "mimetype": "text/html"})
    @routes.get("/console.css", defaults={"name": "console.css", "mimetype": "text/css"})
    @routes.get("/console.js", defaults={"name": "console.js", "mimetype": "text/javascript"})
    @routes.get("/console_table.js", defaults={"name": "console_table.js", "mimetype": "text/javascript"})
    def console(name: str, mimetype: str) -> Response:
        content = (files("api") / "templates" / name).read_bytes()
        if mimetype == "text/css":
            content = views.styles + content
        return Response(content, headers={"Content-Security-Policy": CONSOLE_POLICY}, mimetype=mimetype)

    @routes.get("/console.json")
    def overview() -> Response:
        since = _query().get("since", "")
        mark = int(since) if since.isdecimal() and len(since) < 20 else 0
        return Response(views.overview(mark), mimetype="application/json")

    @routes.get("/console/machine")
    def machine() -> Response:
        query = _query()
        view = views.machine(query.get("source", ""), _machine_id(query.get("id", "null")))
        if view is None:
            abort(404, "No reading of this machine is known")
        return json_response(view)

    return routes


def _report(views: Views, day: str) -> Response:
    """The report of a day: its page for a client that prefers HTML, else its JSON."""
    if not _is_day(day):
        abort(404, "The path of a report ends with its date, such as /reports/2026-11-22")
    mimetype = request.accept_mimetypes.best_match(["application/json", "text/html"])
    page = views.report_page(day) if mimetype == "text/html" and day in views.reports() else None
    if page:
        headers = {"Vary": "Accept", "Content-Security-Policy": REPORT_POLICY}
        return Response(page, headers=headers, mimetype="text/html")
    content = views.report(day)
    if content is None:
        abort(404, f"There is no report of {day}")
    return Response(content, headers={"Vary": "Accept"}, mimetype="application/json")


def _query() -> dict[str, str]:
    """The query as text of one byte per character: Flask's parser raises on bytes that are not UTF-8."""
    return dict(parse_qsl(request.query_string.decode("latin-1")))


def _machine_id(text: str) -> str | int | float | None:
    """Parse the `id` of a machine, which is JSON in the query; None if it is not a string or number."""
    try:
        value = json.loads(text)  # with integers of any size
    except (ValueError, RecursionError):
        return None
    return value if type(value) in (str, int, float) else None


def _is_day(day: str) -> bool:
    try:
        return date.fromisoformat(day).isoformat() == day
    except ValueError:
        return False


def _readiness(reasons: list[str]) -> Response:
    return json_response({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _json_list(lines: Iterable[bytes]) -> Response:
    return Response(b"[" + b",".join(line.rstrip() for line in lines) + b"]", mimetype="application/json")
