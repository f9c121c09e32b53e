"""The console and the report page in a real browser. No request may leave this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from urllib.parse import urlsplit

import orjson
import pytest
from flask import abort, request

from api.app import create_app
from api.console import Views
from api.machines import Machines
from api.server import serve
from etl.pages.console import machine_charts, shared_styles
from etl.pages.report import report_page
from tests.support.process import Site, end, free_port, not_refused, until
from tests.support.reports import HOSTILE, report_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test]'")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: apt-get install chromium")

TIMEOUT_MS = 60_000
"""Only stops a test that hangs."""
playwright.expect.set_options(timeout=TIMEOUT_MS)
LOCAL = ("127.0.0.1", "localhost", "")
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as api:
        # Chromium's sandbox refuses to run as root, as in a container.
        chromium = api.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.getuid() != 0)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    """A tab that fails the test if the page requests anything of another machine, or has an error."""
    context = browser.new_context(timezone_id="America/New_York")
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT_MS)
    errors = []
    context.on("request", lambda r: errors.append(r.url) if urlsplit(r.url).hostname not in (*LOCAL, None) else None)
    tab.on("pageerror", lambda error: errors.append(error.message))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.errors = errors
    yield tab
    context.close()
    assert errors == []


def row(page, name):
    return page.locator("#machines tbody tr").filter(has=page.get_by_role("button", name=name, exact=True))


# The real process


@pytest.fixture
def site(tmp_path):
    """A running process that polls its own simulated machine and a file every second."""
    site = Site(tmp_path)
    site.reading = tmp_path / "press.json"
    put(site, 20.5)
    simulated = {"name": "machine-1", "url": f"http://127.0.0.1:{site.port}/data"}
    site.save(interval="1s", sources=[simulated, {"name": "press", "file": "press.json"}], output={"stdout": []})
    with site.running():
        yield site


def put(site, temperature):
    aside = site.root / "aside.json"
    aside.write_text(json.dumps({"id": "hall 2", "temperature": temperature, "fan_speed": 300, "status": "STARTED"}))
    aside.replace(site.reading)


def visit(page, site):
    until((site.root / "output" / "averages.jsonl").exists, 60)
    page.goto(f"http://127.0.0.1:{site.port}/")


def test_the_console_shows_new_readings(page, site):
    """Each new value appears on the page without a reload."""
    visit(page, site)
    value = row(page, "press").locator(".reading b").first
    playwright.expect(value).to_have_text("20.50")
    for temperature in (31.25, 42.75):
        put(site, temperature)
        playwright.expect(value).to_have_text(re.compile(rf"^{temperature:.2f}"))


def test_a_status_set_on_the_console_is_shown(page, site):
    """The buttons of a simulated machine set its status, by mouse and by keyboard; other machines have no buttons."""
    visit(page, site)
    page.get_by_role("button", name="machine-1").click()
    page.get_by_role("button", name="COMPLETED").click()
    playwright.expect(page.locator("#machine-state")).to_have_text("COMPLETED")
    page.get_by_role("button", name="ERROR").focus()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#machine-state")).to_have_text("ERROR")
    playwright.expect(page.locator("#charts .chart")).to_have_count(2)
    page.keyboard.press("Escape")
    playwright.expect(row(page, "machine-1").locator(".state")).to_have_text("ERROR")
    playwright.expect(page.locator("#machines tbody tr").first).to_contain_text("machine-1")
    page.get_by_role("button", name="press").click()
    playwright.expect(page.locator("#charts .chart")).to_have_count(2)
    playwright.expect(page.locator("#status-form")).to_be_hidden()


def test_a_source_that_goes_down_is_shown_with_its_reason(page, site):
    """A source that fails comes first, as down, with the time and the reason, until it answers again."""
    visit(page, site)
    playwright.expect(row(page, "press").locator(".state")).to_have_text("STARTED")
    site.reading.unlink()
    state = row(page, "press").locator(".state")
    playwright.expect(state).to_contain_text("DOWN since ")
    playwright.expect(page.locator("#machines tbody tr").first).to_contain_text("press")
    playwright.expect(page.locator("#summary")).to_contain_text("1 down")
    playwright.expect(page.locator("#announcement")).to_have_text("1 machine down")
    playwright.expect(page.locator("#events")).to_contain_text("press is down")
    assert len(state.text_content()) > len("DOWN since 10:00:00: ")
    put(site, 22.0)
    playwright.expect(state).to_have_text("STARTED")


def test_a_raised_alarm_is_shown_first(page, tmp_path):
    """A machine with an alarm comes first, marked, with what holds and since when; the limit is in its chart."""
    site = Site(tmp_path)
    site.reading = tmp_path / "press.json"
    put(site, 20.5)
    simulated = {"name": "a-machine", "url": f"http://127.0.0.1:{site.port}/data"}
    hot = {"name": "hot", "parameter": "temperature", "above": 80, "deadband": 2, "sources": "press"}
    sources = [simulated, {"name": "press", "file": "press.json"}]
    site.save(interval="1s", window=1, sources=sources, alarms=[hot], output={"stdout": []})
    with site.running():
        visit(page, site)
        playwright.expect(page.locator("#machines tbody tr")).to_have_count(2)
        playwright.expect(row(page, "press").locator(".state")).to_have_text("STARTED")
        put(site, 81.5)
        first, state = page.locator("#machines tbody tr").first, row(page, "press").locator(".state")
        playwright.expect(state).to_contain_text("ALARM hot: temperature above 80 since ")
        playwright.expect(state).to_contain_text("; STARTED")
        playwright.expect(first).to_contain_text("press")
        playwright.expect(first).to_have_class("alarm")
        playwright.expect(page.locator("#summary")).to_contain_text("1 with an alarm")
        playwright.expect(page.locator("#announcement")).to_have_text("1 machine with an alarm")
        playwright.expect(page).to_have_title("(1 with an alarm) Machine telemetry")
        page.get_by_role("button", name="press").click()
        playwright.expect(page.locator("#charts .chart")).to_have_count(2)
        playwright.expect(page.locator("#charts .limit")).to_have_count(1)
        page.keyboard.press("Escape")
        site.reading.unlink()
        playwright.expect(state).to_contain_text("; DOWN since ")
        playwright.expect(page.locator("#summary")).to_contain_text("1 with an alarm · 1 down")
        put(site, 78.0)
        playwright.expect(state).to_have_text("STARTED")
        playwright.expect(page.locator("#announcement")).to_have_text("")


def test_a_notification_that_is_not_delivered_is_shown_as_such(page, tmp_path):
    """A web hook that is down is named in the events, and nothing is said of the disk."""
    site = Site(tmp_path)
    site.reading = tmp_path / "press.json"
    put(site, 81.5)
    hot = {"name": "hot", "parameter": "temperature", "above": 80}
    urls = [f"ntfy://127.0.0.1:{free_port()}/hall"]
    sources = [{"name": "press", "file": "press.json"}]
    site.save(interval="1s", sources=sources, alarms=[hot], notify={"urls": urls}, output={"stdout": []})
    with site.running():
        visit(page, site)
        text = "notification not delivered: receiver 1 (ntfy): A Connection error"
        playwright.expect(page.locator("#events")).to_contain_text(text)
        assert "disk" not in page.locator("body").text_content()


def test_a_machine_without_numbers_is_shown(page, site):
    """A machine that answers without a number says so in its state, in the summary and in the events."""
    visit(page, site)
    playwright.expect(row(page, "press").locator(".state")).to_have_text("STARTED")
    put(site, "20.5")
    playwright.expect(row(page, "press").locator(".state")).to_have_text("STARTED; no number for temperature")
    playwright.expect(page.locator("#summary")).to_contain_text("1 without a number")
    event = 'press: numbers are missing: no number as temperature ("20.5"); it sends id "hall 2", temperature'
    playwright.expect(page.locator("#events")).to_contain_text(event)
    put(site, 21.5)
    playwright.expect(row(page, "press").locator(".state")).to_have_text("STARTED")


def test_the_page_shows_that_the_connection_is_lost(page, site):
    """When the process does not answer, the page says so and keeps the rows, until it answers again."""
    visit(page, site)
    playwright.expect(row(page, "press")).to_be_visible()
    page.route("**/*", lambda route: route.abort())
    playwright.expect(page.locator("#problem")).to_contain_text("No answer from the process since")
    playwright.expect(row(page, "press")).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")
    playwright.expect(page.locator("#problem")).to_be_hidden()
    page.errors[:] = [text for text in page.errors if "ERR_FAILED" not in text]


def test_a_restarted_process_shows_the_machines_of_the_one_before(page, tmp_path):
    """After a restart a machine that no longer answers is shown with its last value, and its events are listed."""
    site = Site(tmp_path)
    site.reading = tmp_path / "press.json"
    put(site, 20.5)
    site.save(interval="1s", sources=[{"name": "press", "file": "press.json"}], output={"stdout": []})
    with site.running() as process:
        until(lambda: len(site.lines("averages")) > 2)
        end(process)
    site.reading.unlink()
    with site.running():
        until(lambda: not_refused(site))
        page.goto(f"http://127.0.0.1:{site.port}/")
        playwright.expect(row(page, "press").locator(".reading b").first).to_have_text("20.50")
        playwright.expect(row(page, "press").locator(".age")).to_contain_text(" ago")
        playwright.expect(page.locator("#summary")).to_contain_text("1 machine")
        playwright.expect(page.locator("#problem")).to_have_text("Not ready: no reading was written yet.")
        playwright.expect(page.locator("#events")).to_contain_text("the process stopped: SIGTERM")
        page.get_by_role("button", name="press").click()
        playwright.expect(page.locator("#charts .chart")).to_have_count(2)


# An application with made-up views: many machines, hostile names, tokens


def fleet(count, status="IDLE"):
    """The overview of this many machines; the name of the last one is hostile."""
    now = time.time()
    names = [f"machine-{n}" for n in range(1, count)] + [HOSTILE.replace("\x00", "")]
    trace = [[1000 * (now - 10 * n), 45 + n % 7, 650 - n % 50] for n in reversed(range(60))]
    rows = [
        {"id": str(n), "latest": {"source": name, "id": n, "status": status, "readings": 5, "average_temperature": 45.5,
                    "average_speed": None}, "trace": trace}
        for n, name in enumerate(names)
    ]  # fmt: skip
    return {"now": 1000 * now, "mark": 1, "whole": True, "interval": 10, "window": 5, "threshold": 0.2,
            "timezone": "Europe/Berlin", "parameters": ["temperature", "speed"], "sources": count, "machines": rows,
            "down": [{"source": "machine-7", "since": "2026-11-22T10:00:00.000Z", "reason": "refused",
                      "why": "connection refused"}], "alarms": [], "not_ready": []}  # fmt: skip


def machine_view(source, key):
    """The charts of any machine."""
    times = [1_795_341_600.0 + 10 * n for n in range(60)]
    columns = {"times": times, "values": {"temperature": [45.0 + n % 7 for n in range(60)], "speed": [650.0] * 60},
               "limits": {}, "interval": 10, "threshold": 0.2, "timezone": "Europe/Berlin"}  # fmt: skip
    return {"simulated": 1, "charts": machine_charts(columns)}


def application(count, token=None):
    """The URL of an application that shows this many machines; if there is a token, a POST needs it."""
    content = orjson.dumps(fleet(count))
    event = b'{"at":"2026-11-22T10:00:00.000Z","event":"source_down","source":"machine-7","reason":"refused"}'
    empty = Views(*[list] * len(Views._fields))
    app = create_app(Machines(1), empty._replace(
        overview=lambda mark: [content], machine=machine_view, events=lambda: [event],
        reports=lambda: [f"2026-10-{n:02}" for n in range(1, 31)], styles=shared_styles(),
    ))  # fmt: skip

    @app.before_request
    def guard():
        if token and request.method == "POST" and request.headers.get("Authorization") != f"Bearer {token}":
            abort(401, "This needs the token of api.token")

    return f"http://127.0.0.1:{serve(app, '127.0.0.1', 0)}/"


def test_a_thousand_machines_are_searched_and_sorted(page):
    """Of 1,000 machines 100 have a row, a search and a button show the others, and names are only text."""
    page.goto(application(1000))
    rows = page.locator("#machines tbody tr")
    playwright.expect(rows).to_have_count(100)
    playwright.expect(rows.first).to_contain_text("machine-7")
    playwright.expect(page.locator("#summary")).to_contain_text("1,000 machines · 1 down")
    page.get_by_role("searchbox").fill("machine-99")
    playwright.expect(rows).to_have_count(11)
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Show 900 more machines").click()
    playwright.expect(rows).to_have_count(1000)
    drawn = page.evaluate("[...document.querySelectorAll('.reading path')].filter(p => p.getAttribute('d')).length")
    assert 0 < drawn < 200
    page.get_by_role("searchbox").fill("alert")
    playwright.expect(rows).to_have_count(1)
    assert "<script>alert(1)</script>" in rows.first.text_content()
    page.get_by_label("Sort").select_option("name")
    page.get_by_role("searchbox").fill("machine-1")
    assert rows.locator(".name").all_text_contents()[:3] == ["machine-1", "machine-10", "machine-11"]


def test_the_console_works_by_keyboard(page):
    """A machine opens with Enter and closes with Escape, and the focus returns to its row."""
    page.goto(application(3))
    page.get_by_role("button", name="machine-1").focus()
    page.keyboard.press("Enter")
    playwright.expect(page.get_by_role("dialog")).to_be_visible()
    playwright.expect(page.locator("#charts .chart")).to_have_count(2)
    page.keyboard.press("Escape")
    playwright.expect(page.get_by_role("dialog")).to_be_hidden()
    playwright.expect(page.get_by_role("button", name="machine-1")).to_be_focused()


def test_the_page_asks_for_the_token_once(page):
    """If setting a status needs a token, the page asks for it and keeps it in memory, not in the browser's storage."""
    page.goto(application(3, token="hall 2"))
    page.get_by_role("button", name="machine-1").click()
    page.get_by_role("button", name="COMPLETED").click()
    playwright.expect(page.get_by_role("status").filter(has_text="token")).to_be_visible()
    page.get_by_label("Token").fill("hall 2")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#status-result")).to_have_text("COMPLETED is set; the next reading shows it.")
    page.get_by_role("button", name="STARTED").click()
    playwright.expect(page.locator("#status-result")).to_have_text("STARTED is set; the next reading shows it.")
    playwright.expect(page.get_by_label("Token")).to_be_hidden()
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    page.errors[:] = [text for text in page.errors if "401" not in text]


@pytest.mark.parametrize("view", ["console", "machine", "report"])
def test_nothing_is_wider_than_a_phone(page, tmp_path, view):
    """At a width of 390 pixels no page scrolls horizontally."""
    page.set_viewport_size(PHONE)
    show(page, view, tmp_path)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


# The report


def show(page, view, folder):
    """Open one of the pages."""
    if view == "report":
        values = [50.0 + n % 3 for n in range(8640)]
        values[4000] = 99.0
        values[5000:5200] = [float("nan")] * 200
        file = folder / "2026-11-22.html"
        file.write_bytes(report_page(*report_of(values, machines=3)))
        page.goto(file.as_uri())
        return
    page.goto(application(20))
    playwright.expect(page.locator("#machines tbody tr")).to_have_count(20)
    if view == "machine":
        page.get_by_role("button", name="machine-1", exact=True).click()
        playwright.expect(page.locator("#charts .chart")).to_have_count(2)


def test_the_report_page_shows_its_chart_from_the_file_system(page, tmp_path):
    """Opened as a file, the chart has a trace that breaks at the gap, a band, an anomaly, and its style."""
    show(page, "report", tmp_path)
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


# Accessibility


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The script of axe-core, installed with npm."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("npm is not installed, which installs axe-core")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", "axe-core@4"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot install axe-core")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["console", "machine", "report"])
def test_axe_finds_no_violation(page, tmp_path, axe, view, scheme):
    """Contrast, labels, roles and structure of each page are accessible, in light and dark, wide and narrow."""
    page.emulate_media(color_scheme=scheme)
    show(page, view, tmp_path)
    page.evaluate(axe)
    for width in (1280, PHONE["width"]):
        page.set_viewport_size({"width": width, "height": 900})
        violations = page.evaluate("axe.run()")["violations"]
        assert [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in violations] == []


def test_machines_with_long_ids_stay_apart_on_the_page(page, tmp_path):
    """Ids beyond 2^53 and 2^64 are rows of their own, with all their digits, and open the charts of their machine."""
    site = Site(tmp_path)
    ids = ["9007199254740992", "9007199254740993", "12345678901234567890123", "12345678901234567890124", '"7"', "7"]
    records = ",".join(f'{{"id":{text},"temperature":{n}}}' for n, text in enumerate(ids, 20))
    (tmp_path / "gateway.json").write_text(f'{{"m":[{records}]}}')
    source = {"name": "gateway", "file": "gateway.json", "records": "m"}
    site.save(interval="1s", sources=[source], output={"stdout": []})
    with site.running():
        visit(page, site)
        rows = page.locator("#machines tbody tr")
        playwright.expect(rows).to_have_count(len(ids))
        for n, text in enumerate(ids, 20):
            label = text.strip('"')
            name = rows.filter(has=page.get_by_text(f"id {label}", exact=True))
            playwright.expect(name).to_have_count(2 if label == "7" else 1)
            if label != "7":
                playwright.expect(name.locator(".reading b").first).to_have_text(re.compile(rf"^{n}\.00"))
        rows.filter(has=page.get_by_text(f"id {ids[3]}", exact=True)).get_by_role("button").click()
        playwright.expect(page.locator("#machine-title")).to_have_text(f"gateway, id {ids[3]}")
        playwright.expect(page.locator("figcaption").first).to_contain_text("latest 23.00")
        playwright.expect(page.locator("#charts .chart").first).to_be_visible()
