"""The page of the day so far in a real browser."""

from __future__ import annotations

import json
import time

import pytest

from etl.readings.times import rfc3339
from tests.support.browser import PHONE, expect, needs_chromium, readouts
from tests.support.process import Site, end, not_refused, until

pytestmark = needs_chromium

INTERVAL_S = 10
HOURS = 4


@pytest.fixture
def noon(tmp_path):
    """A site in a zone in which it is noon; its recording has a press that was too hot from an hour ago on."""
    now = time.time() // INTERVAL_S * INTERVAL_S
    ahead = 12 - time.gmtime(now).tm_hour
    site = Site(tmp_path)
    site.now = now
    with (tmp_path / "recorded.jsonl").open("w") as file:
        for n in range(HOURS * 3600 // INTERVAL_S):
            at = now - HOURS * 3600 + INTERVAL_S * n
            is_fault = 3000 < now - at <= 3600
            reading = {"id": 7, "temperature": 65 + n * 7 % 13 / 10 + 14 * is_fault, "fan_speed": 800 + n % 9}
            file.write(json.dumps({**reading, "_source": "press", "_polled_at": rfc3339(at)}) + "\n")
    site.save(
        interval=f"{INTERVAL_S}s",
        timezone=f"Etc/GMT{-ahead:+d}" if ahead else "UTC",
        sources=[{"name": "press", "file": "missing.json"}],
        units={"temperature": "°C"},
        alarms=[{"name": "hot", "parameter": "temperature", "above": 75}],
        report={"detectors": ["telemetry"]},
        output={"stdout": []},
    )
    assert site.etl("replay", "recorded.jsonl").returncode == 0
    return site


def test_a_fault_of_an_hour_ago_is_on_the_page_of_today(page, noon):
    """From the console the page of today shows the fault, and leads to its readings; no request leaves this machine."""
    with noon.running() as process:
        until(lambda: not_refused(noon))
        page.goto(f"http://127.0.0.1:{noon.port}/")
        page.get_by_role("link", name="Today so far").click()
        expect(page.get_by_text("1 incident (press temperature)").first).to_be_visible()
        expect(page.locator("table.alarms tr", has_text="hot raised")).to_have_count(1)
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.locator("table.alarms tr", has_text="hot raised").get_by_role("link").click()
        expect(page.locator(".readout")).to_have_count(2)
        # Of each five minutes a chart has the lowest and the highest reading: the fault is there, or a step on.
        temperatures = [shown_temperature(page)]
        page.locator(".chart").first.focus()
        for _ in range(2):
            page.keyboard.press("ArrowRight")
            temperatures.append(shown_temperature(page))
        assert max(temperatures) > 75
        page.goto("about:blank")
        end(process)


def shown_temperature(page):
    return float(readouts(page)[0].split(" | ")[1].removesuffix(" °C"))
