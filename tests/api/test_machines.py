"""The simulated machines: their readings, and the status that is posted to them."""

from __future__ import annotations

import json
import random
from datetime import timedelta

import orjson
import pytest
from freezegun import freeze_time
from hypothesis import given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.machines import STATUSES, Machines
from tests.support.api import NOW, client, is_error, status_of

KEYS = ["description", "fan_speed", "id", "name", "status", "temperature", "timestamp"]
MISSING = {"error": "Missing 'status' field in request data"}
INVALID = {"error": "Invalid status. Allowed statuses: STARTED, ERROR, IDLE, COMPLETED"}


def test_data_is_the_reading_of_the_first_machine():
    """GET /data has the keys of the contract in their order, and the time to the microsecond."""
    answer = client().get("/data")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert list(answer.json) == KEYS
    reading = answer.json
    assert (reading["description"], reading["name"], reading["id"]) == ("Machine for processing ", "DELL G450", 1)
    assert (reading["status"], reading["timestamp"]) == ("IDLE", "2024-11-03T13:40:45.015069+00:00")


def test_readings_stay_in_their_ranges_and_vary():
    """Temperatures are 20 to 100 °C and fan speeds 0 to 1000 rpm at any hour, each with two decimals at most."""
    machines = Machines(1, random.Random(7))
    readings = [machines.reading(1, NOW + timedelta(minutes=minute)) for minute in range(2880)]
    for key, low, high in (("temperature", 20, 100), ("fan_speed", 0, 1000)):
        values = [reading[key] for reading in readings]
        assert low <= min(values) < max(values) <= high
        assert all(isinstance(value, float) and value == round(value, 2) for value in values)
        assert len(set(values)) > 500


@freeze_time("2026-11-22T10:00:00.250Z")
def test_the_timestamp_of_a_reading_is_the_current_time():
    """By default the application reads the system's clock, and a timestamp is in UTC."""
    answer = create_app(Machines()).test_client().get("/data")
    assert answer.json["timestamp"] == "2026-11-22T10:00:00.250000+00:00"


def test_machines_are_listed_in_order():
    """GET /machines has one reading of each machine."""
    readings = client().get("/machines").json
    assert [list(reading) for reading in readings] == [KEYS] * 3
    assert [reading["id"] for reading in readings] == [1, 2, 3]


@pytest.mark.parametrize("path", ["/status", "/machines/1/status", "/machines/3/status"])
@pytest.mark.parametrize("status", [*STATUSES, "completed", "Started", "eRRoR"])
def test_a_posted_status_is_shown_until_the_next(path, status):
    """POST of a status in any case answers as in the contract, and that machine alone shows it."""
    app = client()
    answer = app.post(path, json={"status": status})
    assert (answer.status_code, answer.json) == (200, {"message": "Status updated"})
    assert list(answer.json) == ["message"]
    shown = ["IDLE"] * 3
    shown[2 if "3" in path else 0] = status.upper()
    for _ in range(2):
        assert [reading["status"] for reading in app.get("/machines").json] == shown


def test_machine_1_is_data():
    """/data and /status are the first machine, without a redirect either way."""
    app = client()
    app.post("/status", json={"status": "ERROR"})
    assert status_of(app) == app.get("/data").json["status"] == "ERROR"


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
     "application/json; charset=utf-16", "image/png", ";;;"],
)  # fmt: skip
def test_the_body_is_json_whatever_its_type_says(content_type):
    """The content type and other keys are ignored, and the last of two equal keys counts."""
    app = client()
    body = b' {"a": [1], "status": "IDLE", "status": "COMPLETED", "": null}\n'
    answer = app.post("/status", data=body, content_type=content_type)
    assert (answer.status_code, status_of(app)) == (200, "COMPLETED")


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"null", b"{}", b'{"status": null}', b'{"status": ""}', b'{"Status": "IDLE"}', b'{"status": "IDLE"',
     b"[]", b'["status"]', b'"IDLE"', b"IDLE", b"status=IDLE", b"7", b"true", b"NaN", b'{"status": NaN}',
     b'{"status": "IDLE"}x', b"\xff", b"\x00", b'\xef\xbb\xbf{"status": "IDLE"}', '{"status": "IDLE"}'.encode("utf-16"),
     b'{"status": "\xff"}', b'{"status": "\\ud800"}', b"{'status': 'IDLE'}", b'{"status": 1e999}', b"[" * 10_000,
     b'{"status":' * 1_500],
)  # fmt: skip
def test_a_body_without_a_status_is_refused(body):
    """A status that is missing, null or empty, or a body that is no JSON object, is the contract's 400."""
    app = client()
    app.post("/status", json={"status": "ERROR"})
    answer = app.post("/status", data=body)
    assert (answer.status_code, answer.mimetype, answer.json) == (400, "application/json", MISSING)
    assert status_of(app) == "ERROR"


@pytest.mark.parametrize(
    "status",
    [0, 7, -1.5, True, False, [], ["IDLE"], {}, {"status": "IDLE"}, "BROKEN", " IDLE", "IDLE\n", "IDLE\0", "<script>",
     "\u0131dle", "\u017ftarted", "\u0399DLE", "\uff29\uff24\uff2c\uff25", "\u200bIDLE", "\U0001f525", "IDLE" * 1000],
)  # fmt: skip
def test_an_invalid_status_is_refused(status):
    """A number, a list, another word or a look-alike is the contract's 400, and the status does not change."""
    app = client()
    app.post("/status", json={"status": "ERROR"})
    answer = app.post("/status", data=orjson.dumps({"status": status}))
    assert (answer.status_code, answer.mimetype, answer.json) == (400, "application/json", INVALID)
    assert status_of(app) == "ERROR"


@pytest.mark.parametrize(
    "number", ["0", "4", "-1", "01", "1.0", "one", "\u0663", "1" * 5000, " 1", "%00", "1;2", "None"]
)
def test_an_unknown_machine_is_404(number):
    """Only the decimal numbers 1 to N name a machine."""
    app = client()
    assert is_error(app.get(f"/machines/{number}/data"), 404)
    assert is_error(app.post(f"/machines/{number}/status", json={"status": "ERROR"}), 404)
    assert {reading["status"] for reading in app.get("/machines").json} == {"IDLE"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("status"), inner, max_size=3),
    max_leaves=8,
)

SPELLINGS = [spelling for status in STATUSES for spelling in (status, status.lower(), status.title())]

WORDS = st.sampled_from([*SPELLINGS, "\u0131dle", "IDLE "]) | st.text() | JSON
FUZZED = client()
"""One application for all examples, as building one takes longer than a request."""


@given(body=st.fixed_dictionaries({}, optional={"status": WORDS, "other": JSON}) | JSON)
@settings(max_examples=150, deadline=None)
def test_any_json_is_a_status_or_refused(body):
    """Every POST gets one of the three answers of the contract, and only the first changes the status."""
    status = body.get("status") if isinstance(body, dict) else None
    before = status_of(FUZZED)
    answer = FUZZED.post("/status", data=json.dumps(body))
    if isinstance(status, str) and status in SPELLINGS:
        assert (answer.status_code, answer.json) == (200, {"message": "Status updated"})
        assert status_of(FUZZED) == status.upper()
    else:
        assert answer.status_code == 400
        assert answer.json in (MISSING, INVALID)
        assert status_of(FUZZED) == before
