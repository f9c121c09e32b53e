"""The OpenAPI document: it describes every route, and every answer is as described."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.request import Request, urlopen

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.console import Body, Views
from api.guard import Guard
from api.machines import Machines
from tests.support.api import ALARM, made
from tests.support.process import Site, closed_day, end, not_refused, until

TOKEN = "hunter2"
PAGES = {
    "/",
    "/console.css",
    "/console.js",
    "/values.js",
    "/console.json",
    "/console/machine",
    "/console/reports",
    "/docs",
    "/openapi.json",
}
"""Pages, the files and data they load, and the document itself."""
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


def app_with(reasons=()):
    """An application with the console of a running process and a token."""
    views = Views(
        averages=lambda: AVERAGES,
        alarms=lambda: [ALARM],
        events=lambda: EVENTS,
        reports=lambda: ["2026-11-22"],
        report=lambda day: made(REPORT) if day == "2026-11-22" else None,
        not_ready=lambda: list(reasons),
        metrics=lambda: b"# HELP telemetry_readings Readings taken.\n",
        report_page={"2026-11-22": b"<!doctype html>"}.get,
        day_so_far=lambda html: made(b"<!doctype html>" if html else REPORT),
        machine_day=lambda source, key, day: Body(status=404, error="There is no reading"),
        machine_hours=lambda source, key, hours: Body(status=503, error="This is still being made", retry_s=5),
        summaries=lambda: made(b"{}"),
        overview=lambda mark: [b"{}"],
        machine=lambda source, key: None,
        export=lambda day, source, key: iter([b"timestamp\r\n"]) if source == "a" else None,
        styles=b"",
        script=b"",
    )
    return create_app(Machines(3), views, guard=Guard(TOKEN))


APP = app_with()
SCHEMA = schemathesis.openapi.from_wsgi("/openapi.json", APP)
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@SCHEMA.parametrize()
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case):
    """Every request of Schemathesis gets a response with a documented code, type and schema, and never a 500."""
    case.call_and_validate(headers=AUTHORIZED)


@pytest.mark.parametrize("views", [True, False])
def test_every_route_is_documented_and_no_other(views):
    """The paths and methods of the document are those of the application, with and without the console."""
    app = app_with() if views else create_app(Machines(3))
    served = {
        (re.sub("<.*?>", "{}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
        if rule.rule not in PAGES
    }
    paths = app.test_client().get("/openapi.json").json["paths"]
    assert served == {
        (re.sub("{.*?}", "{}", path), method) for path, operations in paths.items() for method in operations
    }


@pytest.mark.parametrize("path", ["/averages", "/events", "/reports", "/reports/2026-11-22", "/healthz", "/readyz"])
def test_the_schema_of_an_answer_requires_each_key(path):
    """An answer is valid against its schema, and invalid once a key is removed."""
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


def test_the_answers_of_a_real_process_are_as_documented(tmp_path):
    """Averages, events, a report and the other answers of a running `etl run` are valid against their schemas."""
    site = Site(tmp_path)
    site.save()
    day = closed_day(site)
    with site.running() as process:
        until(lambda: site.lines("averages") and not_refused(site) and site.ask("/reports") == [day])
        document = site.ask("/openapi.json")
        for path, operations in document["paths"].items():
            if "get" in operations and path not in ("/metrics", "/machines/day", "/export/{date}.csv"):
                answer = site.ask(path.replace("{date}", day).replace("{id}", "1"))
                content = operations["get"]["responses"]["200"]["content"]
                jsonschema.validate(answer, content["application/json"]["schema"] | document)
        end(process)


def test_the_document_follows_the_token_and_the_number_of_machines():
    """Only with a token are there a security scheme and a 401; the machine's number has the server's maximum."""
    for guard in (Guard(), Guard(TOKEN)):
        document = create_app(Machines(7), guard=guard).test_client().get("/openapi.json").json
        post = document["paths"]["/status"]["post"]
        has_token = bool(guard.token)
        assert ("securitySchemes" in document["components"]) == ("security" in post) == has_token
        assert ("401" in post["responses"]) == has_token
        assert document["components"]["parameters"]["machine"]["schema"]["maximum"] == 7


def test_every_route_is_in_the_readme():
    """Each route of the API stands in api/README.md with its method."""
    readme = (Path(__file__).parents[2] / "api" / "README.md").read_text()
    for rule in APP.url_map.iter_rules():
        path = re.sub("<.*?>", "<id>", rule.rule.replace("<day>", "DATE")).replace("DATE", "<date>")
        method = "POST" if "POST" in rule.methods else "GET"
        assert f"`{method} {path}`" in readme


def test_not_ready_is_as_documented():
    """A process that is not ready returns the documented 503."""
    answer = app_with(["the disk is full"]).test_client().get("/readyz")
    assert (answer.status_code, answer.json) == (503, {"ready": False, "reasons": ["the disk is full"]})


def test_the_polling_process_never_loads_numpy(tmp_path):
    """After every route of the console was requested, and a report was written, no numpy library is mapped."""
    site = Site(tmp_path)
    site.save()
    day = closed_day(site)
    routes = [
        *PAGES - {"/console/machine"},
        "/console/machine?source=machine-1&id=1",
        "/console/machine?source=machine-1&id=1&hours=24",
        "/machines/day?source=machine-1&id=1",
        "/reports/today",
        *("/data", "/machines", "/machines/1/data"),
        *(re.sub("<.*", day, rule.rule) for rule in APP.url_map.iter_rules() if rule.endpoint.startswith("console.")),
    ]
    with site.running() as process:
        until(lambda: site.lines("averages") and not_refused(site) and site.ask("/reports") == [day], 60)
        for route in routes:
            for accept in ("application/json", "text/html"):
                request = Request(f"http://127.0.0.1:{site.port}{route}", headers={"Accept": accept})
                assert urlopen(request, timeout=60).status == 200
        assert site.ask("/console/machine?source=machine-1&id=1")["charts"].keys() == {"temperature", "speed"}
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "orjson" in maps
        assert "numpy" not in maps
        end(process)


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
    """Bytes, invalid JSON, wrong types and deep nesting under any content type are a 200, 400 or 413."""
    client = APP.test_client()

    @settings(max_examples=5 * pytestconfig.getoption("--examples"), deadline=None)
    @given(body=BODIES, kind=KINDS, encoding=st.sampled_from(["identity", "gzip", "br, deflate"]), path=PATHS)
    def post(body, kind, encoding, path):
        headers = {**AUTHORIZED, "Content-Type": kind, "Content-Encoding": encoding}
        answer = client.post(path, data=body, headers=headers)
        assert answer.status_code in (200, 400, 413)
        assert list(answer.json) == (["message"] if answer.status_code == 200 else ["error"])

    post()
