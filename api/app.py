"""The WSGI application: its parts put together, and what every answer has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from api.console import Views, console_routes, page_routes
from api.docs import docs_routes
from api.guard import Guard, guard_with
from api.machines import Machines
from api.openapi import openapi
from api.routes import answer, machine_routes

BODY = 16 << 10
"""Bytes of a request's body, at most."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer that does not set its own."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    machines: Machines,
    views: Views | None = None,
    now: Callable[[], datetime] = _utc_now,
    guard: Guard = Guard(),  # noqa: B008  it is immutable
) -> Flask:
    """Build the WSGI application; without `views` it serves the machines alone."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # its answer has no JSON
    app.url_map.redirect_defaults = app.url_map.merge_slashes = False  # nor has a redirect
    app.before_request(guard_with(guard))
    app.after_request(_protect)
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(Exception, _failed)
    app.register_blueprint(machine_routes(machines, now))
    if views:
        app.register_blueprint(console_routes(views))
        app.register_blueprint(page_routes(views))
    described = openapi(len(machines), shows=views is not None, token=bool(guard.token), biggest=BODY)
    app.register_blueprint(docs_routes(described))
    return app


def _protect(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _refused(error: HTTPException) -> Response:
    response = answer({"error": error.description}, error.code or 500)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _failed(error: Exception) -> Response:
    logging.getLogger("api").error("%s %r failed", request.method, request.path, exc_info=error)
    return answer({"error": "Internal error; the log says more"}, 500)
