"""The parts of the console that etl draws: the charts of one machine, and the styles shared with the report page."""

from importlib.resources import files
from math import fsum, isfinite, nan
from typing import Any
from zoneinfo import ZoneInfo

from etl.pages.charts import Band, Marks, chart, decimals_of, split_at_gaps, time_axis
from etl.pages.text import plain
from etl.readings.digits import average_decimals, number, quantity, with_unit
from etl.readings.text import plural

TEMPLATES = files("etl.pages") / "templates"


def machine_charts(machine: dict[str, Any]) -> dict[str, str]:
    """Draw a machine's last readings by parameter, each with a band around their average; none without a value.

    A machine has `times` (seconds since the epoch), `values` by parameter (NaN where a reading has none), the `limits`
    of its alarms by parameter, `interval` (seconds), `threshold` and `timezone`; it may have moving `averages` by
    parameter, one for each time, and `units`.
    """
    times, interval = machine["times"], machine["interval"]
    axis = time_axis(min(times), max(times), ZoneInfo(machine["timezone"]), interval)
    charts: dict[str, str] = {}
    for parameter, column in machine["values"].items():
        segments = split_at_gaps(times, column, interval)
        if not segments:
            continue
        values = [value for value in column if isfinite(value)]
        average, unit = fsum(values) / len(values), machine.get("units", {}).get(parameter, "")
        shown = with_unit(number(average, average_decimals(decimals_of(segments))), unit)
        label = f"{plain(parameter)}: {plural(len(values), 'reading')}, average {shown}"
        limits = machine["limits"].get(parameter, ())
        texts = ", ".join(with_unit(quantity(limit), unit) for limit in limits)
        label += f", limits of alarms {texts}" if texts else ""
        averages = split_at_gaps(times, machine.get("averages", {}).get(parameter, [nan] * len(times)), interval)
        marks = Marks(limits=limits, averages=averages)
        charts[parameter] = chart(segments, axis, Band.around(average, machine["threshold"]), label, marks, unit)
    return charts


def shared_styles() -> bytes:
    """base.css and charts.css, which come before the console's own stylesheet."""
    return b"".join((TEMPLATES / name).read_bytes() for name in ("base.css", "charts.css"))


def shared_script() -> bytes:
    """values.js, which shows the values of a chart at the pointer and by keyboard."""
    return (TEMPLATES / "values.js").read_bytes()
