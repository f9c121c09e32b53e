"""The report page and the charts: what they show, and that no text of a report becomes markup."""

from __future__ import annotations

import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from math import isfinite, nan

import pytest

from etl import analyze_values
from etl.pages.charts import HEIGHT, Band, Marks, chart, split_at_gaps, time_axis
from etl.pages.console import machine_charts
from etl.pages.report import MAX_CHARTED, MAX_ROWS, report_page
from tests.support.reports import BERLIN, HOSTILE, midnight, report_of


def axis_of(day="2026-11-22"):
    return time_axis(midnight(day), midnight(day, 1), BERLIN, 10.0)


def chart_of(times, values, average=50.0, threshold=0.2, label="a day"):
    """A chart of a day's readings, every 10 s, as they are: without thinning."""
    return chart(split_at_gaps(times, values, 10.0), axis_of(), Band.around(average, threshold), label)


class Page(HTMLParser):
    """A parsed page: its elements with their attributes, and its text except for the style."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements, self.text, self._inside = [], "", ""
        self.feed(page.decode())
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside != "style":
            self.text += data

    def handle_endtag(self, tag):
        self._inside = ""

    def count(self, tag, **attributes):
        expected = {name.rstrip("_"): value for name, value in attributes.items()}
        return sum(tag == t and expected.items() <= a.items() for t, a in self.elements)


def test_the_page_summarizes_the_day_in_a_sentence_and_a_table():
    """The page has the sentence, each figure of the table, the completeness, and a chart of what has anomalies."""
    html = report_page(*report_of([50.0] * 98 + [100.0, 10.0]))
    page = Page(html)
    assert re.findall(r'class="outside" d="([^"]*)"', html.decode())[-1].count("M") == 2
    assert "Report of Sunday, 22 November 2026" in page.text
    assert (
        "1 machine sent 100 of 8,640 expected readings (1.1 %). 2 values of 1 machine deviate by more than 20 % "
        "from the day's average."
    ) in page.text
    assert "temperature50.10100.0010.002" in page.text.replace(" ", "")
    assert "100 of 8,640 readings, 1.1 %" in page.text
    assert page.count("div", class_="chart") == 1
    assert page.count("details", class_="machine panel") == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [([50.0] * 8640, "No value deviates by more than 20 %"), ([nan] * 5, "None of them has a value to analyze.")],
)
def test_a_quiet_day_has_no_charts(values, sentence):
    """Without anomalies the page says so and has no chart; a whole day is 100 %, and 8,639 readings are not."""
    page = Page(report_page(*report_of(values)))
    assert sentence in page.text
    assert page.count("div", class_="chart") == 0
    assert ("100 %" in page.text) == (len(values) == 8640)
    assert "99.9 %" in Page(report_page(*report_of([50.0] * 8639))).text


def test_numbers_agree_with_their_nouns():
    """One of a thing is in the singular, several are in the plural, and a fraction of a reading is rounded."""
    page = Page(report_page(*report_of([50.0] * 99 + [100.0], expected=1.2)))
    assert "1 machine sent 100 of 1 expected reading (8333.3 %). 1 value of 1 machine deviates by" in page.text
    assert "1 anomaly in temperature" in page.text
    report, series = report_of([50.0] * 99 + [100.0], machines=2, expected=86400 / 7)
    for machine in report["machines"]:
        machine["incidents"] = [{"start": "2026-11-22T01:00:00Z", "end": "2026-11-22T02:00:00Z", "why": "silent",
                                 "detector": "silence"}] * 6  # fmt: skip
    report["rules"] = 2
    page = Page(report_page(report, series))
    assert "2 machines sent 200 of 24,686 expected readings (0.8 %). 2 values of 2 machines deviate by" in page.text
    assert page.text.index("12 silences (machine-1).") < page.text.index("2 machines sent")
    assert "1 more incident " in page.text


def test_a_report_of_no_machine_is_a_page():
    """A day with only damaged lines still has a page."""
    report, _ = report_of([1.0], machines=0)
    assert "No machine sent a reading" in Page(report_page(report, [])).text


def test_nothing_in_a_report_becomes_markup():
    """Names with markup, control and direction characters are text; the page has no script and loads nothing."""
    report, series = report_of([50.0] * 98 + [90.0], source=HOSTILE, id=HOSTILE, name=HOSTILE)
    machine = report["machines"][0]
    machine["parameters"][HOSTILE] = {
        **machine["parameters"].pop("temperature"),
        "incidents": [{"start": HOSTILE, "end": None, "why": HOSTILE}],
    }
    machine["parameters"][HOSTILE]["anomalies"][0]["timestamp"] = HOSTILE
    series = [{HOSTILE: series[0]["temperature"]}]
    html = report_page(report, series)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on") or a in ("src", "style")]
    assert all(a["href"].startswith("#") for tag, a in page.elements if tag == "a")
    assert "http" not in html.decode().replace("http-equiv", "")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", html.decode())
    assert "<script>alert(1)</script>" in page.text


def test_the_policy_names_the_pages_own_style_and_nothing_else():
    """The page's policy allows its style by hash, and nothing else."""
    html = report_page(*report_of([1.0]))
    style = re.search(rb"<style>(.*?)</style>", html, re.DOTALL)[1]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html.decode())[1]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(style).digest()).decode()}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_a_thousand_machines_fold():
    """Of many machines the most anomalous have charts and come first, the others fold, and the page says so."""
    report, series = report_of([50.0] * 98 + [90.0], machines=1000)
    report["machines"][700]["parameters"] = {"temperature": analyze_values([("a", 1.0), ("b", 2.0), ("c", 9.0)])}
    html = report_page(report, series)
    page = Page(html)
    assert len(html) < 1_000_000
    assert page.count("div", class_="chart") == MAX_CHARTED
    assert re.search(r'<details class="machine panel" id="m700" open>', html.decode())
    assert f"{1000 - MAX_ROWS} more machines" in page.text
    assert f"Those of {1000 - MAX_CHARTED} more machines are in 2026-11-22.json" in page.text
    assert page.count("th", scope="rowgroup") == 1000


def test_incidents_are_listed_the_strongest_first_and_marked():
    """Of seven incidents, one of the machine itself among them, five are unfolded; each is marked in the chart."""
    report, series = report_of([50.0] * 100)
    machine = report["machines"][0]
    machine["incidents"] = [
        {
            "start": "2026-11-22T01:00:00Z",
            "end": "2026-11-22T02:00:00Z",
            "why": "no reading for an hour",
            "deviation": 9,
            "detector": "silence",
        }
    ]
    report["rules"] = 2
    machine["parameters"]["temperature"]["incidents"] = [
        {
            "start": f"2026-11-22T0{n}:00:00",
            "end": f"2026-11-22T0{n}:30:00",
            "why": f"reason {n}",
            "deviation": n,
            "detector": "telemetry",
        }
        for n in range(6)
    ]
    html = report_page(report, series).decode()
    page = Page(html.encode())
    assert "02:00:00 \N{EN DASH} 03:00:00 no reading for an hour" in page.text
    assert "05:00:00 \N{EN DASH} 05:30:00 temperature: reason 5" in page.text
    assert page.text.index("no reading for an hour") < page.text.index("reason 5") < page.text.index("2 more incidents")
    assert page.text.index("2 more incidents") < page.text.index("reason 1") < page.text.index("reason 0")
    assert re.findall(r'class="incidents" d="([^"]*)"', html)[-1].count("M") == 7
    assert "6 incidents (machine-1 temperature), 1 silence (machine-1). 1 machine sent" in page.text


def test_an_incident_of_another_day_has_its_dates_and_notes_are_shown():
    """An incident that began the day before is shown with both dates; the notes on a parameter are by its chart."""
    report, series = report_of([50.0] * 100)
    (machine,) = report["machines"]
    machine["parameters"]["temperature"] |= {
        "incidents": [{"start": "2026-11-21T21:00:00.000Z", "end": "2026-11-22T01:00:00.000Z", "why": "stuck"}],
        "notes": ["only <100> readings"],
    }
    page = Page(report_page(report, series))
    assert "2026-11-21 22:00:00 \N{EN DASH} 2026-11-22 02:00:00" in page.text
    assert "only <100> readings" in page.text


def test_a_parameter_without_numbers_has_its_note_in_the_table():
    """A parameter without anomalies has no chart; its notes are in the table, as text."""
    report, series = report_of([nan] * 100)
    note = "none of 100 readings had a number as <b>"
    report["machines"][0]["parameters"]["temperature"] |= {"incidents": [], "notes": [note]}
    html = report_page(report, series)
    assert note in Page(html).text
    assert b"<b>" not in html


@pytest.mark.parametrize(
    ("day", "hours", "labels"),
    [("2026-11-22", 24, "00:00 03:00 06:00 09:00 12:00 15:00 18:00 21:00 00:00"),
     ("2026-03-29", 23, "00:00 03:00 06:00 09:00 12:00 15:00 18:00 21:00 00:00"),
     ("2026-10-25", 25, "00:00 03:00 06:00 09:00 12:00 15:00 18:00 21:00 00:00")],
)  # fmt: skip
def test_the_axis_shows_local_time_on_days_of_any_length(day, hours, labels):
    """Every third local hour has its label at its true position, also on days of 23 and 25 hours, which are named."""
    svg = axis_of(day).svg
    assert re.findall(r">(\d\d:\d\d)<", svg) == labels.split()
    noon = re.search(r'x="([\d.]+)%"[^>]*>12:00<', svg)[1]
    assert float(noon) == pytest.approx(100 * (hours - 12) / hours, abs=0.01)
    text = Page(report_page(*report_of([1.0], day))).text
    assert (f"it had {hours} hours" in text) == (hours != 24)


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [(0.5, ["00:00:00", "00:00:01"]), (60, ["00:00:00", "00:00:15", "00:00:30", "00:00:45", "00:01:00"]),
     (600, ["00:00", "00:02", "00:04", "00:06", "00:08", "00:10"]), (60 * 86_400, ["11-22", "11-29", "12-06"])],
)  # fmt: skip
def test_an_axis_of_any_length_has_few_round_labels(seconds, labels):
    """The labels are seconds, minutes or days, depending on the length of the range."""
    start = midnight("2026-11-22")
    shown = re.findall(r">([\d:-]+)<", time_axis(start, start + seconds, BERLIN, 10.0).svg)
    assert (shown[: len(labels)], len(shown) <= 10) == (labels, True)


def test_gaps_are_gaps():
    """Missing readings and values longer than three intervals break the trace and are shaded; shorter ones do not."""
    times = [axis_of().start + 10 * n for n in range(8640) if not 3000 < n < 3600]
    values = [nan if 5000 < n < 5003 or 6000 < n < 6600 else 50.0 for n in range(len(times))]
    svg = chart_of(times, values)
    assert re.search(r'class="trace" d="([^"]*)"', svg)[1].count("M") == 3
    assert re.search(r'class="gaps" d="([^"]*)"', svg)[1].count("M") == 2


def test_the_moving_averages_are_a_second_trace():
    """Moving averages are a trace of their own, where a chart has them."""
    readings, averages = [[(axis_of().start, 1.0), (axis_of().start + 10, 3.0)]], [[(axis_of().start + 10, 2.0)]]
    svg = chart(readings, axis_of(), None, "a day", Marks(averages=averages))
    assert re.search(r'class="averages" d="([^"]*)"', svg)[1].endswith("h0")
    assert 'class="averages"' not in chart(readings, axis_of(), None, "a day")


def test_a_chart_without_values_has_no_labels_of_values():
    """Where no reading has a number, the axis of values is empty: from 0 to 1 would look like a measurement."""
    labels = re.compile(r'<svg class="values"[^>]*>(.*?)</svg>')
    assert labels.search(chart_of([axis_of().start], [nan], None))[1] == ""
    assert "<text" in labels.search(chart_of([axis_of().start], [7.0], None))[1]


def test_a_short_series_is_drawn_in_order_of_time():
    """Readings whose time stepped back, because the clock was set back, are drawn in order of their times."""
    assert split_at_gaps([30.0, 40.0, 10.0, 20.0, 90.0], [3.0, 4.0, 1.0, nan, 9.0], 10.0) == [
        [(10.0, 1.0), (30.0, 3.0), (40.0, 4.0)],
        [(90.0, 9.0)],
    ]


@pytest.mark.parametrize(
    "values",
    [[], [nan], [0.0], [1e300, -1e300], [5e-324, 0.0], [-1e-300, 1e-300], [7.0] * 9, [1e16, 1e16 + 2], [1e300]],
)
def test_any_values_can_be_drawn(values):
    """No reading, one reading, constants and the largest values analyzed have a chart with finite coordinates."""
    average = analyze_values([("", value) for value in values if isfinite(value)])["average"]
    svg = chart_of([axis_of().start + n for n in range(len(values))], values, average, 1e300, 'a "label"')
    assert 'aria-label="a &#34;label&#34;"' in svg
    assert "nan" not in svg
    assert "inf" not in svg


def test_the_charts_of_the_console_have_the_average_of_the_last_readings():
    """Each parameter has a chart labelled with the number of its values, missing ones aside, and their average."""
    columns = {"times": [1e9, 1e9 + 10, 1e9 + 20], "values": {"speed": [1.0, nan, 2.0], "temperature": [nan] * 3}}
    charts = machine_charts({**columns, "limits": {}, "interval": 10, "threshold": 0.2, "timezone": "Europe/Berlin"})
    assert list(charts) == ["speed", "temperature"]
    assert 'aria-label="speed: 2 readings, average 1.50"' in charts["speed"]
    assert 'aria-label="temperature: 0 readings, average \N{EN DASH}"' in charts["temperature"]


def test_the_limits_of_alarms_are_drawn():
    """Each limit is a line in the chart of its parameter, within its scale; one beyond all numbers is not drawn."""
    columns = {"times": [1e9, 1e9 + 10], "values": {"speed": [1.0, 2.0], "temperature": [1.0, 2.0]},
               "limits": {"speed": [8.0, -1.0, 1e308]}, "interval": 10, "threshold": 0.2,
               "timezone": "UTC"}  # fmt: skip
    charts = machine_charts(columns)
    levels = re.findall(r'class="limit" d="M0 (-?[0-9]+)H', charts["speed"])
    assert len(levels) == 2
    assert 0 < int(levels[0]) < int(levels[1]) < HEIGHT
    assert 'aria-label="speed: 2 readings, average 1.50, limits of alarms 8, -1, 1e+308"' in charts["speed"]
    assert "limit" not in charts["temperature"]


def test_pages_need_neither_flask_nor_numpy():
    """The report's process does not load the web server, and the polling process draws its charts without numpy."""
    script = "import sys, etl.pages.report; sys.exit(bool({'flask', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
