"""A real process and a real broker: either is stopped or killed, or the disk fills, while messages come."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter

import pytest

from tests.support.brokers import MOSQUITTO, TOPIC, Broker, Publisher
from tests.support.process import Site, end, not_refused, until
from tests.support.small_disk import full, small_disk

pytest.importorskip("paho.mqtt", reason="the extra mqtt is not installed")
KILLS = 8


@pytest.fixture
def broker(tmp_path):
    if not MOSQUITTO:
        pytest.skip("no mosquitto here (Debian: mosquitto)")
    started = Broker(tmp_path)
    yield started
    started.close()


@pytest.fixture
def publisher(broker):
    with Publisher(broker) as publisher:
        yield publisher


@pytest.fixture
def site(tmp_path, broker):
    """A process that reads the broker beside a machine over HTTP."""
    site = Site(tmp_path)
    machine = {"name": "machine-1", "url": f"http://127.0.0.1:{site.port}/data"}
    site.save(sources=[{"name": "m", "mqtt": f"{broker.address}/{TOPIC}"}, machine], output={"stdout": []})
    return site


def written(site: Site) -> list[int]:
    """The numbers of the messages in the raw log, in its order."""
    return [line["n"] for line in site.lines("raw") if line["_source"] == "m"]


def check(site: Site) -> None:
    """The folder is sound, and remains it when everything is derived again."""
    assert site.etl("verify").returncode == 0
    assert site.etl("rebuild").returncode == 0
    assert site.etl("verify").returncode == 0


def test_through_clean_stops_each_message_is_written_once(site, publisher):
    """What is published while the process runs, stops, is down and starts is in the log exactly once, in order."""
    with site.running() as process:
        until(lambda: site.lines("raw"))
        sent = publisher.send(5)
        until(lambda: len(written(site)) == 5)
        end(process)
    for _ in range(3):
        sent += publisher.send(30)
        with site.running() as process:
            count = len(site.lines("raw"))
            until(lambda seen=count: len(site.lines("raw")) > seen)
            sent += publisher.send(random.randrange(1, 60))
            sent += publisher.queue(40)
            end(process)
    with site.running() as process:
        sent += publisher.send(1)
        until(lambda: not_refused(site))
        until(lambda: sent[-1] in written(site))
        end(process)
    assert written(site) == sent
    check(site)


def test_through_kills_no_message_is_lost(site, publisher):
    """After kill -9 at any moment each message is in the log at least once, and the folder is sound."""
    sent: list[int] = []
    for _ in range(KILLS):
        with site.running() as process:
            count = len(site.lines("raw"))
            until(lambda seen=count: len(site.lines("raw")) > seen)
            sent += publisher.queue(200)
            time.sleep(random.uniform(0, 0.05))
            process.kill()
            process.wait()
    with site.running() as process:
        until(lambda: not_refused(site))  # its signal handlers stand
        until(lambda: {*written(site)} == {*sent})
        end(process)
    assert {*written(site)} == {*sent}
    assert max(Counter(written(site)).values()) <= KILLS + 1
    check(site)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_broker_that_restarts_loses_nothing_and_disturbs_nobody(number, site, broker, publisher):
    """Events say that the source is down and up, the other one is read on, and all messages are there."""
    with site.running() as process:
        until(lambda: site.lines("raw"))
        sent = publisher.send(20)
        until(lambda: len(written(site)) == 20)
        broker.stop(number)
        until(lambda: site.events("source_down"))
        polled = len(site.lines("raw"))
        until(lambda: len(site.lines("raw")) > polled + 5)
        if number == signal.SIGTERM:
            sent += publisher.queue(50)
        broker.start()
        until(lambda: site.events("source_up"))
        sent += publisher.send(5)
        until(lambda: {*written(site)} == {*sent})
        end(process)
    assert {event["source"] for event in site.events("source_down")} == {"m"}
    assert {*written(site)} == {*sent}
    check(site)


def test_a_full_disk_loses_no_message(site, publisher):
    """Nothing is acknowledged while the disk is full; all is there once it has room, also after a kill meanwhile."""
    with small_disk(site, full):
        with site.running() as process:
            until(lambda: site.lines("raw"))
            sent = publisher.send(20)
            until(lambda: len(written(site)) == 20)
            with full(site, process):
                until(lambda: "Cannot write to output: " in (site.root / "stderr").read_text())
                sent += publisher.send(100)
                process.kill()
                process.wait()
        with site.running() as process:
            until(lambda: {*written(site)} == {*sent})
            with full(site, process):
                until(lambda: "Cannot write to output: " in (site.root / "stderr").read_text())
                more = publisher.send(100)
            until(lambda: {*written(site)} == {*sent, *more})
            end(process)
        assert written(site)[-100:] == more
        check(site)
