"""The report's page and its charts: what they show, and that nothing in a report can disturb them."""

from __future__ import annotations

import re
import subprocess
import sys
from array import array
from base64 import b64encode
from datetime import date, timedelta
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from math import isfinite, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import analyze_values
from etl.pages.charts import BUCKETS, chart, thin, time_axis
from etl.pages.report import CHARTED, LISTED, live_charts, report_page
from tests.support.reports import BERLIN, HOSTILE, midnight, report_of


def axis_of(day="2026-11-22"):
    return time_axis(midnight(day), midnight((date.fromisoformat(day) + timedelta(days=1)).isoformat()), BERLIN)


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, and its text outside of the style."""

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
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return sum(tag == t and wanted.items() <= a.items() for t, a in self.elements)


def test_the_page_tells_the_day_in_a_sentence_and_a_table():
    """The sentence, each figure of the table, the completeness, and a chart of what has anomalies."""
    made = report_page(*report_of([50.0] * 98 + [100.0, 10.0]))
    page = Page(made)
    assert re.findall(r'class="outside" d="([^"]*)"', made.decode())[-1].count("M") == 2
    assert "Report of Sunday, 22 November 2026" in page.text
    assert (
        "1 machine gave 100 of 8,640 expected readings (1.1 %). 2 values of 1 machine deviated more than 20 % "
        "from the day's average."
    ) in page.text
    assert "temperature50.10100.0010.002" in page.text.replace(" ", "")
    assert "100 of 8,640 readings, 1.1 %" in page.text
    assert page.count("div", class_="chart") == 1
    assert page.count("details", class_="machine panel") == 1


@pytest.mark.parametrize(
    ("values", "told"),
    [([50.0] * 8640, "No value deviated more than 20 %"), ([nan] * 5, "None of them had a value to analyze.")],
)
def test_a_quiet_day_has_no_charts(values, told):
    """Without anomalies the page says so and draws nothing; a whole day is 100 %, and 8,639 readings are not."""
    page = Page(report_page(*report_of(values)))
    assert told in page.text
    assert page.count("div", class_="chart") == 0
    assert ("100 %" in page.text) == (len(values) == 8640)
    assert "99.9 %" in Page(report_page(*report_of([50.0] * 8639))).text


def test_a_report_of_no_machine_is_a_page():
    """A day of damaged lines only still has a page."""
    report, _ = report_of([1.0], machines=0)
    assert "No machine gave a reading" in Page(report_page(report, [])).text


def test_nothing_in_a_report_becomes_markup():
    """Names with markup, control and direction characters are text; the page has no script and asks for nothing."""
    report, series = report_of([50.0] * 98 + [90.0], source=HOSTILE, id=HOSTILE, name=HOSTILE)
    machine = report["machines"][0]
    machine["parameters"][HOSTILE] = {
        **machine["parameters"].pop("temperature"),
        "incidents": [{"start": HOSTILE, "end": None, "why": HOSTILE}],
    }
    machine["parameters"][HOSTILE]["anomalies"][0]["timestamp"] = HOSTILE
    series = [(series[0][0], {HOSTILE: series[0][1]["temperature"]})]
    made = report_page(report, series)
    page = Page(made)
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on") or a in ("src", "style")]
    assert all(a["href"].startswith("#") for tag, a in page.elements if tag == "a")
    assert "http" not in made.decode().replace("http-equiv", "")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", made.decode())
    assert "<script>alert(1)</script>" in page.text


def test_the_policy_names_the_pages_own_style_and_nothing_else():
    """The page's policy allows its style by hash, and no other source of anything."""
    made = report_page(*report_of([1.0]))
    style = re.search(rb"<style>(.*?)</style>", made, re.DOTALL)[1]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', made.decode())[1]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{b64encode(sha256(style).digest()).decode()}'; "
        "base-uri 'none'; form-action 'none'"
    )


def test_a_thousand_machines_fold():
    """Of many machines the worst are drawn and listed first, the rest folds, and the page says what was left out."""
    report, series = report_of([50.0] * 98 + [90.0], machines=1000)
    report["machines"][700]["parameters"] = {"temperature": analyze_values([("a", 1.0), ("b", 2.0), ("c", 9.0)])}
    made = report_page(report, series)
    page = Page(made)
    assert len(made) < 1_000_000
    assert page.count("div", class_="chart") == CHARTED
    assert re.search(r'<details class="machine panel" id="m700" open>', made.decode())
    assert f"{1000 - LISTED} more machines" in page.text
    assert f"What {1000 - CHARTED} more had is in 2026-11-22.json" in page.text
    assert page.count("th", scope="rowgroup") == 1000


def test_incidents_are_told_the_strongest_five_first_and_marked():
    """Of seven incidents, the machine's own among them, five stand open; each is marked in the chart."""
    report, series = report_of([50.0] * 100)
    machine = report["machines"][0]
    machine["incidents"] = [
        {
            "start": "2026-11-22T01:00:00Z",
            "end": "2026-11-22T02:00:00Z",
            "why": "no reading for an hour",
            "deviation": 9,
        }
    ]
    machine["parameters"]["temperature"]["incidents"] = [
        {"start": f"2026-11-22T0{n}:00:00", "end": f"2026-11-22T0{n}:30:00", "why": f"reason {n}", "deviation": n}
        for n in range(6)
    ]
    made = report_page(report, series).decode()
    page = Page(made.encode())
    assert "02:00:00 \N{EN DASH} 03:00:00 no reading for an hour" in page.text
    assert "05:00:00 \N{EN DASH} 05:30:00 temperature: reason 5" in page.text
    assert page.text.index("no reading for an hour") < page.text.index("reason 5") < page.text.index("2 more incidents")
    assert page.text.index("2 more incidents") < page.text.index("reason 1") < page.text.index("reason 0")
    assert re.findall(r'class="incidents" d="([^"]*)"', made)[-1].count("M") == 7
    assert "7 incidents of 1 machine." in page.text


def test_an_incident_of_another_day_has_its_dates_and_notes_are_shown():
    """An incident that began the day before is told with both dates; what the guards note stands by its chart."""
    report, series = report_of([50.0] * 100)
    (machine,) = report["machines"]
    machine["parameters"]["temperature"] |= {
        "incidents": [{"start": "2026-11-21T21:00:00.000Z", "end": "2026-11-22T01:00:00.000Z", "why": "stuck"}],
        "notes": ["only <100> readings"],
    }
    page = Page(report_page(report, series))
    assert "2026-11-21 22:00:00 \N{EN DASH} 2026-11-22 02:00:00" in page.text
    assert "only <100> readings" in page.text


@pytest.mark.parametrize(
    ("day", "hours", "labels"),
    [("2026-11-22", 24, "00:00 03:00 06:00 09:00 12:00 15:00 18:00 21:00 00:00"),
     ("2026-03-29", 23, "00:00 03:00 06:00 09:00 12:00 15:00 18:00 21:00 00:00"),
     ("2026-10-25", 25, "00:00 03:00 06:00 09:00 12:00 15:00 18:00 21:00 00:00")],
)  # fmt: skip
def test_the_axis_tells_local_time_on_days_of_any_length(day, hours, labels):
    """Every third local hour is labelled where it really is, on days of 23 and 25 hours too, and the page says it."""
    drawn = axis_of(day).drawn
    assert re.findall(r">(\d\d:\d\d)<", drawn) == labels.split()
    noon = re.search(r'x="([\d.]+)%"[^>]*>12:00<', drawn)[1]
    assert float(noon) == pytest.approx(100 * (hours - 12) / hours, abs=0.01)
    text = Page(report_page(*report_of([1.0], day))).text
    assert (f"this day had {hours} hours" in text) == (hours != 24)


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [(0.5, ["00:00:00", "00:00:01"]), (60, ["00:00:00", "00:00:15", "00:00:30", "00:00:45", "00:01:00"]),
     (600, ["00:00", "00:02", "00:04", "00:06", "00:08", "00:10"]), (60 * 86_400, ["11-22", "11-29", "12-06"])],
)  # fmt: skip
def test_an_axis_of_any_length_has_few_round_labels(seconds, labels):
    """Seconds, minutes or days are labelled, as the stretch of time asks."""
    start = midnight("2026-11-22")
    shown = re.findall(r">([\d:-]+)<", time_axis(start, start + seconds, BERLIN).drawn)
    assert (shown[: len(labels)], len(shown) <= 10) == (labels, True)


readings = st.lists(
    st.tuples(st.integers(0, 86_399), st.floats(-1e300, 1e300) | st.just(nan)), min_size=1, max_size=2000
)


@settings(max_examples=60, deadline=None)
@given(readings, st.sampled_from([1.0, 10.0, 1000.0]))
def test_thinning_keeps_the_extremes_and_the_gaps(data, interval):
    """Every bucket keeps its lowest and highest reading, nothing is made up, and no stretch crosses a gap."""
    axis = axis_of()
    times, values = [axis.start + at for at, _ in data], [value for _, value in data]
    segments = thin(times, values, axis, interval)
    there = sorted((at, value) for at, value in zip(times, values, strict=True) if isfinite(value))
    kept = sorted(point for segment in segments for point in segment)
    assert set(kept) <= set(there)
    assert len(kept) <= 2 * BUCKETS + 4 * len(segments)

    def bucket(point):
        return int((point[0] - axis.start) / (axis.end - axis.start) * BUCKETS)

    for number in {bucket(point) for point in there}:
        everything = [value for at, value in there if bucket((at, value)) == number]
        shown = [value for at, value in kept if bucket((at, value)) == number]
        assert (min(shown), max(shown)) == (min(everything), max(everything))
    gaps = [(a, b) for (a, _), (b, _) in pairwise(there) if b - a > 3 * interval]
    assert len(segments) == len(gaps) + bool(there)
    for segment in segments:
        assert not any(segment[0][0] <= a and b <= segment[-1][0] for a, b in gaps)


def test_a_long_day_keeps_its_one_peak():
    """One reading in 864,000 that stands out is drawn, marked, and the chart stays small."""
    axis = axis_of()
    values = array("d", [50.0]) * 864_000
    values[500_000] = 99.0
    drawn = chart([axis.start + n / 10 for n in range(864_000)], values, axis, 0.1, 50.0, 0.2, "a day")
    assert len(drawn) < 20_000
    assert len(re.findall("M", re.search(r'class="outside" d="([^"]*)"', drawn)[1])) == 1


def test_gaps_are_gaps():
    """Silence and missing values longer than three intervals break the trace and are shaded; shorter ones are not."""
    axis = axis_of()
    times = [axis.start + 10 * n for n in range(8640) if not 3000 < n < 3600]
    values = [nan if 5000 < n < 5003 or 6000 < n < 6600 else 50.0 for n in range(len(times))]
    drawn = chart(times, values, axis, 10.0, 50.0, 0.2, "a day")
    assert re.search(r'class="trace" d="([^"]*)"', drawn)[1].count("M") == 3
    assert re.search(r'class="gaps" d="([^"]*)"', drawn)[1].count("M") == 2


@pytest.mark.parametrize(
    "values",
    [[], [nan], [0.0], [1e300, -1e300], [5e-324, 0.0], [-1e-300, 1e-300], [7.0] * 9, [1e16, 1e16 + 2], [1e300]],
)
def test_any_values_can_be_drawn(values):
    """Nothing, one reading, constants and the ends of what is analyzed are drawn within the chart."""
    axis = axis_of()
    average = analyze_values([("", value) for value in values if isfinite(value)])["average"]
    drawn = chart([axis.start + n for n in range(len(values))], values, axis, 10.0, average, 1e300, 'a "label"')
    assert 'aria-label="a &#34;label&#34;"' in drawn
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_the_charts_of_the_console_have_the_average_of_the_last_readings():
    """Each parameter has a chart labelled with the number of its values, missing ones aside, and their average."""
    columns = {"times": [1e9, 1e9 + 10, 1e9 + 20], "values": {"speed": [1.0, nan, 2.0], "temperature": [nan] * 3}}
    charts = live_charts({**columns, "interval": 10, "threshold": 0.2, "timezone": "Europe/Berlin"})
    assert list(charts) == ["speed", "temperature"]
    assert 'aria-label="speed: the last 2 readings, average 1.50"' in charts["speed"]
    assert 'aria-label="temperature: the last 0 readings, average \N{EN DASH}"' in charts["temperature"]


def test_a_page_is_drawn_without_flask():
    """The night's child loads what draws, not what serves."""
    script = "import sys, etl.pages.report; sys.exit('flask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
