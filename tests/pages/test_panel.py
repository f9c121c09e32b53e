"""The panel of one machine on the console, in a real browser."""

from __future__ import annotations

import json
import re
from threading import Event
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from api.console import Body
from tests.support.api import made
from tests.support.browser import expect, forgive, needs_chromium, put, row, visit
from tests.support.fleet import BUSY, application, fleet, machine_view, troubled
from tests.support.process import Site, end, not_refused, until
from tests.support.reports import HOSTILE

pytestmark = needs_chromium


def test_a_status_set_on_the_console_is_shown(page, site):
    """The buttons of a simulated machine set its status, by mouse and by keyboard; other machines have no buttons."""
    visit(page, site)
    page.get_by_role("button", name="machine-1").click()
    page.get_by_role("button", name="COMPLETED").click()
    expect(page.locator("#machine-state")).to_have_text("COMPLETED")
    page.get_by_role("button", name="ERROR").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#machine-state")).to_have_text("ERROR")
    expect(page.locator("#charts .chart")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(row(page, "machine-1").locator(".state")).to_have_text("ERROR")
    expect(page.locator("#machines tbody tr").first).to_contain_text("machine-1")
    page.get_by_role("button", name="press").click()
    expect(page.locator("#charts .chart")).to_have_count(2)
    expect(page.locator("#status-form")).to_be_hidden()


def test_the_console_works_by_keyboard(page):
    """A machine opens with Enter and closes with Escape, and the focus returns to its row."""
    page.goto(application(fleet(3)))
    page.get_by_role("button", name="machine-1").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.locator("#charts .chart")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="machine-1")).to_be_focused()


def test_the_page_asks_for_the_token_once(page):
    """If setting a status needs a token, the page asks for it and keeps it in memory, not in the browser's storage."""
    page.goto(application(fleet(3), token="hall 2"))
    page.get_by_role("button", name="machine-1").click()
    page.get_by_role("button", name="COMPLETED").click()
    expect(page.get_by_role("status").filter(has_text="token")).to_be_visible()
    page.get_by_label("Token").fill("hall 2")
    page.keyboard.press("Enter")
    expect(page.locator("#status-result")).to_have_text("COMPLETED is set; the next reading shows it.")
    page.get_by_role("button", name="STARTED").click()
    expect(page.locator("#status-result")).to_have_text("STARTED is set; the next reading shows it.")
    expect(page.get_by_label("Token")).to_be_hidden()
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    page.errors[:] = [text for text in page.errors if "401" not in text]


def panel_link(url, source, machine_id, hours=None):
    """The address of a machine's panel, as somebody writes it into a message."""
    query = {"source": source, "id": json.dumps(machine_id)} | ({"hours": hours} if hours else {})
    return f"{url}#{urlencode(query)}"


def test_a_panel_has_an_address(page):
    """Opening a machine changes the address, and that address opens its panel in a new tab, with its range."""
    url = application(troubled(20))
    page.goto(url)
    page.get_by_role("button", name="machine-2", exact=True).click()
    expect(page).to_have_url(panel_link(url, "machine-2", 1))
    page.get_by_role("button", name="24 h").click()
    expect(page).to_have_url(panel_link(url, "machine-2", 1, hours=24))
    page.goto("about:blank")
    page.goto(panel_link(url, "machine-2", 1, hours=24))
    expect(page.locator("#machine-title")).to_have_text("machine-2, id 1")
    expect(page.get_by_role("button", name="24 h")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#charts .chart")).to_have_count(2)


def test_back_and_forward_close_and_open_the_panel(page):
    """The back button closes a panel that was opened on the page, and forward opens it; closing it goes back, too."""
    url = application(troubled(20))
    page.goto(url)
    page.get_by_role("button", name="machine-2", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.go_forward()
    expect(page.locator("#machine-title")).to_have_text("machine-2, id 1")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).to_have_url(url)
    entries = page.evaluate("history.length")
    page.get_by_role("button", name="machine-1", exact=True).click()
    page.get_by_role("button", name="Close").click()
    expect(page).to_have_url(url)
    assert page.evaluate("history.length") == entries


def test_a_changed_address_shows_another_machine(page):
    """A link that is followed while a panel is open shows its machine; closing it stays on the page."""
    url = application(troubled(20))
    page.goto(panel_link(url, "machine-1", 0))
    expect(page.locator("#machine-title")).to_have_text("machine-1, id 0")
    page.evaluate("address => { location.href = address; }", panel_link(url, "machine-2", 1))
    expect(page.locator("#machine-title")).to_have_text("machine-2, id 1")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).to_have_url(url)


@pytest.mark.parametrize(
    ("source", "machine_id", "state"),
    [("never-answered", None, "DOWN since "), ("machine-9", "forgotten", "no recent reading"),
     (HOSTILE, 'a"b', "no recent reading")],
)  # fmt: skip
def test_a_link_to_a_silent_machine_opens_its_panel(page, source, machine_id, state):
    """A machine that is down or has sent nothing since the start has a panel with its state, ranges and its day."""
    page.goto(panel_link(application(troubled(20)), source, machine_id))
    expect(page.locator("#machine-state")).to_contain_text(state)
    expect(page.locator("#charts-notice")).to_contain_text("No reading of this machine is in memory.")
    page.get_by_role("button", name="1 h", exact=True).click()
    expect(page.locator("#charts .chart")).to_have_count(2)
    expect(page.locator("#charts-notice")).to_have_text("")
    page.get_by_role("link", name="Whole day").click()
    expect(page).to_have_title("a page")
    query = parse_qs(urlsplit(page.url).query)
    assert query == {"source": [source], "id": [json.dumps(machine_id)]}


def test_the_address_of_a_machine_survives_a_restart(page, tmp_path):
    """A machine that has sent nothing since the start has its last hour, from the day files, and its day's page."""
    site = Site(tmp_path)
    site.reading = tmp_path / "press.json"
    put(site, 20.5)
    site.save(interval="1s", sources=[{"name": "press", "file": "press.json"}], output={"stdout": []})
    with site.running() as process:
        until(lambda: len(site.lines("averages")) > 4)
        end(process)
    site.reading.unlink()
    with site.running():
        until(lambda: not_refused(site))
        page.goto(panel_link(f"http://127.0.0.1:{site.port}/", "press", "hall 2", hours=1))
        expect(page.locator("#machine-title")).to_have_text("press, id hall 2")
        expect(page.locator("#machine-state")).to_contain_text("DOWN since ")
        expect(page.get_by_role("slider", name="temperature")).to_be_visible()
        page.get_by_role("link", name="Whole day").click()
        expect(page).to_have_title(re.compile("^press on 20"))
        page.get_by_role("link", name="Console").click()
        expect(page.locator("#machine-title")).to_have_text("press, id hall 2")
        expect(page.get_by_role("slider", name="temperature")).to_be_visible()


@pytest.mark.parametrize(
    "address", ["#source=machine-1&id={", "#source=&id=", '#source=machine-1&id="', "#id=7", "#", "#source"]
)
def test_an_address_that_was_cut_is_no_error(page, address):
    """An address that names no machine opens the table or an empty panel; the page goes on."""
    page.goto(application(fleet(3, down=[])) + address)
    expect(page.locator("#machines tbody tr")).to_have_count(3)
    expect(page.locator("#updated")).to_contain_text("updated")


def test_a_range_waits_for_its_charts(page):
    """While the day files are read the panel says so, also where the process is busy at first, and then shows them."""
    answers = [BUSY, made(b'{"simulated":null,"charts":{}}'), Body(status=404, error="No reading of this machine")]
    requests = []

    def machine_hours(source, key, hours):
        requests.append((source, key, hours))
        ready.wait(60)
        return answers[min(len(requests), len(answers)) - 1]

    ready = Event()
    page.goto(panel_link(application(fleet(3), machine_hours=machine_hours), "machine-1", 0, hours=1))
    notice = page.locator("#charts-notice")
    expect(notice).to_have_text("Reading the day files …")
    ready.set()
    expect(notice).to_have_text("Other pages are being made; try again later. The page asks again in 1 s.")
    expect(notice).to_have_text("No value in this range.")
    page.get_by_role("button", name="24 h").click()
    expect(notice).to_have_text("No reading of this machine.")
    assert requests == [("machine-1", "0", 1), ("machine-1", "0", 1), ("machine-1", "0", 24)]
    forgive(page, "503", "404")


def test_an_answer_that_comes_too_late_is_not_shown(page):
    """The charts of a machine that is no longer shown do not appear in the panel of another."""
    ready = Event()

    def machine_hours(source, key, hours):
        ready.wait(60)
        return made(json.dumps({"simulated": None, "charts": {"speed": "<p class='chart'>too late</p>"}}).encode())

    url = application(fleet(3), machine_hours=machine_hours)
    page.goto(panel_link(url, "machine-1", 0, hours=1))
    expect(page.locator("#charts-notice")).to_have_text("Reading the day files …")
    page.get_by_role("button", name="10 min").click()
    expect(page.locator("#charts .chart")).to_have_count(2)
    with page.expect_response("**/console/machine?*hours=1"):
        ready.set()
    expect(page.locator("#updated")).to_contain_text("updated")
    assert "too late" not in page.locator("#charts").text_content()


def test_a_parameter_without_values_is_not_drawn(page):
    """Of a machine that has no speed the panel shows the temperature alone, and its cell in the table is empty."""
    page.goto(panel_link(application(troubled(20)), "machine-5", 4))
    expect(page.locator("#charts figure")).to_have_count(1)
    expect(page.locator("#charts figcaption strong")).to_have_text("temperature")
    assert row(page, "machine-5").locator("td").nth(1).text_content() == ""


def test_the_caption_has_digits_and_unit(page):
    """The caption of a chart has the latest value and the average with their unit, which stays beside them."""
    page.goto(panel_link(application(troubled(20)), "machine-6", 5))
    caption = page.locator("#charts figcaption").first
    expect(caption).to_contain_text("latest -12,345.6\u00a0°C, average of the last 5 readings: 45.50\u00a0°C")


def test_values_are_read_by_keyboard_while_new_ones_come(page):
    """The values of a chart are chosen by keyboard; a chart that new readings replace keeps focus and chosen time."""
    count = iter(range(10**6))

    def machine(source, key):
        speed = machine_view(source, key)["charts"]["speed"]
        return {"simulated": None, "charts": {"speed": speed.replace("<div", f'<div data-n="{next(count)}"', 1)}}

    page.goto(panel_link(application(fleet(3, interval=1), machine=machine), "machine-1", 0))
    chart = page.locator("#charts .chart")
    chart.focus()
    page.keyboard.press("Home")
    for _ in range(3):
        number = int(chart.get_attribute("data-n"))
        expect(chart).not_to_have_attribute("data-n", str(number))
        expect(chart).to_be_focused()
        expect(page.locator(".readout")).to_contain_text("11:00:00")
    expect(chart).to_have_attribute("aria-valuetext", re.compile("^11:00:00, 650"))
    page.keyboard.press("Escape")
    expect(page.locator(".readout")).to_have_count(0)
    expect(page.get_by_role("dialog")).to_be_visible()


def test_values_at_the_pointer(page):
    """Where the pointer is on a chart of the panel, its time and value are shown."""
    page.goto(panel_link(application(fleet(3)), "machine-1", 0, hours=1))
    box = page.locator("#charts .plot > svg").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator(".readout")).to_contain_text(re.compile(r"11:\d\d:\d\d4\d"))
