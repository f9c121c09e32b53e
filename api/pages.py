"""Reports, the pages of machines, and their data: stored ones, and those that are made on demand."""

import json
from collections.abc import Callable
from datetime import date

from flask import Blueprint, Response, abort, request
from werkzeug.wsgi import wrap_file

from api.console import Body, Views, query
from api.routes import json_response

PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
"""A page has a policy of its own, with the hashes of its style and script; the browser enforces both. That of a page of
version 0.2 allows no script."""
HOURS = ("1", "24")
"""The ranges of the console's charts, beside the last readings."""


def page_data_routes(views: Views) -> Blueprint:
    """Build the routes of reports and of the pages of machines."""
    routes = Blueprint("reports", __name__)
    functions: dict[str, Callable[..., Response]] = {
        "/reports/<day>": lambda day: _report(views, day),
        "/reports/today": lambda: _day_so_far(views),
        "/machines/day": lambda: _machine_day(views),
        "/console/machine": lambda: _machine(views),
        "/console/reports": lambda: _send(views.summaries(), "application/json"),
    }
    for path, function in functions.items():
        routes.add_url_rule(path, path, function)
    return routes


def _report(views: Views, day: str) -> Response:
    """The report of a day: its page for a client that prefers HTML, else its JSON."""
    if not is_day(day):
        abort(404, "The path of a report ends with its date, such as /reports/2026-11-22, or with today")
    page = views.report_page(day) if _prefers_html() and day in views.reports() else None
    if page:
        headers = {"Vary": "Accept", "Content-Security-Policy": PAGE_POLICY}
        return Response(page, headers=headers, mimetype="text/html")
    report = views.report(day)
    if report is None:
        abort(404, f"There is no report of {day}")
    response = _send(report, "application/json")
    response.headers["Vary"] = "Accept"
    return response


def _day_so_far(views: Views) -> Response:
    html = _prefers_html()
    response = _send(views.day_so_far(html), "text/html" if html else "application/json")
    response.headers["Vary"] = "Accept"
    return response


def _machine_day(views: Views) -> Response:
    """The page of a machine and day."""
    parts = query()
    source, day = parts.get("source", ""), parts.get("date", "today")
    if not source:
        abort(400, "Write ?source=NAME&id=ID&date=2026-11-22; the id is JSON, the date may be today")
    if day != "today" and not is_day(day):
        abort(404, "The date is a day such as 2026-11-22, or today")
    return _send(views.machine_day(source, parts.get("id", "null"), day), "text/html")


def _machine(views: Views) -> Response:
    """The charts of a machine: of its last readings, or of its last hours."""
    parts = query()
    source, machine_id, hours = parts.get("source", ""), parts.get("id", "null"), parts.get("hours")
    if hours is None:
        view = views.machine(source, parse_id(machine_id))
        if view is None:
            abort(404, "No reading of this machine is known")
        return json_response(view)
    if hours not in HOURS:
        abort(400, f"hours is {' or '.join(HOURS)}")
    return _send(views.machine_hours(source, machine_id, int(hours)), "application/json")


def _send(body: Body, mimetype: str) -> Response:
    """Answer with what was made; the server reads the file as its client takes it."""
    if body.file is None:
        response = json_response({"error": body.error}, body.status)
        if body.retry_s is not None:
            response.headers["Retry-After"] = str(body.retry_s)
        return response
    file = wrap_file(request.environ, body.file)
    response = Response(file, mimetype=mimetype, direct_passthrough=True)
    response.content_length = body.size
    if mimetype == "text/html":
        response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def _prefers_html() -> bool:
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def parse_id(text: str) -> str | int | float | None:
    """Parse the `id` of a machine, which is JSON in the query; None if it is not a string or number."""
    try:
        value = json.loads(text)  # with integers of any size
        str(value).encode()  # half of a surrogate pair, which no reading has
    except (ValueError, RecursionError):
        return None
    return value if type(value) in (str, int, float) else None


def is_day(day: str) -> bool:
    """Whether this is a day, as 2026-11-22."""
    try:
        return date.fromisoformat(day).isoformat() == day
    except ValueError:
        return False
