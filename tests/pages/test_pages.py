"""The report page and the charts: what they show, and that no text of a report becomes markup."""

from __future__ import annotations

import re
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from math import nan

import pytest

from etl import analyze_values
from etl.pages.charts import HEIGHT, time_axis
from etl.pages.console import machine_charts
from etl.pages.report import MAX_CHARTED, MAX_ROWS, report_page
from tests.support.reports import BERLIN, HOSTILE, midnight, report_of


def axis_of(day="2026-11-22"):
    return time_axis(midnight(day), midnight(day, 1), BERLIN, 10.0)


class Page(HTMLParser):
    """A parsed page: its elements with their attributes, and its text except for the style and the script."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements, self.text, self._inside = [], "", ""
        self.feed(page.decode())
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside not in ("style", "script"):
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
    assert re.findall(r'class="outside" d="([^"]*)"', html.decode())[-1].count("h0") == 2
    assert "Report of Sunday, 22 November 2026" in page.text
    assert (
        "1 machine sent 100 of 8,640 expected readings (1.1 %). 2 values of 1 machine deviate by more than 20 % "
        "from the day's average."
    ) in page.text
    assert "temperature50.1100102" in page.text.replace(" ", "")
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
    """Names with markup, control and direction characters are text; the page has its own script and loads nothing."""
    report, series = report_of([50.0] * 98 + [90.0], source=HOSTILE, id=HOSTILE, name=HOSTILE)
    machine = report["machines"][0]
    machine["parameters"][HOSTILE] = {
        **machine["parameters"].pop("temperature"),
        "incidents": [{"start": HOSTILE, "end": None, "why": HOSTILE}],
    }
    machine["parameters"][HOSTILE]["anomalies"][0]["timestamp"] = HOSTILE
    series = [{HOSTILE: series[0]["temperature"]}]
    alarm = {"at": HOSTILE, "alarm": HOSTILE, "state": HOSTILE, "parameter": HOSTILE, "value": 1, "limit": 1}
    machine["alarms"] = [alarm, {**alarm, "parameter": None, "value": HOSTILE, "limit": None}]
    html = report_page(report, series, {HOSTILE: HOSTILE})
    page = Page(html)
    assert not {"link", "img", "iframe", "object", "form"} & {tag for tag, _ in page.elements}
    assert page.count("script") == 1
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on") or a in ("src", "style")]
    assert all(re.match(r"#m\d+$|\.\./machines/day\?[\w=&%.+-]+$", a["href"]) for tag, a in page.elements if tag == "a")
    assert "http" not in html.decode().replace("http-equiv", "")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", html.decode())
    assert "<script>alert(1)</script>" in page.text


def test_the_policy_names_the_pages_own_style_and_script_and_nothing_else():
    """The page's policy allows its style and its script by hash, and nothing else."""
    html = report_page(*report_of([1.0]))
    style, script = (
        b64encode(sha256(re.search(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL)[1]).digest()).decode()
        for tag in (b"style", b"script")
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html.decode())[1]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
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
    assert re.search(r'<details class="machine panel" open>(?:(?!<details).)*<div id="m700">', html.decode(), re.DOTALL)
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


def test_the_charts_of_the_console_have_the_average_of_the_last_readings():
    """Each parameter has a chart labelled with the number of its values, missing ones aside, and their average."""
    columns = {"times": [1e9, 1e9 + 10, 1e9 + 20], "values": {"speed": [1.0, nan, 2.0], "temperature": [nan] * 3}}
    charts = machine_charts({**columns, "limits": {}, "interval": 10, "threshold": 0.2, "timezone": "Europe/Berlin"})
    assert list(charts) == ["speed"]
    assert 'aria-label="speed: 2 readings, average 1.5"' in charts["speed"]


def test_the_limits_of_alarms_are_drawn_where_they_fall_into_the_chart():
    """A limit among the readings is a line; others are named below, and the readings alone make the scale."""
    columns = {"times": [1e9, 1e9 + 10], "values": {"speed": [1.0, 2.0], "temperature": [1.0, 2.0]},
               "limits": {"speed": [1.5, 8.0, -1.0, 1e308]}, "interval": 10, "threshold": 0.2,
               "timezone": "UTC", "units": {"speed": "rpm"}}  # fmt: skip
    charts = machine_charts(columns)
    assert re.findall(r'class="limit" d="M0 (-?[0-9]+)H', charts["speed"]) == [str(HEIGHT // 2)]
    words = "limits 8 rpm and 1e+308 rpm are above this chart; limit -1 rpm is below this chart"
    assert f'<p class="beyond">{words}</p>' in charts["speed"].replace("\xa0", " ")
    assert "speed: 2 readings, average 1.5\xa0rpm, limits of alarms 1.5\xa0rpm, 8\xa0rpm, " in charts["speed"]
    assert "limit" not in charts["temperature"]


def figures_of(html):
    """The average, maximum, minimum and number of anomalies in each row of the table."""
    cells = re.findall(r'<td class="value[^>]*>(?:<a[^>]*>)?([^<]*)', html.decode())
    return [tuple(cells[n : n + 4]) for n in range(0, len(cells), 4)]


def test_numbers_of_a_page_have_the_digits_of_the_readings_and_their_unit():
    """Whole numbers stay whole, an average has one decimal more; units are in the table, captions and deviations."""
    report, series = report_of([800.0] * 98 + [1200.0, 801.0])
    report["machines"][0]["alarms"] = [{"at": "2026-11-22T01:00:00Z", "alarm": "fast", "state": "raised",
                                        "parameter": "temperature", "value": 1000.4444, "limit": 1e3}]  # fmt: skip
    html = report_page(report, series, {"temperature": "rpm"})
    text = Page(html).text.replace("\xa0", " ")
    assert figures_of(html) == [("804.0", "1,200", "800", "1")]
    assert "temperature (rpm) average 804.0 rpm, 1 anomaly" in text
    assert "1,200 rpm396.0 rpm" in text
    assert "temperature 1,000.4 rpm, limit 1,000 rpm" in text


def test_extremes_that_end_in_0_have_the_digits_of_the_other_machines():
    """Of most machines the report has only extremes: each is shown with at least the digits that most of them have."""
    report, series = report_of([20.5, 21.5], machines=5)
    report["machines"][4]["parameters"] = {"temperature": analyze_values([("a", 20.0), ("b", 21.0)])}
    assert figures_of(report_page(report, series))[-1] == ("20.50", "21.0", "20.0", "0")


def test_beyond_a_thousand_anomalies_none_is_listed():
    """A parameter with 1,001 anomalies has their number beside that of the readings, and lists none."""
    few, many = (report_page(*report_of([0.0, 100.0] * half + [50.0] * 999)) for half in (500, 501))
    assert "1,000 anomalies in temperature" in Page(few).text
    assert "Largest deviations" in Page(few).text
    page = Page(many)
    assert "1,002 of 2,001 readings are anomalies in temperature" in page.text
    assert "Largest deviations" not in page.text


def test_the_page_links_each_time_to_the_day_of_its_machine():
    """Rows, incidents, alarms and largest deviations link to the machine's day, those with a time to that time."""
    report, series = report_of([50.0] * 99 + [100.0], source="hall 2", id="a&b")
    report["machines"][0]["id"] = "a&b"
    machine = report["machines"][0]
    machine["incidents"] = [{"start": "2026-11-22T01:00:00Z", "end": "2026-11-22T02:00:00Z", "why": "silent"}]
    machine["alarms"] = [{"at": "2026-11-22T03:00:00Z", "alarm": "fault", "state": "raised", "parameter": None,
                          "value": "ERROR", "limit": None}]  # fmt: skip
    page = Page(report_page(report, series))
    day = "../machines/day?source=hall%202&id=%22a%26b%22&date=2026-11-22"
    links = [a["href"] for tag, a in page.elements if tag == "a" and a.get("class", "").startswith("served")]
    hour = 3600
    times = [midnight("2026-11-22") + seconds for seconds in (2 * hour, 990, 4 * hour)]
    assert links == [day, *(f"{day}#at={time:.0f}" for time in times), day]


def test_the_alarms_of_all_machines_are_one_table_in_order_of_time():
    """Changes of alarms of all machines are rows in their order; those beyond a number are folded away."""
    report, series = report_of([50.0] * 100, machines=20)
    for n, machine in enumerate(report["machines"]):
        changes = [("ended", 20 + n), ("raised", n)]
        machine["alarms"] = [{"at": f"2026-11-22T00:{minute:02}:00Z", "alarm": f"hot {n}", "state": state,
                              "parameter": "temperature", "value": 50.0, "limit": 40.0}
                             for state, minute in changes]  # fmt: skip
    report["machines"][0]["alarms"][1]["continued"] = True
    page = Page(report_page(report, series))
    names = re.findall(r"hot (\d+) (still raised|raised|ended)", page.text)
    assert names[:2] == [("0", "still raised"), ("1", "raised")]
    assert names[20:22] == [("0", "ended"), ("1", "ended")]
    assert "20 more changes of alarms" in page.text


def test_the_header_has_a_place_for_links():
    """The API replaces the comment in the header of a page that it serves."""
    assert report_page(*report_of([1.0])).count(b"<header>\n  <!-- links -->\n") == 1


def test_pages_need_neither_flask_nor_numpy():
    """The report's process does not load the web server, and the polling process draws its charts without numpy."""
    script = "import sys, etl.pages.report; sys.exit(bool({'flask', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
