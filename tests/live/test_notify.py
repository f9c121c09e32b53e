"""Notifications: what they say of sources and reports, where they go, and that nothing waits for them."""

from __future__ import annotations

import json
import signal
import socket
import threading
from pathlib import Path

import pytest

from etl.cli.run import notify_of_changes
from etl.live.children.night import Night
from etl.live.notifications import notifier as notify
from etl.live.notifications.messages import MAX_LISTED, Notified, outages, report_message
from etl.live.notifications.notifier import MAX_PENDING, Notifier
from etl.live.standing import Down
from etl.readings.records import Failure
from tests.support import servers
from tests.support.plant import report_here
from tests.support.process import HANG_S, closed_day, end, until
from tests.support.receivers import SECRET, receiving
from tests.support.transport import run_tick

REFUSED = Failure("refused", "connection refused")


def look(down, told=None, known="abc", now=100.0, patience=30.0):
    """One look at sources that are down since these moments."""
    states = {name: Down(since, REFUSED) for name, since in down.items()}
    long_down = {name: state for name, state in states.items() if now - state.since >= patience}
    return outages(states, long_down, told or {}, known, now)


def test_a_source_that_stays_down_is_notified():
    """Down for long enough there is one message with the time and the reason; before that there is none."""
    assert look({"a": 70.1}) == ([], {})
    (message,), told = look({"a": 70.0, "b": 90.0})
    assert message == {
        "event": "source_down", "at": "1970-01-01T00:01:40.000Z", "count": 1,
        "text": "a is down since 1970-01-01T00:01:10.000Z: connection refused",
        "sources": [{"source": "a", "since": "1970-01-01T00:01:10.000Z", "why": "connection refused"}],
    }  # fmt: skip
    assert told == {"a": 70.0}
    assert look({"a": 70.0, "b": 90.0}, told, now=110.0) == ([], {"a": 70.0})


def test_a_source_that_is_up_again_is_notified():
    """A notified source that answers again is a message with the time it was down; a removed source is not."""
    (message,), told = look({}, {"a": 70.0, "gone": 10.0})
    assert (message["event"], told) == ("source_up", {})
    assert message["text"] == "a is answering again, down since 1970-01-01T00:01:10.000Z"
    assert [source["source"] for source in message["sources"]] == ["a"]


def test_a_source_that_was_up_between_two_checks_stays_notified():
    """Neither a single answer in between nor the next failure is a message."""
    assert look({"a": 99.0}, {"a": 70.0}) == ([], {"a": 99.0})


def test_many_sources_come_in_one_message():
    """Sources that go down together are one message that counts all of them and names some."""
    names = [f"m-{n:04}" for n in range(1000)]
    (message,), told = look(dict.fromkeys(names, 1.0), known=names)
    assert (message["count"], len(message["sources"]), len(told)) == (1000, MAX_LISTED, 1000)
    assert message["text"] == "1000 sources are down: m-0000, m-0001, m-0002, m-0003, m-0004 ..."


def test_the_night_in_a_sentence(plant):
    """The message about a report has its day, machines, readings, completeness and anomalies."""
    here = plant(1_795_341_600.0)
    here.tick(60)
    here.clock.now += 86_400
    (result,) = Night(here.pipeline, report_here).report_due_days()
    message = report_message(result.summary, here.clock.now)
    machine = json.loads(Path(result.path).read_bytes())["machines"][0]
    anomalies = sum(len(figures["anomalies"]) for figures in machine["parameters"].values())
    assert anomalies
    assert (message["event"], message["day"], message["anomalies"]) == ("report", "2026-11-22", anomalies)
    assert message["text"] == (
        "2026-11-22: 1 silence (machine-1). 1 machine sent 60 of 8,640 expected readings (0.6 %). "
        f"{anomalies} values of 1 machine deviate by more than 20 % from the day's average."
    )


def test_a_real_process_notifies(site):
    """A report, a source that goes down and its return are each posted once; SIGHUP changes the address."""
    closed_day(site)
    with receiving() as first, receiving() as second:
        site.save(notify={"url": first.url})
        with site.running() as process:
            until(lambda: first.told("report"))
            (site.root / "numbered.json").rename(site.root / "gone")
            until(lambda: first.told("source_down"))
            (site.root / "gone").rename(site.root / "numbered.json")
            until(lambda: first.told("source_up") and site.events("source_up"))
            assert [message["event"] for message in first.taken] == ["report", "source_down", "source_up"]
            assert first.taken[0]["day"] == "2026-01-05"
            down, up = site.events("source_down"), site.events("source_up")
            (named,) = first.taken[1]["sources"]
            assert (named["source"], named["why"]) == ("numbered", down[0]["why"])
            assert named["since"] <= down[0]["at"] < first.taken[1]["at"]
            assert first.taken[2]["at"] >= up[0]["at"]
            site.save(notify={"url": second.url})
            process.send_signal(signal.SIGHUP)
            until(lambda: "is applied" in (site.root / "stderr").read_text())
            (site.root / "numbered.json").unlink()
            until(lambda: second.told("source_down"))
            end(process)
        assert len(first.taken) == 3
        assert {*first.paths, *second.paths} == {f"/hook/{SECRET}"}
    assert site.events("dropped") == []


def test_an_address_that_fails_stops_nothing_and_stays_secret(site):
    """With no receiver, polling and writing go on; the address is in no log and no event."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://user:{SECRET}@127.0.0.1:{closed.getsockname()[1]}/hook/{SECRET}?key={SECRET}"
    site.save(sources=[*site.config["sources"], {"name": "off", "file": "off.json"}], notify={"url": url})
    with site.running() as process:
        until(lambda: len(site.lines("averages")) > 15)
        end(process)
    told = (site.root / "stderr").read_text() + json.dumps(site.lines("events")) + site.etl("check").stdout
    assert SECRET not in told


REDIRECT = servers.answer(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:1/\r\n")


@pytest.mark.parametrize(
    ("talk", "why", "timeout"),
    [(servers.says(servers.answer(b"", "500 Internal Server Error")), "HTTP 500", HANG_S),
     (servers.says(REDIRECT), "HTTP 307: redirects are not followed", HANG_S),
     (servers.waits, "no answer within", 0.5), (servers.breaks_off(), "broke off", HANG_S),
     (servers.drips(b"", servers.answer(b"x" * 500)), "no answer within", 0.5),
     (servers.blurts(b"hello\r\n\r\n"), "HTTP", HANG_S)],
)  # fmt: skip
def test_a_notification_that_is_not_accepted_is_an_event(talk, why, timeout, monkeypatch, caplog):
    """Whatever the address does, `send` does not wait; the tries are limited, then an event records the failure."""
    monkeypatch.setattr(notify, "TIMEOUT_S", timeout)
    events = []
    sent = threading.Event()

    def talk_after_send(connection):
        sent.wait(HANG_S)
        talk(connection)

    server = servers.Server(talk_after_send)
    notifier = Notifier(lambda event, **fields: events.append((event, fields)), pauses=(0, 0.01))
    try:
        notifier.use([f"{server.url}/{SECRET}"])
        notifier.send({"event": "report"})
        sent.set()
        until(lambda: events)
        ((event, fields),) = events
    finally:
        notifier.use([])
        server.close()
    assert (event, fields["reason"], fields["about"]) == ("dropped", "notify", "report")
    assert why in fields["why"]
    assert server.connections >= 2
    assert SECRET not in caplog.text + str(events)


def test_a_second_try_may_succeed():
    """An address that accepts the second try gets no third one, and there is no event."""
    events = []
    answers = iter([servers.answer(b"", "503 Busy"), servers.answer(b""), servers.answer(b"")])

    def talk(connection):
        servers.says_and_closes(next(answers))(connection)

    server = servers.Server(talk)
    notifier = Notifier(lambda event, **_: events.append(event), pauses=(0, 0.01, 0.01))
    try:
        notifier.use([server.url])
        notifier.send({"event": "report"})
        notifier.send({"event": "source_down"})
        until(lambda: len(server.requests) == 3)
        sizes = [int(request.lower().split(b"content-length: ")[1].split()[0]) for request in server.requests]
        assert sizes == [len('{"event":"report"}')] * 2 + [len('{"event":"source_down"}')]
        assert (events, server.connections) == ([], 3)
    finally:
        notifier.use([])
        server.close()


def test_the_queue_is_bounded(monkeypatch):
    """While an address hangs, `send` drops notifications beyond the queue's limit, each with an event."""
    monkeypatch.setattr(notify, "TIMEOUT_S", HANG_S)
    reasons = []
    server = servers.Server(servers.waits)
    notifier = Notifier(lambda event, **fields: reasons.append(fields["why"]), pauses=(0,))
    try:
        notifier.use([server.url])
        for _ in range(MAX_PENDING + 50):
            notifier.send({"event": "report"})
        assert 49 <= reasons.count("receiver 1 (http): too many notifications wait") <= 50
    finally:
        notifier.use([])
        server.close()


def test_proxies_come_from_the_environment(monkeypatch):
    """A notification goes through the proxy that polls go through."""
    server = servers.Server(servers.says(servers.answer(b"")))
    monkeypatch.setenv("http_proxy", f"http://{server.netloc}")
    monkeypatch.setenv("no_proxy", "")
    told = []
    notifier = Notifier(lambda event, **more: told.append(more), pauses=(0,))
    try:
        notifier.use(["http://receiver.invalid/hook"])
        notifier.send({"event": "report"})
        until(lambda: server.requests)
        assert server.requests[0].startswith(b"POST http://receiver.invalid/hook HTTP/1.1\r\n")
        assert told == []
    finally:
        notifier.use([])
        server.close()


@pytest.mark.parametrize("url", ["", "hook", "ftp://a.example/", "http://", ["http://a.example/"]])
def test_an_address_that_is_none_is_refused(site, url):
    """The config says so, at its place."""
    site.save(notify={"url": url})
    refused = site.etl("check")
    assert refused.returncode == 78
    assert "write an http:// or https:// address" in refused.stderr


def test_a_disk_that_takes_no_lines_is_notified(scripted):
    """The process notifies of a folder that cannot be written and, once it can be again, of that; each once."""
    here = scripted()
    with receiving() as receiver:
        here.config["notify"] = {"urls": [receiver.url]}
        here.reload()
        notifier = Notifier(here.pipeline.events.record)
        notifier.use(here.loaded.config.notify.addresses)
        here.pipeline.poller.use(dict.fromkeys("abc", here.script))
        run_tick(here)
        path = here.folder.path("raw", "2026-11-22").parent
        path.rename(here.root / "aside")
        path.write_bytes(b"")
        notified = Notified()
        for _ in range(3):
            run_tick(here)
            notified = notify_of_changes(here.pipeline, notifier, notified, here.clock.now)
        path.unlink()
        (here.root / "aside").rename(path)
        for _ in range(3):
            run_tick(here)
            notified = notify_of_changes(here.pipeline, notifier, notified, here.clock.now)
        until(lambda: len(receiver.taken) == 2)
        notifier.use([])
    full, writable = receiver.taken
    assert (full["event"], writable["event"]) == ("not_writable", "writable")
    assert full["text"].startswith(f"{here.folder.root} takes no lines: ")
    assert writable["text"] == f"{here.folder.root} takes lines again, after 30 s"


def test_a_reload_with_an_unknown_receiver_changes_nothing(site):
    """A receiver that Apprise does not know is refused at SIGHUP, and the ones before stay."""
    with receiving() as receiver:
        site.save(notify={"url": receiver.url})
        with site.running() as process:
            until(lambda: len(site.lines("averages")) > 3)
            site.save(notify={"urls": ["nfty://hall", receiver.url]})
            process.send_signal(signal.SIGHUP)
            until(lambda: "The changed config is not applied" in (site.root / "stderr").read_text())
            (site.root / "numbered.json").unlink()
            until(lambda: receiver.told("source_down"))
            end(process)
    assert "did you mean ntfy://?" in (site.root / "stderr").read_text()
