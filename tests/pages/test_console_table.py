"""The console's table of many machines, in a real browser."""

from __future__ import annotations

import re

import pytest

from tests.support.browser import PHONE, expect, needs_chromium, row
from tests.support.fleet import DOWN_WHY, EVENTS, application, fleet, stamp, troubled

pytestmark = needs_chromium


def test_a_thousand_machines_are_searched_and_sorted(page):
    """Of 1,000 machines 100 have a row, a search and a button show the others, and names are only text."""
    page.goto(application(fleet(1000)))
    rows = page.locator("#machines tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("machine-7")
    expect(page.locator("#summary")).to_contain_text("1,000 machines · 1 down")
    page.get_by_role("searchbox").fill("machine-99")
    expect(rows).to_have_count(11)
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Show 900 more machines").click()
    expect(rows).to_have_count(1000)
    drawn = page.evaluate("[...document.querySelectorAll('.reading path')].filter(p => p.getAttribute('d')).length")
    assert 0 < drawn < 200
    page.get_by_role("searchbox").fill("alert")
    expect(rows).to_have_count(1)
    assert "<script>alert(1)</script>" in rows.first.text_content()
    page.get_by_label("Sort").select_option("name")
    page.get_by_role("searchbox").fill("machine-1")
    assert rows.locator(".name").all_text_contents()[:3] == ["machine-1", "machine-10", "machine-11"]


def test_a_source_that_flaps_is_folded(page):
    """A flapping source is one line of the events and says so in its row; the summary counts it, whether it is down."""
    page.goto(application(troubled(20), EVENTS))
    summary = "21 machines · 1 with an alarm · 2 down · 2 flapping · 1 without a number"
    expect(page.locator("#summary")).to_have_text(summary)
    expect(page.locator("#announcement")).to_have_text("1 machine with an alarm, 1 machine down, 2 machines flapping")
    lines = page.locator("#events li span")
    expect(lines).to_have_count(4)
    assert [re.sub(r"\d\d:\d\d:\d\d", "T", text) for text in lines.all_text_contents()] == [
        "machine-4 is flapping: down 5 times since T, answers now",
        f"machine-7 is flapping: down 20 or more times since T, is down now: {DOWN_WHY[:99]}…",
        "machine-9 is down: connection refused",
        "the process started: connection refused",
    ]
    expect(row(page, "machine-4").locator(".state")).to_contain_text(["IDLE", "flapping: down 5 times since "])


def test_a_fleet_whose_only_problem_flaps_has_a_problem(page):
    """Also while the flapping source answers, the summary does not say that there are no problems."""
    flapping = [{"source": "machine-1", "outages": 3, "since": stamp(1000)}]
    page.goto(application(fleet(3, down=[], flapping=flapping)))
    expect(page.locator("#summary")).to_have_text("3 machines · 1 flapping")
    page.goto(application(fleet(3, down=[], flapping=[])))
    expect(page.locator("#summary")).to_have_text("3 machines · no problems")


def test_a_source_is_one_row_beside_its_machine_with_an_alarm(page):
    """A source that is down, and of which only an alarm is known, is the row of the machine with that alarm."""
    overview = fleet(3)
    overview["down"] = [{"source": "press", "since": stamp(90), "reason": "dns", "why": "no such host"}]
    alarm = {"alarm": "hot", "holds": "temperature above 80 °C", "since": stamp(400)}
    overview["alarms"] = [{"source": "press", "id": "7", **alarm}]
    page.goto(application(overview))
    expect(page.locator("#summary")).to_have_text("4 machines · 1 with an alarm · 1 down")
    expect(page.locator("#machines tbody tr").filter(has_text="press")).to_have_count(1)


def test_raised_alarms_come_first(page):
    """The machine with alarms is the first row and the first part of the summary; units stand in the alarm's text."""
    page.goto(application(troubled(20)))
    names = page.locator("#machines tbody .name")
    expect(names.first).to_have_text("machine-3")
    assert names.all_text_contents()[:4] == ["machine-3", "machine-7", "never-answered", "machine-4"]
    states = row(page, "machine-3").locator(".state")
    expect(states).to_contain_text(
        ["IDLE", "ALARM hot: temperature above 80 °C since ", "ALARM speed of", "and 2 more"]
    )
    expect(page.locator("#columns .unit")).to_have_text(["°C", "rpm"])


@pytest.mark.parametrize("width", [1280, 390])
def test_a_long_reason_stays_on_one_line(page, width):
    """A reason of 200 characters takes one line of its row, inside the table; the panel shows all of it."""
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(application(troubled(20)))
    state = row(page, "machine-7").locator(".state.down")
    box, table = state.bounding_box(), page.locator(".scroll").first.bounding_box()
    assert box["height"] < 25
    assert box["x"] + box["width"] <= table["x"] + table["width"]
    values = row(page, "machine-7").locator("td").first.locator("b").bounding_box()
    assert values["y"] + values["height"] <= box["y"]
    page.get_by_role("button", name="machine-7").focus()
    page.keyboard.press("Enter")
    whole = page.locator("#machine-state .state.down")
    expect(whole).to_contain_text(DOWN_WHY)
    assert whole.evaluate("e => e.scrollWidth <= e.clientWidth || getComputedStyle(e).overflow === 'visible'")


def cells(page, name):
    """Value and average of each parameter in the row of a machine."""
    reading = row(page, name).locator(".reading")
    expect(reading.locator("path[d]").first).to_be_attached()
    return list(
        zip(reading.locator("b").all_text_contents(), reading.locator("small").all_text_contents(), strict=True)
    )


def test_numbers_have_the_digits_of_the_sensor(page):
    """Values have the decimals that the trace has, without float noise; averages one more, up to two."""
    overview = fleet(6, down=[])
    columns = [(20.5, 300), (20.333333, 0.30000000000000004), (123457, 1e-9), (-0.0012345, 2.5e9), (None, 7.25)]
    for entry, values in zip(overview["machines"], columns, strict=False):
        entry["trace"] = [[at, *values] for at, *_ in entry["trace"]]
        entry["latest"] |= {"average_temperature": values[0], "average_speed": values[1]}
    page.goto(application(overview))
    assert cells(page, "machine-1") == [("20.5", "20.50"), ("300", "300.0")]
    assert cells(page, "machine-2") == [("20.3333", "20.3333"), ("0.3", "0.30")]
    assert cells(page, "machine-3") == [("123,457", "123,457.0"), ("0.000000001", "0.000000001")]
    assert cells(page, "machine-4") == [("-0.0012345", "-0.0012345"), ("2.50e+9", "2.50e+9")]
    assert cells(page, "machine-5") == [("", ""), ("7.25", "7.25")]


def test_no_number_breaks_on_a_phone(page):
    """At a width of 390 pixels each number stands on one line."""
    page.set_viewport_size(PHONE)
    page.goto(application(troubled(20)))
    expect(row(page, "machine-6").locator("b").first).to_have_text("-12,345.6")
    heights = page.locator(".reading :is(b, small)").evaluate_all("nodes => nodes.map(n => n.clientHeight)")
    assert max(heights) < 40
    lines = """node => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return range.getClientRects().length;
    }"""
    texts = [text for text in page.locator(".reading :is(b, small)").all() if text.text_content()]
    assert {text.evaluate(lines) for text in texts} == {1}


def test_ten_thousand_machines_are_polled_without_effort(page):
    """Of 10,000 machines only rows on the screen are drawn, and every other row is left alone by an answer."""
    page.goto(application(fleet(10_000)))
    page.get_by_role("button", name="Show 9,900 more machines").click()
    expect(page.locator("#machines tbody tr")).to_have_count(10_000)
    changes = page.evaluate("""async () => {
      let changes = 0;
      await new Promise(resolve => setTimeout(resolve, 300));
      const observer = new MutationObserver(records => { changes += records.length; });
      observer.observe(document.querySelector("#machines"), {childList: true, subtree: true, attributes: true});
      await refresh();
      await new Promise(resolve => setTimeout(resolve, 0));
      return changes;
    }""")
    assert changes < 1000
