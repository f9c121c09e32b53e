"""Averages, reports, events and health of a running process, read through functions it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from flask import Blueprint, Response, abort, request

from api.routes import answer

CONSOLE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A report page names the hash of its own style; both policies hold."""


class Views(NamedTuple):
    """What a running process shows.

    Lines of JSON, the days that have a report, a report's bytes, why it is not ready, its metrics as Prometheus text;
    a report's page; what the console shows since a mark, as JSON in parts; of one machine by its source and id a dict:
    `charts` (HTML by parameter) and `simulated` (its number in this API, or None); and the styles of the charts, which
    console.css follows.
    """

    averages: Callable[[], Iterable[bytes]]
    events: Callable[[], Iterable[bytes]]
    reports: Callable[[], list[str]]
    report: Callable[[str], bytes | None]
    not_ready: Callable[[], list[str]]
    metrics: Callable[[], bytes]
    report_page: Callable[[str], bytes | None]
    overview: Callable[[int], Iterable[bytes]]
    machine: Callable[[str, Any], dict[str, Any] | None]
    styles: bytes


def console_routes(views: Views) -> Blueprint:
    """The routes that show a running process."""
    routes = Blueprint("console", __name__)

    @routes.get("/averages")
    def averages() -> Response:
        return _list(views.averages())

    @routes.get("/events")
    def events() -> Response:
        return _list(views.events())

    @routes.get("/reports")
    def reports() -> Response:
        return answer(views.reports())

    @routes.get("/reports/<day>")
    def report(day: str) -> Response:
        return _report(views, day)

    @routes.get("/healthz")
    def healthz() -> Response:
        return answer({"status": "ok"})

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(views.metrics(), mimetype="text/plain; version=0.0.4; charset=utf-8")

    @routes.get("/readyz")
    def readyz() -> Response:
        reasons = views.not_ready()
        return answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    return routes


def page_routes(views: Views) -> Blueprint:
    """The console's page and what it asks for."""
    routes = Blueprint("pages", __name__)

    @routes.get("/", defaults={"name": "console.html", "kind": "text/html"})
    @routes.get("/console.css", defaults={"name": "console.css", "kind": "text/css"})
    @routes.get("/console.js", defaults={"name": "console.js", "kind": "text/javascript"})
    def console(name: str, kind: str) -> Response:
        content = (files("api") / "templates" / name).read_bytes()
        if name == "console.css":
            content = views.styles + content
        return Response(content, headers={"Content-Security-Policy": CONSOLE_POLICY}, mimetype=kind)

    @routes.get("/console.json")
    def overview() -> Response:
        since = _asked().get("since", "")
        mark = int(since) if since.isdecimal() and len(since) < 20 else 0
        return Response(views.overview(mark), mimetype="application/json")

    @routes.get("/console/machine")
    def machine() -> Response:
        asked = _asked()
        found = views.machine(asked.get("source", ""), _id(asked.get("id", "null")))
        if found is None:
            abort(404, "There is no reading of that machine yet")
        return answer(found)

    return routes


def _report(views: Views, day: str) -> Response:
    """A report: its page for people, its JSON for everybody else."""
    if not _is_day(day):
        abort(404, "A report is named by its day, such as /reports/2026-11-22")
    page = views.report_page(day) if _is_for_people() and day in views.reports() else None
    found = page or views.report(day)
    if found is None:
        abort(404, f"There is no report of {day}")
    headers = {"Vary": "Accept"} | ({"Content-Security-Policy": REPORT_POLICY} if page else {})
    return Response(found, headers=headers, mimetype="text/html" if page else "application/json")


def _is_for_people() -> bool:
    """Whether the client would rather have a page than JSON, as browsers do."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"


def _asked() -> dict[str, str]:
    """The query; Flask's own reading of it fails where its bytes are no text."""
    return dict(parse_qsl(request.query_string.decode("latin-1")))


def _id(written: str) -> str | int | float | None:
    """An `id` as JSON, as it stands in the readings; None where it is none."""
    try:
        key = orjson.loads(written)
    except orjson.JSONDecodeError:
        return None
    return key if type(key) in (str, int, float) else None


def _is_day(day: str) -> bool:
    try:
        return date.fromisoformat(day).isoformat() == day
    except ValueError:
        return False


def _list(lines: Iterable[bytes]) -> Response:
    return Response(b"[" + b",".join(line.rstrip() for line in lines) + b"]", mimetype="application/json")
