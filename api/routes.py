"""/data, /status and /machines: the simulated machines over HTTP."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from flask import Blueprint, Response, abort, request

from api.machines import STATUSES, Machines

MISSING = "Missing 'status' field in request data"
INVALID = f"Invalid status. Allowed statuses: {', '.join(STATUSES)}"
_NUMBER = re.compile("[1-9][0-9]{0,8}")


def json_response(content: Any, status: int = 200) -> Response:
    """Build a response with a JSON body."""
    return Response(orjson.dumps(content), status, mimetype="application/json")


def machine_routes(machines: Machines, now: Callable[[], datetime]) -> Blueprint:
    """Build the routes of the simulated machines; `now` returns the time of a reading."""
    routes = Blueprint("machines", __name__)

    def parse_number(text: str) -> int:
        if not _NUMBER.fullmatch(text) or int(text) > len(machines):
            abort(404, f"There is no machine {text}")
        return int(text)

    @routes.get("/data", defaults={"number": "1"})
    @routes.get("/machines/<number>/data")
    def data(number: str) -> Response:
        return json_response(machines.reading(parse_number(number), now()))

    @routes.post("/status", defaults={"number": "1"})
    @routes.post("/machines/<number>/status")
    def status(number: str) -> Response:
        machines.set_status(parse_number(number), _posted_status())
        return json_response({"message": "Status updated"})

    @routes.get("/machines")
    def readings() -> Response:
        time = now()
        return json_response([machines.reading(number, time) for number in range(1, len(machines) + 1)])

    return routes


def _posted_status() -> str:
    """The status in the request's body, which is parsed as JSON whatever its content type is."""
    try:
        body = orjson.loads(request.get_data(cache=False))
    except orjson.JSONDecodeError:
        abort(400, MISSING)
    status = body.get("status") if isinstance(body, dict) else None
    if status is None or status == "":
        abort(400, MISSING)
    if not isinstance(status, str) or not status.isascii() or status.upper() not in STATUSES:
        abort(400, INVALID)
    return status.upper()
