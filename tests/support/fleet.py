"""An application whose console shows made-up machines, reports and events."""

from __future__ import annotations

import json
import time

import orjson
from flask import abort, request

from api.app import create_app
from api.console import Body, Views
from api.machines import Machines
from api.server import serve
from etl.pages.console import machine_charts, shared_script, shared_styles
from etl.readings.times import rfc3339
from tests.support.api import made
from tests.support.reports import HOSTILE

DOWN_WHY = "refused by 192.0.2.7 port 8080 after 3 attempts " + "(http://192.0.2.7:8080/api/v1/readings) " * 5 + "end"


def stamp(seconds_ago):
    """A timestamp of the process."""
    return rfc3339(time.time() - seconds_ago)


def fleet(count, status="IDLE", **changes):
    """The overview of this many machines; the name of the last one is hostile, and machine-7 is down."""
    now = time.time()
    names = [f"machine-{n}" for n in range(1, count)] + [HOSTILE.replace("\x00", "")]
    trace = [[1000 * (now - 10 * n), 45 + n % 7 / 4, 650 - n % 50] for n in reversed(range(60))]
    rows = [
        {"id": str(n), "latest": {"source": name, "id": n, "status": status, "readings": 5, "average_temperature": 45.5,
                    "average_speed": 640.25}, "trace": trace}
        for n, name in enumerate(names)
    ]  # fmt: skip
    return {"now": 1000 * now, "mark": 1, "whole": True, "interval": 10, "silent_after": 30, "window": 5,
            "threshold": 0.2, "timezone": "Europe/Berlin", "parameters": ["temperature", "speed"],
            "units": {"temperature": "°C", "speed": "rpm"}, "sources": count, "machines": rows,
            "down": [{"source": "machine-7", "since": "2026-11-22T10:00:00.000Z", "reason": "refused",
                      "why": DOWN_WHY}], "flapping": [], "alarms": [], "not_ready": [], **changes}  # fmt: skip


def troubled(count):
    """A fleet with alarms, a source that flaps, one that is down, a machine without speed and one with long numbers."""
    overview = fleet(count)
    machines = overview["machines"]
    alarm = {"alarm": "hot", "holds": "temperature above 80 °C", "since": stamp(400)}
    overview["alarms"] = [
        {"source": machines[2]["latest"]["source"], "id": machines[2]["id"], **alarm, "alarm": name}
        for name in ("hot", "speed of the fan", "status", "another")
    ]  # fmt: skip
    overview["flapping"] = [
        {"source": "machine-4", "outages": 5, "since": stamp(3000)},
        {"source": "machine-7", "outages": 20, "since": stamp(3500)},
    ]
    overview["down"].append({"source": "never-answered", "since": stamp(90), "reason": "dns", "why": "no such host"})
    machines[4]["trace"] = [[at, value, None] for at, value, _ in machines[4]["trace"]]
    machines[5]["trace"] = [[at, -12345.6, -0.0012345] for at, *_ in machines[5]["trace"]]
    return overview


def machine_view(source, machine_id, hours=0):
    """The charts of any machine but one that has sent nothing; `machine-5` has no speed."""
    if source == "never-answered" and not hours:
        return None
    times = [1_795_341_600.0 + 10 * n for n in range(60 * (hours or 1))]
    values = {"temperature": [45.0 + n % 7 for n in range(len(times))], "speed": [650.0] * len(times)}
    if source == "machine-5":
        del values["speed"]
    columns = {"times": times, "values": values, "limits": {}, "interval": 10, "threshold": 0.2,
               "timezone": "Europe/Berlin", "units": {}}  # fmt: skip
    return {"simulated": 1, "charts": {name: str(chart) for name, chart in machine_charts(columns).items()}}


def report_list(days):
    """An answer of /console/reports: this many days, the oldest too large to read, and two incidents."""
    dates = [f"2026-{month:02}-{day:02}" for month in (11, 10, 9) for day in range(28, 0, -1)][:days]
    rows = [{"date": date, "incidents": n % 4, "lasting": n % 3 // 2, "anomalies": 1234 * (n % 3), "readings": 8600 + n,
             "expected": 8640} for n, date in enumerate(dates)]  # fmt: skip
    rows[-1:] = [{"date": date} for date in dates[-1:]]
    incident = {"date": "2026-11-27", "source": "machine-2", "id": "1", "parameter": "temperature",
                "start": "2026-11-27T03:12:00.000+01:00", "end": "2026-11-27T03:40:00.000+01:00", "detector": "level",
                "lasting": False, "why": "81.2 to 93.4, expected 44.1 to 46.8"}  # fmt: skip
    silence = incident | {"source": HOSTILE.replace("\x00", ""), "id": '"x"', "parameter": None, "detector": "silence",
                          "why": "no reading for 28 min", "lasting": True}  # fmt: skip
    return {"reports": rows, "incidents": ([incident, silence] * 12), "more": 7}


EVENTS = [
    {"at": stamp(300 - 10 * n), "event": name, "source": source, "reason": "refused", "why": "connection refused",
     "seconds": 12}
    for n, (name, source) in enumerate(
        [("start", None), ("source_down", "machine-4"), ("source_up", "machine-4"), ("source_down", "machine-9"),
         ("source_down", "machine-7"), ("rejected", "machine-4"), ("source_down", "machine-4"),
         ("source_up", "machine-4")]
    )
]  # fmt: skip
"""Events of machine-4, which flaps in a troubled fleet, of machine-7, which flaps and is down, and of others."""


BUSY = Body(status=503, error="Other pages are being made; try again later", retry_s=1)


def application(overview, events=EVENTS, token=None, **views):
    """The URL of an application that shows this overview; if there is a token, a POST needs it."""
    content = orjson.dumps(overview)
    empty = Views(*[list] * len(Views._fields))
    page = made(b"<!doctype html><title>a page</title>")
    defaults = {
        "overview": lambda mark: [content],
        "machine": machine_view,
        "machine_hours": lambda source, key, hours: made(orjson.dumps(machine_view(source, json.loads(key), hours))),
        "machine_day": lambda source, key, day: page,
        "day_so_far": lambda html: page,
        "events": lambda: [orjson.dumps(event) for event in events],
        "reports": lambda: [f"2026-10-{n:02}" for n in range(1, 31)],
        "summaries": lambda: made(orjson.dumps(report_list(30))),
        "styles": shared_styles(),
        "script": shared_script(),
    }
    app = create_app(Machines(1), empty._replace(**defaults | views))

    @app.before_request
    def guard():
        if token and request.method == "POST" and request.headers.get("Authorization") != f"Bearer {token}":
            abort(401, "This needs the token of api.token")

    return f"http://127.0.0.1:{serve(app, '127.0.0.1', 0)}/"
