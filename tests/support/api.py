"""Clients of an application of their own, and what an answer is."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from api import Machines, Views, create_app

NOW = datetime(2024, 11, 3, 13, 40, 45, 15069, tzinfo=UTC)
REPORT = b'{"date":"2026-11-22","machines":[]}'
PAGE = b"<!DOCTYPE html><title>a report</title>"
EMPTY = Views(*[list] * len(Views._fields))._replace(styles=b"")
"""What a process shows that has nothing to show."""


SHOWN = {"simulated": 7, "charts": {"speed": "<div>a chart</div>"}}


def client(machines=3, views=None):
    """A client of an application of its own, at a moment that stands still."""
    return create_app(Machines(machines, random.Random(7)), views, lambda: NOW).test_client()


def status_of(app, number=1):
    """The status that a machine shows."""
    return app.get(f"/machines/{number}/data").json["status"]


def is_error(answer, code):
    """Whether an answer is a refusal as the contract has it: JSON, with one sentence under `error`."""
    return (
        answer.status_code == code
        and answer.mimetype == "application/json"
        and list(answer.json) == ["error"]
        and len(answer.json["error"]) > 5
    )


def console(reasons=(), averages=lambda: [b'{"source":"a","id":1}\n', b'{"source":"b","id":null}\n']):
    """A client of an application that also shows a running process: two averages, an event, a report."""
    return client(views=Views(
        averages=averages,
        events=lambda: iter([b'{"event":"start"}\n']),
        reports=lambda: ["2026-11-21", "2026-11-22"],
        report={"2026-11-22": REPORT}.get,
        not_ready=lambda: list(reasons),
        metrics=lambda: b"# HELP telemetry_readings Readings taken.\n",
        report_page={"2026-11-22": PAGE}.get,
        overview=lambda mark: [b'{"mark":', b"%d}" % mark],
        machine=lambda source, key: SHOWN if (source, key) == ("b", None) else None,
        styles=b".chart { display: flex; }\n",
    ))  # fmt: skip
