"""/openapi.json and /docs: the description of the API, for programs and for people."""

import hashlib
from base64 import b64encode
from functools import reduce
from importlib.resources import files
from operator import getitem
from typing import Any

import orjson
from flask import Blueprint, Response, render_template

from api.routes import json_response


def describe(machines: int, *, console: bool, token: bool) -> dict[str, Any]:
    """The OpenAPI document of a server with this many machines, without its console or its token if it has none."""
    document: dict[str, Any] = orjson.loads((files("api") / "openapi.json").read_bytes())
    document["components"]["parameters"]["machine"]["schema"]["maximum"] = machines
    for path, operation in [(path, item) for path, methods in document["paths"].items() for item in methods.values()]:
        if not console and "console" in operation["tags"]:
            del document["paths"][path]
        elif not token and operation.pop("security", None):
            del operation["responses"]["401"]
    if not token:
        del document["components"]["securitySchemes"]
    return document


def docs_routes(document: dict[str, Any]) -> Blueprint:
    """Build the routes that show the OpenAPI document of this server."""
    routes = Blueprint("docs", __name__)
    style = (files("api") / "templates" / "docs.css").read_text()
    style_hash = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{style_hash}'"

    def resolve(item: dict[str, Any]) -> Any:
        return reduce(getitem, item["$ref"].removeprefix("#/").split("/"), document) if "$ref" in item else item

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return json_response(document)

    @routes.get("/docs")
    def page() -> Response:
        html = render_template("docs.html", document=document, style=style, resolve=resolve)
        return Response(html, mimetype="text/html", headers={"Content-Security-Policy": policy})

    return routes
