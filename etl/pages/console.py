"""The parts of the console that etl draws: the charts of one machine, and the styles shared with the report page."""

from importlib.resources import files
from math import fsum, isfinite
from typing import Any
from zoneinfo import ZoneInfo

from etl.pages.charts import Band, Marks, chart, split_at_gaps, time_axis
from etl.pages.text import number, plain
from etl.readings.text import plural

TEMPLATES = files("etl.pages") / "templates"


def machine_charts(machine: dict[str, Any]) -> dict[str, str]:
    """Draw a machine's last readings by parameter, each with a band around their average.

    A machine has `times` (seconds since the epoch), `values` by parameter (NaN where a reading has none), the `limits`
    of its alarms by parameter, `interval` (seconds), `threshold` and `timezone`.
    """
    times, interval = machine["times"], machine["interval"]
    axis = time_axis(min(times), max(times), ZoneInfo(machine["timezone"]), interval)
    charts: dict[str, str] = {}
    for parameter, column in machine["values"].items():
        values = [value for value in column if isfinite(value)]
        average = fsum(values) / len(values) if values else None
        label = f"{plain(parameter)}: {plural(len(values), 'reading')}, average {number(average)}"
        limits = ", ".join(f"{limit:g}" for limit in machine["limits"].get(parameter, ()))
        label += f", limits of alarms {limits}" if limits else ""
        segments = split_at_gaps(times, column, interval)
        band, marks = Band.around(average, machine["threshold"]), Marks(limits=machine["limits"].get(parameter, ()))
        charts[parameter] = chart(segments, axis, band, label, marks)
    return charts


def shared_styles() -> bytes:
    """base.css and charts.css, which come before the console's own stylesheet."""
    return b"".join((TEMPLATES / name).read_bytes() for name in ("base.css", "charts.css"))
