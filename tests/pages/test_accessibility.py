"""Every page on a phone, in the dark and with a screen reader."""

from __future__ import annotations

import pytest

from tests.support.browser import PHONE, expect, needs_chromium, open_report
from tests.support.fleet import EVENTS, application, troubled

pytestmark = needs_chromium


VIEWS = ["console", "machine", "report"]


def show(page, view, folder):
    """Open one of the pages, with everything that it can show."""
    if view == "report":
        open_report(page, folder)
        return
    page.goto(application(troubled(20), EVENTS))
    expect(page.locator("#machines tbody tr")).to_have_count(21)
    expect(page.locator("#incidents li")).not_to_have_count(0)
    if view == "machine":
        page.get_by_role("button", name="machine-7", exact=True).click()
        expect(page.locator("#charts .chart")).to_have_count(2)


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_is_wider_than_a_phone(page, tmp_path, view):
    """At a width of 390 pixels no page scrolls horizontally."""
    page.set_viewport_size(PHONE)
    show(page, view, tmp_path)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_no_violation(page, tmp_path, axe, view, scheme):
    """Contrast, labels, roles and structure of each page are accessible, in light and dark, wide and narrow."""
    page.emulate_media(color_scheme=scheme)
    show(page, view, tmp_path)
    page.evaluate(axe)
    for width in (1280, PHONE["width"]):
        page.set_viewport_size({"width": width, "height": 900})
        violations = page.evaluate("axe.run()")["violations"]
        assert [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in violations] == []
