"""The API described: an OpenAPI 3.1 document. What it says is what is answered; the tests hold it to that."""

from __future__ import annotations

from typing import Any

from api.machines import STATUSES
from api.routes import INVALID, MISSING

Json = dict[str, Any]

_ANYTHING: Json = {}
_TIME: Json = {"type": "string", "format": "date-time"}
_DAY: Json = {"type": "string", "format": "date"}
_FIGURE: Json = {"type": ["number", "null"]}


def openapi(machines: int, *, shows: bool, token: bool, biggest: int) -> Json:
    """Describe the API of so many machines.

    `shows`: also what a running process shows. `token`: writes need one. `biggest`: bytes of a request's body, at most.
    """
    paths = _machine_paths(machines, biggest) | (_console_paths() if shows else {})
    for operations in paths.values():
        for method, operation in operations.items():
            operation["responses"] = _refusals(token and method == "post") | operation["responses"]
            if token and method == "post":
                operation["security"] = [{"token": []}]
    components: Json = {"schemas": _schemas(shows)}
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Machine telemetry",
            "version": "1",
            "description": "Simulated machines, and what a running `etl run` shows. Every answer of these routes is "
            'JSON, errors too: {"error": "..."}.',
        },
        "paths": paths,
        "components": components,
    }


def _machine_paths(machines: int, biggest: int) -> Json:
    number = {
        "name": "id", "in": "path", "required": True, "description": "the machine's number",
        "schema": {"type": "integer", "minimum": 1, "maximum": machines},
    }  # fmt: skip
    unknown = {"404": _error("There is no such machine.")}

    def reading() -> Json:
        return {"200": _json("A reading, made up now.", _named("Reading"))}

    def status() -> Json:
        return {
            "requestBody": {
                "required": True,
                "description": "Read as JSON whatever the content type says. Other keys are ignored.",
                "content": {"application/json": {"schema": _named("Status")}},
            },
            "responses": {
                "200": _json("It was set, and shows from now on.", _fixed({"message": "Status updated"})),
                "400": _error(f"{MISSING}. Or: {INVALID}."),
                "413": _error(f"The body is larger than {biggest} bytes."),
            },
        }

    one, another = status(), status()
    another["responses"] |= unknown
    return {
        "/data": {"get": {"summary": "A reading of machine 1", "responses": reading()}},
        "/status": {"post": {"summary": "Set the status of machine 1", **one}},
        "/machines": {
            "get": {
                "summary": "A reading of every machine",
                "responses": {"200": _json("In the order of their numbers.", _list("Reading"))},
            }
        },
        "/machines/{id}/data": {
            "get": {"summary": "A reading of one machine", "parameters": [number], "responses": reading() | unknown}
        },
        "/machines/{id}/status": {
            "post": {"summary": "Set the status of one machine", "parameters": [number], **another}
        },
    }


def _console_paths() -> Json:
    day = {
        "name": "date", "in": "path", "required": True, "description": "the day, such as 2026-11-22", "schema": _DAY,
    }  # fmt: skip
    ready = {
        "type": "object",
        "required": ["ready", "reasons"],
        "properties": {"ready": {"type": "boolean"}, "reasons": {"type": "array", "items": {"type": "string"}}},
    }
    report = _json("The report; its page, for a client that would rather have one.", _named("Report"))
    report["content"]["text/html"] = {"schema": {"type": "string"}}
    answers: dict[str, tuple[str, Json]] = {
        "/averages": (
            "The latest averages of every machine",
            {"200": _json("The latest line of each machine.", _list("Averages"))},
        ),
        "/events": ("The latest events", {"200": _json("The oldest of them first.", _list("Event"))}),
        "/reports": (
            "The days that have a report",
            {"200": _json("The oldest first.", {"type": "array", "items": _DAY})},
        ),
        "/reports/{date}": (
            "The anomaly report of a day",
            {"200": report, "404": _error("There is no report of that day.")},
        ),
        "/healthz": ("Whether the process is there", {"200": _json("It is.", _fixed({"status": "ok"}))}),
        "/readyz": (
            "Whether readings are written",
            {"200": _json("They are.", ready), "503": _json("They are not; the reasons.", ready)},
        ),
        "/metrics": (
            "What the process counts",
            {"200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
        ),
    }
    paths: Json = {
        path: {"get": {"summary": summary, "responses": responses}} for path, (summary, responses) in answers.items()
    }
    paths["/reports/{date}"]["get"]["parameters"] = [day]
    return paths


def _refusals(token: bool) -> Json:
    """What any request may be answered."""
    refusals = {
        "400": _error("This server does not go by the name it was asked by."),
        "403": _error("A browser marks the request as coming from another site."),
        "500": _error("Something broke; the log says what."),
    }
    if token:
        refusals["401"] = _error("The token is missing or wrong.") | {
            "headers": {"WWW-Authenticate": {"schema": {"const": "Bearer"}}}
        }
    return refusals


def _schemas(shows: bool) -> Json:
    any_case = "|".join("".join(f"[{letter}{letter.lower()}]" for letter in status) for status in STATUSES)
    schemas: Json = {
        "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
        "Status": _object(
            status={
                "type": "string",
                "pattern": f"^({any_case})$",
                "description": f"{', '.join(STATUSES)}, in any case",
                "examples": ["COMPLETED"],
            },
        ),
        "Reading": _object(
            description={"type": "string"},
            fan_speed={"type": "number", "minimum": 0, "maximum": 1000, "description": "rpm"},
            id={"type": "integer", "minimum": 1},
            name={"type": "string"},
            status={"enum": list(STATUSES)},
            temperature={"type": "number", "minimum": 20, "maximum": 100, "description": "°C"},
            timestamp=_TIME,
        ),
    }
    return schemas | _shown_schemas() if shows else schemas


def _shown_schemas() -> Json:
    machine: Json = {"type": ["string", "number", "null"], "description": "the id in the readings"}
    anomaly = _object(timestamp=_ANYTHING, value={"type": "number"}, deviation={"type": "number"})
    figures = _object(average=_FIGURE, max=_FIGURE, min=_FIGURE, anomalies={"type": "array", "items": anomaly})
    averages = _object(
        timestamp={"description": "the reading's own, else when it was polled"},
        source={"type": "string"},
        id=machine,
        status={"description": "as the machine sent it"},
        readings={"type": "integer", "minimum": 1, "description": "how many readings the averages span"},
        polled_at=_TIME,
    )
    averages["patternProperties"] = {"^average_": _FIGURE}
    return {
        "Averages": averages,
        "Event": _object(
            at=_TIME,
            event={"type": "string"},
            source={"type": ["string", "null"]},
            reason={"type": ["string", "null"]},
        ),
        "Report": _object(
            date=_DAY,
            timezone={"type": "string"},
            interval={"type": "number", "description": "seconds"},
            threshold={"type": "number"},
            machines={
                "type": "array",
                "items": _object(
                    source={"type": "string"},
                    id=machine,
                    name={"description": "as the machine sent it last"},
                    readings={"type": "integer"},
                    expected={"type": "number", "description": "readings of a whole day"},
                    parameters={"type": "object", "additionalProperties": figures},
                ),
            },
        ),
    }


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _fixed(content: dict[str, str]) -> Json:
    return _object(**{key: {"const": value} for key, value in content.items()})


def _named(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def _list(schema: str) -> Json:
    return {"type": "array", "items": _named(schema)}


def _json(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error(description: str) -> Json:
    return _json(description, _named("Error"))
