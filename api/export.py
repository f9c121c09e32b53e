"""/export: one machine's day of averages as CSV, sent as it is read."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import BoundedSemaphore

from flask import Blueprint, Response, abort, request
from werkzeug.exceptions import ServiceUnavailable

from api.console import Views, query
from api.pages import is_day, parse_id

MAX_EXPORTS = 2
"""Sent at the same time: each takes a server thread as long as its client takes the answer, and the log's file."""
RETRY_AFTER_S = 5
MAX_UNSENT_BYTES = 1 << 20
"""What waits for a client at most; only then is more read."""
UNSENT_CHECK_S = 0.05
MAX_NAME_CHARACTERS = 60
"""Characters of the source and of the id in the name of the file."""


def export_routes(views: Views) -> Blueprint:
    """Build the route of a machine's day as a file."""
    routes = Blueprint("export", __name__)
    places = BoundedSemaphore(MAX_EXPORTS)

    @routes.get("/export/<day>.csv")
    def export(day: str) -> Response:
        parts = query()
        source, text = parts.get("source", ""), parts.get("id", "null")
        if not source:
            abort(400, "Write ?source=NAME&id=ID; the id is JSON")
        if not is_day(day):
            abort(404, "The path of an export has a date, such as /export/2026-11-22.csv")
        if not places.acquire(blocking=False):
            raise ServiceUnavailable("Other days are being exported; try again later", retry_after=RETRY_AFTER_S)
        with ExitStack() as taken:
            taken.callback(places.release)
            machine_id = parse_id(text)
            pieces = views.export(day, source, machine_id)
            if pieces is None:
                abort(404, f"There are no averages of this machine on {day}")
            unsent: Callable[[], int] = request.environ.get("api.unsent", lambda: 0)
            response = Response(_paced(pieces, unsent), mimetype="text/csv")
            response.call_on_close(taken.pop_all().close)
        name = "-".join([day, _plain(source), *([] if machine_id is None else [_plain(json.dumps(machine_id))])])
        response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
        return response

    return routes


def _paced(pieces: Iterator[bytes], unsent: Callable[[], int]) -> Iterator[bytes]:
    """The pieces, each only when the client has taken most of those before it."""
    for piece in pieces:
        while unsent() > MAX_UNSENT_BYTES:
            time.sleep(UNSENT_CHECK_S)
        yield piece


def _plain(text: str) -> str:
    """A text as a part of a file's name: a source may be named anything."""
    return re.sub("[^A-Za-z0-9.]+", "_", text)[:MAX_NAME_CHARACTERS].strip("_.") or "_"
