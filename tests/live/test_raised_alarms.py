"""Alarms of a running process: what is raised now, and who is notified of it, once."""

from __future__ import annotations

import json
import signal

import pytest

from etl.live.metrics import exposition
from etl.live.sinks.alarms import RaisedAlarms
from etl.live.writer import Batch
from etl.readings.alarms.conditions import Change, Condition
from etl.readings.records import AlarmRule
from tests.support.process import end, not_refused, until
from tests.support.receivers import receiving, receiving_mail
from tests.support.transport import run_tick

HOT = {"name": "hot", "parameter": "temperature", "above": 80, "deadband": 2}
FAULT = {"name": "fault", "status": "ERROR"}


def change(state="raised", machine=("a", 1), rule="hot", **more):
    condition = Condition(0, 10_000, 81.0, 80.0, state == "raised")
    return Change(machine, 10_000, AlarmRule(rule, "temperature", above=80.0), condition, state, **more)


def batch(*changes):
    return Batch("alarms", [b"{}\n"] * len(changes), changes=changes)


def shown(alarms):
    return [(change.machine, change.rule.name) for change in alarms.raised()]


def test_what_is_raised_follows_from_the_changes():
    """An alarm is raised until it ends, each of a machine apart; one that continues stays as it was raised."""
    alarms = RaisedAlarms()
    alarms.take(batch(change(), change(machine=("a", None)), change(rule="hotter")))
    assert shown(alarms) == [(("a", 1), "hot"), (("a", None), "hot"), (("a", 1), "hotter")]
    assert alarms.counts() == {"hot": 2, "hotter": 1}
    first = alarms.raised()[0]
    alarms.take(batch(change(continued=True), change("ended", rule="hotter")))
    assert shown(alarms) == [(("a", 1), "hot"), (("a", None), "hot")]
    assert alarms.raised()[0] is first
    alarms.take(batch(change("ended"), change("ended", machine=("b", 1))))
    assert shown(alarms) == [(("a", None), "hot")]


def test_each_batch_is_handed_on_once_and_what_is_restored_is_not():
    """Who is notified gets the changes of a batch together, and nothing of what an earlier process handed on."""
    alarms, taken = RaisedAlarms(), []
    alarms.notify = taken.append
    alarms.restore([change(), change(machine=("b", 1))])
    assert (taken, len(alarms.raised())) == ([], 2)
    alarms.take(Batch("raw", [b"{}\n"]))
    alarms.take(batch(change(machine=("c", 1)), change("ended")))
    assert [[one.state for one in changes] for changes in taken] == [["raised", "ended"]]


def reading(temperature, status="IDLE"):
    return json.dumps({"id": 1, "temperature": temperature, "fan_speed": 5, "status": status}).encode()


def test_the_pipeline_knows_what_is_raised_also_after_a_restart(scripted):
    """Readings raise and end alarms, the metric counts machines, and a restart finds them again, notifying nobody."""
    here = scripted(window=1, alarms=[HOT, FAULT])
    here.script.answers = {"a": reading(81), "b": reading(90, "ERROR"), "c": reading(20)}
    run_tick(here)
    assert shown(here.pipeline.alarms) == [(("a", 1), "hot"), (("b", 1), "hot"), (("b", 1), "fault")]
    metrics = exposition(here.pipeline).decode()
    assert 'telemetry_alarms{alarm="hot",state="raised"} 2.0' in metrics
    assert 'telemetry_alarms{alarm="fault",state="raised"} 1.0' in metrics
    here.open()
    here.pipeline.poller.use(dict.fromkeys("abc", here.script))
    notified = []
    here.pipeline.alarms.notify = notified.append
    here.script.answers["b"] = reading(79, "IDLE")
    run_tick(here)
    assert shown(here.pipeline.alarms) == [(("a", 1), "hot"), (("b", 1), "hot")]
    assert [[(one.machine, one.rule.name, one.state) for one in changes] for changes in notified] == [
        [(("b", 1), "fault", "ended")]
    ]
    assert 'telemetry_alarms{alarm="fault",state="raised"} 0.0' in exposition(here.pipeline).decode()


def test_a_reload_that_removes_an_alarm_ends_it(scripted):
    """With the next reading the removed alarm is ended, which is notified with the reason; the others stay raised."""
    here = scripted(window=1, alarms=[HOT, FAULT])
    here.script.answers["a"] = reading(81, "ERROR")
    run_tick(here, ["a"])
    notified = []
    here.pipeline.alarms.notify = notified.append
    here.config["alarms"] = [FAULT]
    here.reload()
    here.pipeline.poller.use(dict.fromkeys("abc", here.script))
    run_tick(here, ["a"])
    assert shown(here.pipeline.alarms) == [(("a", 1), "fault")]
    assert [[(one.rule.name, one.state, one.reason) for one in changes] for changes in notified] == [
        [("hot", "ended", "settings")]
    ]
    assert 'alarm="hot"' not in exposition(here.pipeline).decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_running_process_notifies_of_alarms_once(site, number):
    """An alarm reaches a web hook, a mail server and ntfy, is served, and nobody is notified again after a restart."""
    machine = site.root / "press.json"
    config = {"sources": [{"name": "press-7", "file": "press.json"}], "window": 1, "alarms": [HOT]}
    config["units"] = {"temperature": "°C"}

    def put(temperature):
        (site.root / "aside").write_bytes(reading(temperature))
        (site.root / "aside").replace(machine)

    put(81.25)
    with receiving() as web, receiving_mail() as (mailbox, address):
        urls = [web.url, f"ntfy://{web.url.split('/')[2]}/hall", address]
        site.save(**config, notify={"urls": urls}, api={"port": site.port})
        with site.running() as process:
            until(lambda: len(web.taken) == 2 and mailbox.taken)
            (alarm,) = site.ask("/alarms")
            (message,) = web.told("alarm")
            assert message["alarms"] == [alarm] == site.lines("alarms")
            assert (alarm["source"], alarm["value"], alarm["state"]) == ("press-7", 81.25, "raised")
            assert message["text"].startswith("hot: press-7 temperature 81.25 °C above 80 °C since ")
            assert mailbox.taken[0].get_content().strip() == message["text"]
            assert site.metric('telemetry_alarms{alarm="hot",state="raised"}') == 1
            end(process, number, 0 if number == signal.SIGTERM else -number)
        with site.running() as process:
            until(lambda: not_refused(site))
            until(lambda: site.metric("telemetry_readings_total") > 2)
            assert [line["alarm"] for line in site.ask("/alarms")] == ["hot"]
            put(77)
            until(lambda: len(web.told("alarm")) == 2)
            until(lambda: site.ask("/alarms") == [])
            end(process)
        first, second = web.told("alarm")
    assert [alarm["state"] for alarm in first["alarms"] + second["alarms"]] == ["raised", "ended"]
    assert second["text"].startswith("hot ended: press-7 temperature 77 °C after ")
