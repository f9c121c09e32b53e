"""What notifications say of the disk and of alarms."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from etl.live.notifications.messages import MAX_LISTED, alarm_news, disk_changes
from etl.readings.alarms.conditions import Change, Condition
from etl.readings.records import AlarmRule

HOT = AlarmRule("hot", "temperature", above=80.0, hold_ms=30_000)
FAULT = AlarmRule("fault", status="ERROR")
NINE = 1_795_338_000_000
"""2026-11-22T09:00:00Z, 10 o'clock in Berlin, in milliseconds."""
BERLIN = ZoneInfo("Europe/Berlin")


def change(state="raised", rule=HOT, value=81.2, machine=("press-7", None), seconds=30, **more):
    limit = None if rule.status else rule.above if rule.above is not None and value > rule.above else rule.below
    at = NINE + 1000 * seconds
    return Change(machine, at, rule, Condition(NINE, at, value, limit, state == "raised"), state, **more)


def text_of(*changes, shared=(), units=None):
    return alarm_news(changes, shared, BERLIN, units or {}).message(0.0)["text"]


def test_an_alarm_in_a_sentence():
    """The sentence names alarm, machine, value, limit and the local time since when; the log's line is there too."""
    assert alarm_news([change()], (), BERLIN, {}).message(NINE / 1000 + 31) == {
        "event": "alarm", "at": "2026-11-22T09:00:31.000Z", "count": 1,
        "text": "hot: press-7 temperature 81.2 above 80 since 10:00:00",
        "alarms": [{
            "at": "2026-11-22T09:00:30.000Z", "alarm": "hot", "state": "raised", "source": "press-7", "id": None,
            "parameter": "temperature", "value": 81.2, "limit": 80.0, "since": "2026-11-22T09:00:00.000Z",
        }],
    }  # fmt: skip


def test_other_changes_in_a_sentence():
    """A limit below, a status, an end, an end by the config, and a machine among several of its source."""
    cold = AlarmRule("cold", "speed", above=900.0, below=10.5)
    assert text_of(change(rule=cold, value=9.25)) == "cold: press-7 speed 9.25 below 10.5 since 10:00:00"
    assert text_of(change(rule=FAULT, value="ERROR")) == "fault: press-7 status ERROR since 10:00:00"
    assert text_of(change("ended", value=77.5, seconds=90)) == "hot ended: press-7 temperature 77.5 after 90 s"
    assert text_of(change("ended", reason="settings")) == "hot ended: press-7, as the config changed"
    assert text_of(change(machine=("line", 3)), shared={"line"}).startswith("hot: line id 3 temperature 81.2")
    assert text_of(change(machine=("line", 3))).startswith("hot: line temperature 81.2")
    assert text_of(change(seconds=86_400)).endswith("since 2026-11-22 10:00:00")


def test_units_stand_at_value_and_limit():
    """Value and limit have the unit of their parameter, a status has none; averages are shown without float noise."""
    units = {"temperature": "°C", "status": "x"}
    assert text_of(change(value=81.20000000000002), units=units) == (
        "hot: press-7 temperature 81.2 °C above 80 °C since 10:00:00"
    )
    assert text_of(change("ended", value=231 / 3.1, seconds=90), units=units) == (
        "hot ended: press-7 temperature 74.5161 °C after 90 s"
    )
    assert text_of(change(rule=FAULT, value="ERROR"), units=units) == "fault: press-7 status ERROR since 10:00:00"


def test_the_alarms_of_a_batch_come_in_one_message():
    """All changes are counted, the first few are named, and at most MAX_LISTED are listed."""
    changes = [change(machine=(f"m-{n}", None)) for n in range(MAX_LISTED)] + [
        change("ended", rule=FAULT, value="IDLE")
    ]
    message = alarm_news(changes, (), BERLIN, {}).message(0.0)
    assert (message["count"], len(message["alarms"])) == (MAX_LISTED + 1, MAX_LISTED)
    assert message["text"].startswith("100 alarms raised, 1 alarm ended. hot: m-0 temperature 81.2 above 80 since 10")
    assert message["text"].endswith("; hot: m-2 temperature 81.2 above 80 since 10:00:00 ...")


def test_alarms_of_several_batches_can_be_one_message():
    """Merged, they have the text and the list of one batch with all changes."""
    first, second = (
        [change(machine=(f"m-{n}", None)) for n in range(2)],
        [change("ended"), change(rule=FAULT, value="E")],
    )
    merged = alarm_news(first, (), BERLIN, {}).merge(alarm_news(second, (), BERLIN, {}))
    assert merged == alarm_news(first + second, (), BERLIN, {})


def test_an_alarm_that_continues_in_a_new_day_is_no_message():
    """Nobody is notified again at midnight of what is still raised."""
    continued = change(continued=True)
    assert alarm_news([continued], (), BERLIN, {}) is None
    assert alarm_news([continued, change()], (), BERLIN, {}).message(0.0)["count"] == 1


def test_a_disk_that_takes_no_lines_is_notified_once():
    """There is one message when the folder takes no lines, with the reason, and one when it takes them again."""
    full = OSError(28, "No space left on device")
    (message,), since = disk_changes(full, None, "/data", 100.0)
    assert (message["event"], message["why"], since) == ("not_writable", "No space left on device", 100.0)
    assert message["text"].startswith("/data takes no lines: No space left on device. Readings wait in memory")
    assert disk_changes(full, since, "/data", 110.0) == ([], 100.0)
    (message,), later = disk_changes(None, since, "/data", 190.0)
    assert (message["event"], message["text"], later) == ("writable", "/data takes lines again, after 90 s", None)
    assert disk_changes(None, None, "/data", 200.0) == ([], None)
