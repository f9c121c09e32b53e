"""The WSGI application: its routes, and the headers and errors common to all of them."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from api.console import Views, page_routes, state_routes
from api.docs import describe, docs_routes
from api.export import export_routes
from api.guard import Guard, guard_with
from api.machines import Machines
from api.pages import page_data_routes
from api.proxy import trust_proxy
from api.routes import json_response, machine_routes

MAX_BODY_BYTES = 16 << 10
"""A longer body is refused with 413; a status needs less than 100 bytes."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every response that does not set its own."""


def create_app(
    machines: Machines,
    views: Views | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    guard: Guard | None = None,
) -> Flask:
    """Build the application; without `views` it has no console, without a guard it needs no token.

    `now` returns the time of a simulated reading.
    """
    guard = guard or Guard()
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # Flask's answer to OPTIONS is not JSON
    app.url_map.redirect_defaults = app.url_map.merge_slashes = False  # nor is its redirect
    if guard.proxy:
        app.wsgi_app = trust_proxy(app.wsgi_app, guard.proxy)  # type: ignore[assignment, method-assign]
    app.before_request(guard_with(guard))
    app.after_request(_add_headers)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(OSError, _system_error)
    app.register_error_handler(Exception, _internal_error)
    app.register_blueprint(machine_routes(machines, now))
    if views:
        app.register_blueprint(state_routes(views))
        app.register_blueprint(page_routes(views))
        app.register_blueprint(page_data_routes(views))
        app.register_blueprint(export_routes(views))
    app.register_blueprint(docs_routes(describe(len(machines), console=bool(views), token=bool(guard.token))))
    return app


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _http_error(error: HTTPException) -> Response:
    response = json_response({"error": error.description}, error.code or 500)
    response.headers.extend(header for header in error.get_headers() if header[0] in ("Allow", "Retry-After"))
    return response


def _system_error(error: OSError) -> Response:
    """Answer that a file cannot be opened or read now: no descriptor is left, or the disk fails."""
    logging.getLogger("api").warning("%s %r failed: %s", request.method, request.path, error)
    return json_response({"error": f"A file cannot be read: {error.strerror}; try again later"}, 503)


def _internal_error(error: Exception) -> Response:
    logging.getLogger("api").error("%s %r failed", request.method, request.path, exc_info=error)
    return json_response({"error": "Internal error; the log of the process has the cause"}, 500)
