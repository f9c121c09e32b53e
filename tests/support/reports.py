"""Reports to draw."""

from __future__ import annotations

from array import array
from datetime import date, datetime, time
from math import isfinite
from zoneinfo import ZoneInfo

from etl import analyze_values

BERLIN = ZoneInfo("Europe/Berlin")


def midnight(day):
    return datetime.combine(date.fromisoformat(day), time(), tzinfo=BERLIN).timestamp()


HOSTILE = "</script><script>alert(1)</script>\"' &lt; \u202e\x1b[31m\x00\u2028"


def report_of(values, day="2026-11-22", source="machine-1", machines=1, **entry):
    """A report of machines that gave these values, ten seconds apart from midnight on, and what to draw of it."""
    times = array("d", [midnight(day) + 10 * n for n in range(len(values))])
    stamped = [(datetime.fromtimestamp(at, BERLIN).isoformat(), v) for at, v in zip(times, values, strict=True)]
    figures = analyze_values([(stamp, value) for stamp, value in stamped if isfinite(value)])
    machine = {"source": source, "id": 1, "name": "press", "readings": len(values), "expected": 8640,
               "parameters": {"temperature": figures}, **entry}  # fmt: skip
    report = {"date": day, "timezone": "Europe/Berlin", "interval": 10, "threshold": 0.2,
              "machines": [machine | {"id": n} for n in range(machines)]}  # fmt: skip
    return report, [(times, {"temperature": array("d", values)})] * machines
