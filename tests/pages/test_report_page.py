"""The page of a report in a real browser."""

from __future__ import annotations

from tests.support.browser import needs_chromium, open_report

pytestmark = needs_chromium


def test_the_report_page_shows_its_chart_from_the_file_system(page, tmp_path):
    """Opened as a file, the chart has a trace that breaks at the gap, a band, an anomaly, and its style."""
    open_report(page, tmp_path)
    chart = page.get_by_role("slider", name="temperature of machine-1 over the day").first
    box = chart.bounding_box()
    assert (box["width"] > 500, 150 < box["height"] < 300) == (True, True)
    trace, band, outside = (chart.locator(f".{name}") for name in ("trace", "band", "outside"))
    assert trace.get_attribute("d").count("M") == 2
    assert trace.bounding_box()["width"] > 0.9 * box["width"] - 60
    assert band.bounding_box()["height"] > 20
    assert outside.get_attribute("d").count("h0") == 1
    assert trace.evaluate("e => getComputedStyle(e).stroke") == "rgb(27, 94, 148)"
    page.emulate_media(color_scheme="dark")
    assert trace.evaluate("e => getComputedStyle(e).stroke") == "rgb(134, 186, 235)"
    assert page.locator("details[open]").count() == 3
