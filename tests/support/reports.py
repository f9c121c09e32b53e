"""Reports to render as pages."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from math import isfinite
from zoneinfo import ZoneInfo

import numpy as np

from etl import analyze_values
from etl.nightly.executors import SERIAL
from etl.nightly.report import make, write
from etl.nightly.thinning import thin

BERLIN = ZoneInfo("Europe/Berlin")


def make_report(settings_log, day, mapper=SERIAL):
    """The report of a day, without its history and its page."""
    return make(settings_log, day, mapper).report


def write_report(settings_log, day):
    """Make and write a day's report and its page; the path of the report."""
    return write(settings_log.folder, make(settings_log, day, charted=True))


def midnight(day, days=0):
    """The start of a day in Berlin, or of the day that many days later, in seconds since the epoch."""
    return datetime.combine(date.fromisoformat(day) + timedelta(days), time(), tzinfo=BERLIN).timestamp()


HOSTILE = "</script><script>alert(1)</script>\"' &lt; \u202e\x1b[31m\x00\u2028"


def report_of(values, day="2026-11-22", source="machine-1", machines=1, **entry):
    """A report of machines that sent these values, 10 s apart from midnight on, and the thinned series of each."""
    times = [midnight(day) + 10 * n for n in range(len(values))]
    stamped = [(datetime.fromtimestamp(at, BERLIN).isoformat(), v) for at, v in zip(times, values, strict=True)]
    figures = analyze_values([(stamp, value) for stamp, value in stamped if isfinite(value)])
    machine = {"source": source, "id": 1, "name": "press", "readings": len(values), "expected": 8640,
               "parameters": {"temperature": figures}, **entry}  # fmt: skip
    report = {"date": day, "timezone": "Europe/Berlin", "interval": 10, "threshold": 0.2,
              "machines": [machine | {"id": n} for n in range(machines)]}  # fmt: skip
    segments = thin(np.array(times), np.array(values), midnight(day), midnight(day, 1), 10)
    return report, [{"temperature": segments}] * machines
