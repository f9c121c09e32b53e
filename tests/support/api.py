"""Test clients of the API, and the views of a made-up process."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from io import BytesIO

from api.app import create_app
from api.console import Body, Views
from api.machines import Machines

NOW = datetime(2024, 11, 3, 13, 40, 45, 15069, tzinfo=UTC)
BODY = 16 * 1024
"""Bytes of the longest body that is read."""
REPORT = b'{"date":"2026-11-22","machines":[]}'
ALARM = (
    b'{"at":"2026-11-22T10:00:00.000Z","alarm":"hot","state":"raised","source":"a","id":1,"parameter":"temperature",'
    b'"value":81.2,"limit":80.0,"since":"2026-11-22T09:59:30.000Z"}'
)
PAGE = b"<!DOCTYPE html><title>a report</title>"
EMPTY = Views(*[list] * len(Views._fields))._replace(styles=b"", script=b"")
"""The views of a process without any data."""
SHOWN = {"simulated": 7, "charts": {"speed": "<div>a chart</div>"}}


def made(content):
    """What was made on demand, as the views return it."""
    return Body(BytesIO(content), len(content))


def client(machines=3, views=None):
    """A client of a new application whose clock always returns NOW."""
    return create_app(Machines(machines, random.Random(7)), views, lambda: NOW).test_client()


def status_of(app, number=1):
    """The status of a machine, from its reading."""
    return app.get(f"/machines/{number}/data").json["status"]


def is_error(answer, code):
    """Whether a response is an error as in the contract: JSON with one sentence under `error`."""
    return (
        answer.status_code == code
        and answer.mimetype == "application/json"
        and list(answer.json) == ["error"]
        and len(answer.json["error"]) > 5
    )


def console(reasons=(), averages=lambda: [b'{"source":"a","id":1}\n', b'{"source":"b","id":null}\n']):
    """A client of an application with a console: two averages, an event and a report."""
    return client(views=Views(
        averages=averages,
        alarms=lambda: [ALARM + b"\n"],
        events=lambda: iter([b'{"event":"start"}\n']),
        reports=lambda: ["2026-11-21", "2026-11-22"],
        report=lambda day: made(REPORT) if day == "2026-11-22" else None,
        not_ready=lambda: list(reasons),
        metrics=lambda: b"# HELP telemetry_readings Readings taken.\n",
        report_page={"2026-11-22": PAGE}.get,
        day_so_far=lambda html: made(PAGE if html else REPORT),
        machine_day=lambda source, key, day: made(f"{source} {key} {day}".encode()),
        machine_hours=lambda source, key, hours: made(b'{"simulated":null,"charts":{}}'),
        summaries=lambda: made(b'{"reports":[],"incidents":[],"more":0}'),
        overview=lambda mark: [b'{"mark":', b"%d}" % mark],
        machine=lambda source, key: SHOWN if (source, key) == ("b", None) else None,
        export=lambda day, source, key: iter([b"a\r\n", b"1\r\n"]) if day == "2026-11-22" else None,
        styles=b".chart { display: flex; }\n",
        script=b"'use strict';\n",
    ))  # fmt: skip
