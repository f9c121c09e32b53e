"""The console of a real process in a real browser."""

from __future__ import annotations

import re

from tests.support.browser import expect, needs_chromium, put, row, visit
from tests.support.process import Site, end, free_port, not_refused, until

pytestmark = needs_chromium


def test_the_console_shows_new_readings(page, site):
    """Each new value appears on the page without a reload."""
    visit(page, site)
    value = row(page, "press").locator(".reading b").first
    expect(value).to_have_text("20.5")
    for temperature in (31.2, 42.7):
        put(site, temperature)
        expect(value).to_have_text(re.compile(rf"^{temperature}"))


def test_a_source_that_goes_down_is_shown_with_its_reason(page, site):
    """A source that fails comes first, as down, with the time and the reason, until it answers again."""
    visit(page, site)
    expect(row(page, "press").locator(".state")).to_have_text(["STARTED"])
    site.reading.unlink()
    state = row(page, "press").locator(".state")
    expect(state).to_contain_text("DOWN since ")
    expect(page.locator("#machines tbody tr").first).to_contain_text("press")
    expect(page.locator("#summary")).to_contain_text("1 down")
    expect(page.locator("#announcement")).to_have_text("1 machine down")
    expect(page.locator("#events")).to_contain_text("press is down")
    assert re.fullmatch(r"DOWN since \d\d:\d\d:\d\d: .+", state.text_content())
    put(site, 22.0)
    expect(state).to_have_text(["STARTED"])


def test_a_source_that_flaps_is_one_line(page, site):
    """A source that goes down three times is flapping: in its row, in the summary, and in one line of the events."""
    visit(page, site)
    state = row(page, "press").locator(".state")
    for _ in range(3):
        put(site, 20.5)
        expect(state.first).to_have_text("STARTED")
        site.reading.unlink()
        expect(state.first).to_contain_text("DOWN since ")
    expect(state).to_contain_text(["DOWN since ", "flapping: down 3 times since "])
    lines = page.locator("#events li").filter(has_text="press")
    expect(lines).to_have_count(1)
    expect(lines).to_contain_text("press is flapping: down 3 times since ")
    put(site, 20.5)
    expect(state).to_contain_text(["STARTED", "flapping: down 3 times since "])
    expect(page.locator("#summary")).to_have_text("2 machines · 1 flapping")
    expect(lines).to_contain_text(", answers now")


def test_a_raised_alarm_is_shown_first(page, tmp_path):
    """A machine with an alarm comes first, marked, with what holds and since when; the limit is in its chart."""
    site = Site(tmp_path)
    site.reading = tmp_path / "press.json"
    put(site, 20.5)
    simulated = {"name": "a-machine", "url": f"http://127.0.0.1:{site.port}/data"}
    hot = {"name": "hot", "parameter": "temperature", "above": 80, "deadband": 2, "sources": "press"}
    sources = [simulated, {"name": "press", "file": "press.json"}]
    site.save(
        interval="1s", window=1, sources=sources, alarms=[hot], units={"temperature": "°C"}, output={"stdout": []}
    )
    with site.running():
        visit(page, site)
        expect(page.locator("#machines tbody tr")).to_have_count(2)
        expect(row(page, "press").locator(".state")).to_have_text(["STARTED"])
        put(site, 81.5)
        first, state = page.locator("#machines tbody tr").first, row(page, "press").locator(".state")
        expect(state).to_contain_text(["STARTED", "ALARM hot: temperature above 80 °C since "])
        expect(first).to_contain_text("press")
        expect(first).to_have_class("alarm")
        expect(page.locator("#summary")).to_contain_text("1 with an alarm")
        expect(page.locator("#announcement")).to_have_text("1 machine with an alarm")
        expect(page).to_have_title("(1 with an alarm) Machine telemetry")
        page.get_by_role("button", name="press").click()
        expect(page.locator("#charts .chart")).to_have_count(2)
        expect(page.locator("#charts .limit")).to_have_count(1)
        page.keyboard.press("Escape")
        site.reading.unlink()
        expect(state).to_contain_text(["ALARM hot", "DOWN since "])
        expect(page.locator("#summary")).to_contain_text("1 with an alarm · 1 down")
        put(site, 78.0)
        expect(state).to_have_text(["STARTED"])
        expect(page.locator("#announcement")).to_have_text("")


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
        expect(page.locator("#events")).to_contain_text(text)
        assert "disk" not in page.locator("body").text_content()


def test_a_machine_without_numbers_is_shown(page, site):
    """A machine that answers without a number says so in its state, in the summary and in the events."""
    visit(page, site)
    expect(row(page, "press").locator(".state")).to_have_text(["STARTED"])
    put(site, "20.5")
    expect(row(page, "press").locator(".state")).to_have_text(["STARTED", "no number for temperature"])
    expect(page.locator("#summary")).to_contain_text("1 without a number")
    event = 'press: numbers are missing: no number as temperature ("20.5"); it sends id "hall 2", temperature'
    expect(page.locator("#events")).to_contain_text(event)
    put(site, 21.5)
    expect(row(page, "press").locator(".state")).to_have_text(["STARTED"])


def test_the_page_shows_that_the_connection_is_lost(page, site):
    """When the process does not answer, the page says so and keeps the rows, until it answers again."""
    visit(page, site)
    expect(row(page, "press")).to_be_visible()
    page.route("**/*", lambda route: route.abort())
    expect(page.locator("#problem")).to_contain_text("No answer from the process since")
    expect(row(page, "press")).to_be_visible()
    page.unroute_all(behavior="ignoreErrors")
    expect(page.locator("#problem")).to_be_hidden()
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
        expect(row(page, "press").locator(".reading b").first).to_have_text("20.5")
        expect(row(page, "press").locator(".age")).to_contain_text(" ago")
        expect(page.locator("#summary")).to_contain_text("1 machine")
        expect(page.locator("#problem")).to_have_text("Not ready: no reading was written yet.")
        expect(page.locator("#events")).to_contain_text("the process stopped: SIGTERM")
        page.get_by_role("button", name="press").click()
        expect(page.locator("#charts .chart")).to_have_count(2)


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
        expect(rows).to_have_count(len(ids))
        for n, text in enumerate(ids, 20):
            label = text.strip('"')
            name = rows.filter(has=page.get_by_text(f"id {label}", exact=True))
            expect(name).to_have_count(2 if label == "7" else 1)
            if label != "7":
                expect(name.locator(".reading b").first).to_have_text(re.compile(rf"^{n}\b"))
        rows.filter(has=page.get_by_text(f"id {ids[3]}", exact=True)).get_by_role("button").click()
        expect(page.locator("#machine-title")).to_have_text(f"gateway, id {ids[3]}")
        expect(page.locator("figcaption").first).to_contain_text("latest 23, ")
        expect(page.locator("#charts .chart").first).to_be_visible()
