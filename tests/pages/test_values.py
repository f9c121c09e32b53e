"""The values of charts at the pointer and by keyboard, in a real browser, and pages without scripts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.app import create_app
from api.console import Views
from api.machines import Machines
from api.server import serve
from etl.pages.charts import Marks, chart, time_axis
from etl.pages.console import shared_script, shared_styles
from etl.pages.report import report_page
from tests.support.browser import PHONE, expect, needs_chromium, readouts
from tests.support.reports import BERLIN, midnight, report_of

pytestmark = needs_chromium

DAY = "2026-11-22"
START = midnight(DAY)
OLD_PAGE = Path(__file__).parents[1] / "fixtures" / "v0.2" / "2026-11-22.html"
"""A page that version 0.2 wrote."""
UNITS = {"temperature": "°C"}


@pytest.fixture
def charts_page(tmp_path):
    """The address of a page with two charts of an hour: a reading each minute but for a gap, and their averages."""
    axis = time_axis(START, START + 3600, BERLIN, 60.0)
    segments = [[(START + 60 * n, 20 + n / 10) for n in part] for part in (range(20), range(40, 60))]
    averages = [[(time, value - 0.05) for time, value in segment] for segment in segments]
    drawn = chart(segments, axis, None, "temperature", Marks(averages=averages), "°C")
    file = tmp_path / "charts.html"
    file.write_text(
        f"<!DOCTYPE html><meta charset=utf-8><style>{shared_styles().decode()}</style><main>{drawn}{drawn}</main>"
        f"<script>{shared_script().decode()}</script>"
    )
    return file.as_uri()


def expect_readouts(page, *texts):
    expect(page.locator(".readout")).to_have_count(len(texts))
    assert readouts(page) == list(texts)


def point_at(page, share, nth=0):
    """Move the pointer to a share of the width of a chart's plot."""
    box = page.locator(".plot > svg").nth(nth).bounding_box()
    page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


def test_the_values_at_the_pointer_are_shown(page, charts_page):
    """Time, reading and moving average where the pointer is; in a gap that there is none; nothing where it left."""
    page.goto(charts_page)
    point_at(page, 10 / 60)
    expect_readouts(page, "00:10:00 | 21.0 °C | moving average 20.95 °C")
    point_at(page, 30 / 60)
    expect_readouts(page, "00:30:00 | no readings")
    point_at(page, 45 / 60, 1)
    expect_readouts(page, "00:45:00 | 24.5 °C | moving average 24.45 °C")
    page.mouse.move(1, 700)
    expect_readouts(page)


def test_an_average_of_another_time_names_it(page, tmp_path):
    """Traces that were thinned have values at different times: that of the average is named where it differs."""
    axis = time_axis(START, START + 3600, BERLIN, 60.0)
    averages = [[(START + 300, 20.25), (START + 1200, 21.75)]]
    drawn = chart([[(START + 600 * n, 20.0 + n) for n in range(3)]], axis, None, "speed", Marks(averages=averages))
    file = tmp_path / "charts.html"
    file.write_text(f"<!DOCTYPE html><main>{drawn}</main><script>{shared_script().decode()}</script>")
    page.goto(file.as_uri())
    page.keyboard.press("Tab")
    expect_readouts(page, "00:20:00 | 22 | moving average 21.8")
    page.keyboard.press("ArrowLeft")
    expect_readouts(page, "00:10:00 | 21 | moving average 20.2 at 00:05:00")


def test_a_chart_is_read_by_keyboard(page, charts_page):
    """A chart has the focus by Tab; keys move from reading to reading, screen readers get the text; Escape hides it."""
    page.goto(charts_page)
    page.keyboard.press("Tab")
    slider = page.get_by_role("slider", name="temperature").first
    expect(slider).to_be_focused()
    expected = {
        "ArrowLeft": "00:58:00 | 25.8 °C | moving average 25.75 °C",
        "Home": "00:00:00 | 20.0 °C | moving average 19.95 °C",
        "ArrowRight": "00:01:00 | 20.1 °C | moving average 20.05 °C",
        "PageUp": "00:03:00 | 20.3 °C | moving average 20.25 °C",
        "End": "00:59:00 | 25.9 °C | moving average 25.85 °C",
    }
    for key, text in expected.items():
        page.keyboard.press(key)
        expect_readouts(page, text)
        assert slider.get_attribute("aria-valuetext").replace("\xa0", " ") == text.replace(" | ", ", ")
    assert slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax") == "39"
    page.keyboard.press("Escape")
    expect_readouts(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    expect_readouts(page, "00:59:00 | 25.9 °C | moving average 25.85 °C")  # of the second chart
    expect(page.get_by_role("slider").nth(1)).to_be_focused()


def test_an_address_with_a_time_shows_the_values_at_that_time(page, charts_page):
    """With #at= each chart shows that time, also after the pointer left it, and another when the address changes."""
    page.goto(f"{charts_page}#at={START + 605:.0f}")
    text = "00:10:00 | 21.0 °C | moving average 20.95 °C"
    expect_readouts(page, text, text)
    point_at(page, 45 / 60)
    expect_readouts(page, "00:45:00 | 24.5 °C | moving average 24.45 °C", text)
    page.mouse.move(1, 700)
    expect_readouts(page, text, text)
    page.evaluate(f"location.hash = 'at={START + 3000:.0f}'")
    expect(page.locator(".readout").first).to_contain_text("00:50:00")
    page.evaluate("location.hash = 'at=7'")
    expect_readouts(page)


def test_a_chart_that_replaces_the_focused_one_keeps_focus_and_time(page, charts_page):
    """The console draws its charts anew with each reading; who reads one by keyboard stays where they are."""
    page.goto(charts_page)
    html = page.evaluate("document.querySelector('main').innerHTML.replace(/ (tabindex|role|aria-value)[^ >]*/g, '')")
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    page.evaluate("html => document.querySelector('main').replaceChildren(...new DOMParser()"
                  ".parseFromString(html, 'text/html').body.children)", html)  # fmt: skip
    expect_readouts(page, "00:00:00 | 20.0 °C | moving average 19.95 °C")
    expect(page.get_by_role("slider").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect_readouts(page, "00:01:00 | 20.1 °C | moving average 20.05 °C")


def test_a_finger_shows_values(browser, charts_page):
    """A touch shows the values and leaves them there; a touch elsewhere hides them."""
    context = browser.new_context(has_touch=True, viewport=PHONE)
    tab = context.new_page()
    tab.goto(charts_page)
    box = tab.locator(".plot > svg").first.bounding_box()
    tab.touchscreen.tap(box["x"] + box["width"] / 6, box["y"] + 20)
    expect_readouts(tab, "00:10:00 | 21.0 °C | moving average 20.95 °C")
    tab.touchscreen.tap(5, 800)
    expect_readouts(tab)
    context.close()


def served(page_bytes):
    """The address of an API that serves these bytes as the page of a report."""
    empty = Views(*[list] * len(Views._fields))
    app = create_app(Machines(1), empty._replace(report_page=lambda _: page_bytes, reports=lambda: [DAY]))
    return f"http://127.0.0.1:{serve(app, '127.0.0.1', 0)}/reports/{DAY}"


def day_report():
    """A report with an anomaly, an incident and an alarm."""
    values = [1234.5 + n % 3 for n in range(8640)]
    values[4000] = 4321.0
    report, series = report_of(values, machines=3)
    machine = report["machines"][0]
    machine["parameters"]["temperature"]["incidents"] = [
        {"start": f"{DAY}T10:00:00Z", "end": f"{DAY}T10:05:00Z", "why": "1,236.5 is outside 1,234.5 to 1,235.5"}
    ]
    machine["alarms"] = [{"at": f"{DAY}T10:00:00Z", "alarm": "hot", "state": "raised", "parameter": "temperature",
                          "value": 4321.04, "limit": 4000.0}]  # fmt: skip
    return report_page(report, series, UNITS)


def test_a_served_report_links_to_the_days_of_its_machines(page):
    """Served, the script of the page runs under both policies; opened as a file, its links are plain text."""
    page.goto(served(day_report()))
    page.get_by_role("slider").first.focus()
    page.keyboard.press("End")
    expect(page.locator(".readout").first).to_contain_text("23:59:50")
    links = page.locator("a[href*='machines/day']")
    assert links.count() == 3 * 4 + 1
    assert page.evaluate("document.querySelector('a.served').href").endswith(
        f"/machines/day?source=machine-1&id=0&date={DAY}"
    )


def test_a_report_from_the_file_system_has_no_dead_links(page, tmp_path):
    """Opened as a file, links into the API are text; the values of its charts work."""
    file = tmp_path / f"{DAY}.html"
    file.write_bytes(day_report())
    page.goto(file.as_uri())
    assert page.locator("a[href*='machines/day']").count() == 0
    expect(page.get_by_role("cell", name="machine-1 id 0, press")).to_be_visible()
    point_at(page, 0.5)
    expect(page.locator(".readout")).to_contain_text("°C")


def test_a_page_of_an_earlier_version_is_served(page):
    """A page without a script, whose policy allows none, is shown as it is and reports no error."""
    page.goto(served(OLD_PAGE.read_bytes()))
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Report of"))


def test_without_scripts_everything_is_readable(browser, tmp_path):
    """With scripts off a report has its charts as pictures with a label, and the words on what lies outside of them."""
    file = tmp_path / f"{DAY}.html"
    file.write_bytes(day_report())
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    expect(tab.get_by_role("img", name="temperature of machine-1 over the day: average").first).to_be_visible()
    expect(tab.locator(".beyond").first).to_contain_text("the band is")
    tab.get_by_text("Largest deviations").first.click()
    expect(tab.get_by_text("4,321.0\xa0°C").first).to_be_visible()
    context.close()


BROKEN_NUMBERS = """() => {
  const broken = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    for (const match of node.data.matchAll(/-?[0-9][0-9.,:]*(\\u00a0[^ ,;]+)?/g)) {
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      if (new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1) broken.push(match[0]);
    }
  }
  return broken;
}"""


def test_no_number_is_broken_on_a_phone(page, tmp_path):
    """At 390 pixels no line ends within a number, nor between a number and its unit."""
    page.set_viewport_size(PHONE)
    file = tmp_path / f"{DAY}.html"
    file.write_bytes(day_report())
    page.goto(file.as_uri())
    page.evaluate("for (const node of document.querySelectorAll('details')) node.open = true")
    assert page.evaluate(BROKEN_NUMBERS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_while_values_are_shown(page, tmp_path, axe, scheme):
    """A focused chart, its text and the tables of a report with alarms are accessible."""
    page.emulate_media(color_scheme=scheme)
    file = tmp_path / f"{DAY}.html"
    file.write_bytes(day_report())
    page.goto(file.as_uri())
    page.get_by_role("slider").first.focus()
    expect(page.locator(".readout")).to_be_visible()
    page.evaluate(axe)
    violations = page.evaluate("axe.run()")["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in violations] == []
