"""The page of a machine and day in a real browser, from a report, by its address, and from the day before."""

from __future__ import annotations

import re

import pytest

from etl.readings.lines import raw_line
from tests.support.browser import PHONE, expect, needs_chromium, readouts
from tests.support.process import Site, not_refused, until
from tests.support.reports import HOSTILE

pytestmark = needs_chromium

DAYS = {"2026-01-05": 1_767_571_200.0, "2026-01-06": 1_767_657_600.0}
"""Two days that are long over, and when they begin in UTC (seconds since the epoch)."""
PRESS = "/machines/day?source=press%201&id=%227%22"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a process with the reports of two days of a press, an anomaly in each, and a hostile machine."""
    site = Site(tmp_path_factory.mktemp("site"))
    for day, start in DAYS.items():
        path = site.root / "output" / "raw" / f"{day}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [raw_line({"id": "7", "temperature": 20.1 + n % 5 / 10 + 9 * (n == 240), "fan_speed": 900}, "press 1",
                          start + 60 * n) for n in range(480)]  # fmt: skip
        hostile = [raw_line({"id": HOSTILE, "temperature": n, "fan_speed": 900, "name": HOSTILE}, HOSTILE, start + n)
                   for n in range(99)]  # fmt: skip
        path.write_bytes(b"".join(lines + hostile))
    site.save(interval="1m", timezone="UTC", units={"temperature": "°C"}, output={"stdout": []})
    with site.running():
        until(lambda: not_refused(site) and len(site.ask("/reports")) == 2)
        yield f"http://127.0.0.1:{site.port}"


def test_the_report_leads_to_the_machine_at_the_time_of_an_anomaly(page, served):
    """From the largest deviation of a report a click leads to the machine's page, which shows that moment's value."""
    page.goto(f"{served}/reports/2026-01-05")
    page.get_by_text("Largest deviations").first.click()
    page.locator(".largest a", has_text="04:00:00").click()
    expect(page).to_have_url(re.compile(r"/machines/day\?source=press%201&id=%227%22&date=2026-01-05#at=1767585600$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("press 1 id 7")
    expect(page.locator(".readout")).to_have_count(2)
    assert re.fullmatch(r"04:00:00 \| 29.1 °C \| moving average 22.1\d? °C", readouts(page)[0])


def test_a_fresh_browser_opens_the_address_of_a_machine(page, served):
    """The address alone shows every parameter; the keyboard reads values; the days beside it are a click away."""
    page.goto(f"{served}{PRESS}&date=2026-01-06")
    charts = page.locator(".chart")
    expect(charts).to_have_count(2)
    charts.first.focus()
    page.keyboard.press("Home")
    (first,) = readouts(page)
    assert first.startswith("00:00:00 | 20.1 °C | moving average 20.1")
    page.keyboard.press("ArrowRight")
    assert readouts(page) != [first]
    page.locator("nav [rel=prev]").click()
    expect(page.locator(".sentence")).to_contain_text("Monday, 5 January 2026: 480 of 1,440")
    page.locator("nav [rel=next]").click()
    expect(page.locator(".sentence")).to_contain_text("Tuesday, 6 January 2026")
    page.get_by_role("link", name="Report of the day").click()
    expect(page).to_have_url(f"{served}/reports/2026-01-06")
    page.locator("nav [rel=prev]").click()
    expect(page).to_have_url(f"{served}/reports/2026-01-05")
    page.get_by_role("link", name="Console").click()
    expect(page).to_have_title(re.compile("."))
    assert page.url == f"{served}/"


def test_a_hostile_machine_has_a_page_that_fits_a_phone(page, served):
    """Whatever a machine calls itself is text on its page, and nothing is wider than a phone."""
    page.set_viewport_size(PHONE)
    page.goto(f"{served}/reports/2026-01-05")
    page.locator("a.served", has_text="alert(1)").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>alert(1)</script>")
    expect(page.locator(".chart")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for path in (PRESS, "/reports/2026-01-06"):
        page.goto(f"{served}{path}{'&date=2026-01-06' if '?' in path else ''}")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_machine_is_accessible(page, served, axe, scheme):
    """axe-core finds nothing, in light and in dark mode."""
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{served}{PRESS}&date=2026-01-06")
    found = page.evaluate(f"{axe}; axe.run().then(result => result.violations.map(each => each.id))")
    assert found == []
