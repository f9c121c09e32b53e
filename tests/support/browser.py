"""Helpers of the tests in a real browser."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from etl.pages.report import report_page
from tests.support.process import until
from tests.support.reports import report_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test]'")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: apt-get install chromium")

TIMEOUT_MS = 60_000
"""Only stops a test that hangs."""
playwright.expect.set_options(timeout=TIMEOUT_MS)
expect = playwright.expect
PHONE = {"width": 390, "height": 844}


def row(page, name):
    """The row of a machine in the console's table."""
    return page.locator("#machines tbody tr").filter(has=page.get_by_role("button", name=name, exact=True))


def put(site, temperature):
    """Let the file of the source `press` have this temperature."""
    aside = site.root / "aside.json"
    aside.write_text(json.dumps({"id": "hall 2", "temperature": temperature, "fan_speed": 300, "status": "STARTED"}))
    aside.replace(site.reading)


def visit(page, site):
    """Open the console once a reading is there."""
    until((site.root / "output" / "averages.jsonl").exists, 60)
    page.goto(f"http://127.0.0.1:{site.port}/")


def open_report(page, folder):
    """Open the page of a report of three machines, with an anomaly and a gap, as a file."""
    values = [50.0 + n % 3 for n in range(8640)]
    values[4000] = 99.0
    values[5000:5200] = [float("nan")] * 200
    file = folder / "2026-11-22.html"
    file.write_bytes(report_page(*report_of(values, machines=3)))
    page.goto(file.as_uri())


def readouts(page):
    """The texts that the charts show, with the no-break spaces as spaces."""
    return [" | ".join(readout.locator("span").all_text_contents()).replace("\xa0", " ")
            for readout in page.locator(".readout").all()]  # fmt: skip


def forgive(page, *texts):
    """Forget the errors of a page that the test causes."""
    page.errors[:] = [error for error in page.errors if not re.search("|".join(texts), error)]
