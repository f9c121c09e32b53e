"""/openapi.json and /docs: the API described, for programs and for people."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

from flask import Blueprint, Response, render_template_string

from api.routes import answer

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2rem 0 0; font-size: 1.1rem; }
dt { float: left; clear: left; width: 3rem; font-weight: bold; }
dd { margin-left: 3.5rem; }
code { font-family: ui-monospace, monospace; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ api.info.title }}: the API</title>
<style>{{ style }}</style>
<h1>{{ api.info.title }}: the API</h1>
<p>{{ api.info.description }} The same for programs: <a href="/openapi.json">/openapi.json</a>, where each
answer's schema stands.</p>
{% for path, operations in api.paths.items() %}{% for method, operation in operations.items() %}
<h2><code>{{ method.upper() }} {{ path }}</code></h2>
<p>{{ operation.summary }}.{% if operation.security %} Needs the token: <code>Authorization: Bearer</code>.{% endif %}
{% for parameter in operation.parameters %} <code>{{ parameter.name }}</code>: {{ parameter.description }}.{% endfor %}
</p>
{% if operation.requestBody %}<p>Body: <code>{"status": "COMPLETED"}</code>.
{{ operation.requestBody.description }}</p>{% endif %}
<dl>
{% for code, told in operation.responses | dictsort %}<dt>{{ code }}</dt><dd>{{ told.description }}</dd>
{% endfor %}</dl>
{% endfor %}{% endfor %}
</html>
"""
_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{_HASH}'"


def docs_routes(described: dict[str, Any]) -> Blueprint:
    """The routes that describe the API, given its OpenAPI document."""
    routes = Blueprint("docs", __name__)

    @routes.get("/openapi.json")
    def document() -> Response:
        return answer(described)

    @routes.get("/docs")
    def page() -> Response:
        shown = render_template_string(_PAGE, api=described, style=_STYLE)
        return Response(shown, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})

    return routes
