"""Receivers of notifications behind other schemes than http: through Apprise, and how `etl check` tries them."""

from __future__ import annotations

import json
import logging

import pytest

from etl.live.notifications.messages import AlarmNews
from etl.live.notifications.notifier import Notifier
from etl.live.notifications.receivers import address_problem, without_secrets
from tests.support.process import closed_day, end, free_port, until
from tests.support.receivers import SECRET, receiving, receiving_mail

MESSAGE = {"event": "report", "text": "2026-11-22: No incidents & <b>no</b> *news*."}


def notified(addresses, pauses=(0,)):
    """A notifier that sends to these addresses, and the events it records."""
    events: list[dict] = []
    notifier = Notifier(lambda event, **fields: events.append({"event": event, **fields}), pauses)
    notifier.use(addresses)
    return notifier, events


def test_a_mail_server_and_ntfy_get_the_sentence():
    """Each service gets the text of the notification as it is, and a web hook its JSON."""
    with receiving() as web, receiving_mail() as (mailbox, mail_address):
        host = web.url.split("/")[2]
        notifier, events = notified([mail_address, f"ntfy://{host}/press-hall", web.url])
        notifier.send(MESSAGE)
        until(lambda: mailbox.taken and len(web.taken) == 2)
        notifier.use([])
    (mail,) = mailbox.taken
    assert (mail["Subject"], mail["To"]) == ("Machine telemetry", "shift@plant.example")
    assert mail.get_content().strip() == MESSAGE["text"]
    topics = {message.get("topic"): message for message in web.taken}
    assert topics["press-hall"]["message"] == MESSAGE["text"]
    assert topics[None] == MESSAGE
    assert events == []


def test_a_receiver_that_is_down_delays_no_other():
    """While one receiver is tried again and again, the others get every notification."""
    with receiving() as web:
        notifier, events = notified([f"ntfy://127.0.0.1:{free_port()}/{SECRET}", web.url], (0, 600))
        for _ in range(3):
            notifier.send(MESSAGE)
        until(lambda: len(web.taken) == 3)
        notifier.use([])
    assert events == []


def test_alarms_that_wait_for_a_receiver_are_sent_together():
    """While a receiver is busy alarms gather to one notification, in order between the others."""
    with receiving() as web:
        web.ready.clear()
        notifier, events = notified([web.url])
        notifier.send(MESSAGE)
        until(lambda: web.paths)
        for n in range(3):
            notifier.send(AlarmNews(1, 0, [{"source": f"m-{n}"}], [f"hot: m-{n}"]))
        notifier.send(MESSAGE)
        web.ready.set()
        until(lambda: len(web.taken) == 3)
        notifier.use([])
    assert [message["event"] for message in web.taken] == ["report", "alarm", "report"]
    assert web.taken[1]["text"] == "3 alarms raised. hot: m-0; hot: m-1; hot: m-2"
    assert [alarm["source"] for alarm in web.taken[1]["alarms"]] == ["m-0", "m-1", "m-2"]
    assert events == []


def test_what_a_service_answers_is_an_event_without_its_address(caplog):
    """The reason is that of Apprise, without the words of the address, which may be secret."""
    caplog.set_level(logging.DEBUG)
    notifier, events = notified([f"ntfy://user:{SECRET}@127.0.0.1:{free_port()}/{SECRET}", f"mailto://{SECRET}"])
    notifier.send(MESSAGE)
    until(lambda: len(events) == 2)
    notifier.use([])
    ntfy, mail = sorted(events, key=lambda event: event["why"])
    assert ntfy["why"].startswith("receiver 1 (ntfy): A Connection error occurred sending ntfy:http://")
    assert mail["why"].startswith("receiver 2 (mailto): ")
    logged = [record.getMessage() for record in caplog.records if record.name == "etl"]
    assert SECRET not in json.dumps([logged, events])
    assert not logging.getLogger("apprise").propagate


def test_words_of_an_address_are_hidden():
    """Words are hidden as they stand in the address and as they are meant, and nothing inside other words."""
    address = "mailto://user:p%40ss@mail.example/to?key=a1"
    text = "The key a1 of user was refused by mail.example: p@ss, mailbox"
    assert without_secrets(text, address) == "The * * of * was refused by *.*: *@*, mailbox"


@pytest.mark.parametrize(
    ("address", "why", "hint"),
    [
        ("nfty://host/topic", "neither this program nor Apprise knows nfty://", "did you mean ntfy://?"),
        ("htps://host/hook", "neither this program nor Apprise knows htps://", "did you mean https://?"),
        ("slack://short", "Apprise cannot read this slack:// address", "as Apprise documents it"),
    ],
)
def test_an_address_that_apprise_cannot_use_has_a_problem(address, why, hint):
    """An unknown scheme is told from an address that lacks something."""
    problem = address_problem(address)
    assert problem[0] == why
    assert hint in problem[1]


def test_check_tries_every_receiver(site):
    """`etl check --notify` sends one message to each, says what each answered, and exits with 1 if one failed."""
    with receiving() as web:
        host = web.url.split("/")[2]
        site.save(notify={"urls": [web.url, f"ntfy://{host}/topic", f"ntfy://127.0.0.1:{free_port()}/topic"]})
        tried = site.etl("check", "--notify")
        assert [message.get("event") for message in web.taken] == ["test", None]
        assert tried.returncode == 1, tried.stderr
        first, second, third = tried.stdout.splitlines()[-3:]
        assert (first, second) == ("receiver 1 (http): accepted", "receiver 2 (ntfy): accepted")
        assert third.startswith("receiver 3 (ntfy): A Connection error")
        site.save(notify={"url": web.url})
        assert site.etl("check", "--notify").returncode == 0
    site.save(notify={})
    nobody = site.etl("check", "--notify")
    assert (nobody.returncode, "Nobody is notified" in nobody.stderr) == (1, True)


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_unknown_scheme_stops_a_command(site, command):
    """What Apprise does not know is a problem of the config, before anything starts."""
    site.save(notify={"urls": ["http://127.0.0.1:1/", f"nfty://{SECRET}"]})
    refused = site.etl(command)
    assert refused.returncode == 78
    assert "item 2 in urls cannot be used: neither this program nor Apprise knows nfty://" in refused.stderr
    assert SECRET not in refused.stderr


def test_a_running_process_sends_a_report_by_mail(site):
    """The nightly report reaches a mail server, and its sentence begins with the incidents."""
    closed_day(site)
    with receiving_mail() as (mailbox, address):
        site.save(notify={"urls": [address]})
        with site.running() as process:
            until(lambda: mailbox.taken)
            end(process)
    assert mailbox.taken[0].get_content().startswith("2026-01-05: ")
