"""Averages, reports, events and health of a running process, read through functions it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import NamedTuple

from flask import Blueprint, Response, abort

from api.routes import answer


class Views(NamedTuple):
    """What a running process shows.

    Lines of JSON, the days that have a report, a report's bytes, why it is not ready, its metrics as Prometheus text.
    """

    averages: Callable[[], Iterable[bytes]]
    events: Callable[[], Iterable[bytes]]
    reports: Callable[[], list[str]]
    report: Callable[[str], bytes | None]
    not_ready: Callable[[], list[str]]
    metrics: Callable[[], bytes]


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
        if not _is_day(day):
            abort(404, "A report is named by its day, such as /reports/2026-11-22")
        found = views.report(day)
        if found is None:
            abort(404, f"There is no report of {day}")
        return Response(found, mimetype="application/json")

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


def _is_day(day: str) -> bool:
    try:
        return date.fromisoformat(day).isoformat() == day
    except ValueError:
        return False


def _list(lines: Iterable[bytes]) -> Response:
    return Response(b"[" + b",".join(line.rstrip() for line in lines) + b"]", mimetype="application/json")
