"""The OpenAPI document: every route is in it, and every answer is as it says."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import Guard, Machines, Views, create_app
from tests.support.process import Site, closed_day, end, not_refused, until

TOKEN = "hunter2"
PAGES = {"/", "/console.css", "/console.js", "/console.json", "/console/machine", "/docs", "/openapi.json"}
"""Routes for people, what their pages are made of, and the document itself."""
AVERAGES = [
    b'{"timestamp":"2026-11-22T10:00:00+00:00","source":"a","id":1,"average_temperature":20.5,"average_speed":null,'
    b'"status":"IDLE","readings":5,"polled_at":"2026-11-22T10:00:00.012Z"}\n',
    b'{"timestamp":1700000000,"source":"b","id":null,"average_temperature":1,"status":{"a":[]},"readings":1,'
    b'"polled_at":"2026-11-22T10:00:00.012Z"}\n',
]
EVENTS = [
    b'{"at":"2026-11-22T10:00:00.012Z","event":"source_down","source":"a","reason":"dns","why":"no such name"}\n',
    b'{"at":"2026-11-22T10:00:00.012Z","event":"start","source":null,"reason":null}\n',
]
REPORT = json.dumps(
    {"date": "2026-11-22", "timezone": "UTC", "interval": 10, "threshold": 0.2, "machines": [
        {"source": "a", "id": "x", "name": None, "readings": 2, "expected": 8640, "parameters": {
            "temperature": {"average": 2.0, "max": 3.0, "min": 1.0, "anomalies": [
                {"timestamp": "2026-11-22T10:00:00Z", "value": 3.0, "deviation": 1.0}]},
            "speed": {"average": None, "max": None, "min": None, "anomalies": []}}}]}
).encode()  # fmt: skip


def shown(reasons=()):
    """An application that shows a running process, with a token."""
    views = Views(
        averages=lambda: AVERAGES,
        events=lambda: EVENTS,
        reports=lambda: ["2026-11-22"],
        report={"2026-11-22": REPORT}.get,
        not_ready=lambda: list(reasons),
        metrics=lambda: b"# HELP telemetry_readings Readings taken.\n",
        report_page={"2026-11-22": b"<!doctype html>"}.get,
        overview=lambda mark: [b"{}"],
        machine=lambda source, key: None,
        styles=b"",
    )
    return create_app(Machines(3), views, guard=Guard(TOKEN))


APP = shown()
SCHEMA = schemathesis.openapi.from_wsgi("/openapi.json", APP)
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@SCHEMA.parametrize()
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case):
    """Whatever Schemathesis asks, the answer has a documented code, type and shape, and none is a 500."""
    case.call_and_validate(headers=AUTHORIZED)


@pytest.mark.parametrize("views", [True, False])
def test_every_route_is_documented_and_no_other(views):
    """The document's paths and methods are those that are served, with what a running process shows and without."""
    app = shown() if views else create_app(Machines(3))
    served = {
        (re.sub("<.*?>", "{}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
        if rule.rule not in PAGES
    }
    paths = app.test_client().get("/openapi.json").json["paths"]
    assert served == {(re.sub("{.*?}", "{}", path), method) for path, found in paths.items() for method in found}


@pytest.mark.parametrize("path", ["/averages", "/events", "/reports", "/reports/2026-11-22", "/healthz", "/readyz"])
def test_the_documented_shape_is_that_of_the_answers(path):
    """What is shown of a process fits its schema, and fits it no longer with a key less."""
    document = APP.test_client().get("/openapi.json").json
    operation = document["paths"][path.replace("2026-11-22", "{date}")]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"] | document
    answer = APP.test_client().get(path).json
    jsonschema.validate(answer, schema)
    for record in answer if isinstance(answer, list) else [answer]:
        if isinstance(record, dict):
            record.pop(next(iter(record)))
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(answer, schema)
            break


def test_what_a_real_process_shows_is_as_documented(tmp_path):
    """Averages, events, a report and the rest of a running `etl run` fit their schemas."""
    site = Site(tmp_path)
    site.save()
    day = closed_day(site)
    with site.running() as process:
        until(lambda: site.lines("averages") and not_refused(site) and site.ask("/reports") == [day])
        document = site.ask("/openapi.json")
        for path, operations in document["paths"].items():
            if "get" in operations and path != "/metrics":
                shown = site.ask(path.replace("{date}", day).replace("{id}", "1"))
                content = operations["get"]["responses"]["200"]["content"]
                jsonschema.validate(shown, content["application/json"]["schema"] | document)
        end(process)


def test_not_ready_is_as_documented():
    """The answer of a process that is not ready has the documented 503."""
    answer = shown(["the disk is full"]).test_client().get("/readyz")
    assert (answer.status_code, answer.json) == (503, {"ready": False, "reasons": ["the disk is full"]})


BODIES = st.binary(max_size=300) | st.recursive(
    st.sampled_from([b"null", b'"IDLE"', b'{"status":"IDLE"}', b"1e999", b"NaN", b"-", b'"\xff"', b'"\\ud800"']),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: b"[" + b",".join(items) + b"]")
        | inner.map(lambda value: b'{"status":' + value + b"}")
        | inner.map(lambda value: value + value)
        | inner.map(lambda value: b"[" * 5000 + value)
    ),
    max_leaves=5,
)
KINDS = st.sampled_from(
    ["application/json", "application/json; charset=utf-16", "multipart/form-data; boundary=x", "text/\xff", ""]
)
PATHS = st.sampled_from(["/status", "/machines/2/status"])


def test_no_hostile_body_gets_a_500(pytestconfig):
    """Bytes, broken JSON, wrong types and deep nesting under any content type are set, refused or too large."""
    client = APP.test_client()

    @settings(max_examples=5 * pytestconfig.getoption("--examples"), deadline=None)
    @given(body=BODIES, kind=KINDS, encoding=st.sampled_from(["identity", "gzip", "br, deflate"]), path=PATHS)
    def post(body, kind, encoding, path):
        headers = {**AUTHORIZED, "Content-Type": kind, "Content-Encoding": encoding}
        answer = client.post(path, data=body, headers=headers)
        assert answer.status_code in (200, 400, 413)
        assert list(answer.json) == (["message"] if answer.status_code == 200 else ["error"])

    post()
