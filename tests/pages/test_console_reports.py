"""The lists of reports and incidents on the console, in a real browser."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from tests.support.api import made
from tests.support.browser import expect, forgive, needs_chromium
from tests.support.fleet import BUSY, application, fleet, report_list
from tests.support.reports import HOSTILE

pytestmark = needs_chromium


def test_the_reports_are_listed_with_what_they_found(page):
    """Each day has incidents, anomalies and completeness beside it, the newest first; more days appear on request."""
    page.goto(application(fleet(3), summaries=lambda: made(orjson.dumps(report_list(9)))))
    rows = page.locator("#reports tbody tr")
    expect(rows).to_have_count(7)
    expect(rows.nth(0)).to_have_text("2026-11-280099.5 %")
    expect(rows.nth(2)).to_have_text("2026-11-2621 lasting2,46899.5 %")
    expect(rows.nth(2).get_by_role("link")).to_have_attribute("href", "reports/2026-11-26")
    expect(page.locator("#reports thead")).to_have_text("DayIncidentsAnomaliesComplete")
    page.get_by_role("button", name="Show 2 earlier days").focus()
    page.keyboard.press("Enter")
    expect(rows).to_have_count(9)
    expect(rows.nth(7).get_by_role("link")).to_be_focused()
    expect(rows.nth(8)).to_have_text("2026-11-20")
    expect(page.get_by_role("link", name="Today so far")).to_have_attribute("href", "reports/today")


def test_incidents_lead_to_the_day_of_their_machine(page):
    """The incidents of the last seven days are one list; each is a link to its machine's day at its time."""
    page.goto(application(fleet(3)))
    items = page.locator("#incidents li")
    expect(items).to_have_count(5)
    text = "2026-11-27 03:12:00machine-2, id 1 temperature: 81.2 to 93.4, expected 44.1 to 46.8"
    expect(items.nth(0)).to_have_text(text)
    expect(items.nth(1)).to_contain_text(": no reading for 28 min (lasting)")
    expect(page.locator("#more-incidents")).to_be_hidden()
    page.get_by_role("button", name="Show 19 more incidents").click()
    expect(items).to_have_count(24)
    expect(page.locator("#more-incidents")).to_have_text("7 older incidents in the reports.")
    address = urlsplit(items.nth(1).get_by_role("link").get_attribute("href"))
    hostile = HOSTILE.replace("\x00", "")
    assert (address.path, address.fragment) == ("machines/day", "at=1795745520")
    assert parse_qs(address.query) == {"source": [hostile], "id": ['"x"'], "date": ["2026-11-27"]}
    items.nth(0).get_by_role("link").click()
    expect(page).to_have_title("a page")


def test_the_dates_show_while_the_figures_are_not_there(page):
    """Where the process is too busy to read the reports, their dates are listed, and the figures follow."""
    answers = [BUSY, BUSY]
    summaries = made(orjson.dumps(report_list(9)))
    page.goto(application(fleet(3), summaries=lambda: answers.pop() if answers else summaries))
    rows = page.locator("#reports tbody tr")
    expect(rows.first).to_have_text("2026-10-30")
    expect(page.locator("#incidents-section")).to_be_hidden()
    expect(rows.first).to_have_text("2026-11-280099.5 %")
    expect(page.locator("#incidents-section")).to_be_visible()
    forgive(page, "503")


def test_a_process_without_reports_says_so(page):
    """Without a report the page says when one is written, and links to today's."""
    nothing = b'{"reports":[],"incidents":[],"more":0}'
    page.goto(application(fleet(3), reports=list, summaries=lambda: made(nothing)))
    expect(page.locator("#no-reports")).to_be_visible()
    expect(page.locator("#reports")).to_be_hidden()
    expect(page.locator("#no-incidents")).to_have_text("The reports have none.")
    expect(page.get_by_role("link", name="Today so far")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
def test_large_counts_fit(page, width):
    """The counts of a fleet whose every value is an anomaly fit beside the date, at any width."""
    counts = {
        "incidents": 10_000,
        "lasting": 1000,
        "anomalies": 17_280_000,
        "readings": 8_639_999,
        "expected": 8_640_000,
    }
    summaries = report_list(9) | {"reports": [{"date": "2026-11-28", **counts}]}
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(application(fleet(3), summaries=lambda: made(orjson.dumps(summaries))))
    expect(page.locator("#reports tbody")).to_have_text("2026-11-2810,0001,000 lasting17,280,00099.9 %")
    assert page.locator("#reports-panel").evaluate("e => e.scrollWidth <= e.clientWidth")
