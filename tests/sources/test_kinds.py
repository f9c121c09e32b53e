"""What every kind of source keeps to, opened from a config: deadlines, failures, neighbours, reload, the end."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from etl.config.load import load
from etl.readings.answers import parse
from etl.readings.records import RejectedError
from etl.sources.registry import open_transports
from tests.support.configs import check, written
from tests.support.http_sources import PATIENCE, Inbox, poll_all
from tests.support.kinds import KINDS, Machine, context
from tests.support.process import Site, until

DEADLINE_S = 0.3


def each(*behaviours: str):
    """A test parameter for each kind that has machines of one of these behaviours."""
    return [
        pytest.param(name, behaviour, id=f"{name}-{behaviour}")
        for name, kind in KINDS.items()
        for behaviour in behaviours
        if behaviour in kind.machines
    ]


@pytest.fixture
def machine(tmp_path, nothing_left):
    """Start machines of a kind; they are closed when the test ends."""
    machines: list[Machine] = []

    def start(kind: str, behaviour: str) -> Machine:
        machines.append(KINDS[kind].machines[behaviour](tmp_path))
        return machines[-1]

    yield start
    for started in machines:
        started.close()


@pytest.fixture
def opened(tmp_path, machine):
    """Open the transport of a kind by a config with these sources; it is closed when the test ends."""
    transports = []

    def build(kind: str, **sources: dict):
        entries = [{"name": name, **keys} for name, keys in sources.items()]
        loaded = load(written(tmp_path, yaml.safe_dump({"sources": entries, **KINDS[kind].settings})))
        how = context(tmp_path, http_client=loaded.config.transport)
        transports.extend(open_transports(loaded.sources, how, {}).values())
        return transports[-1]

    yield build
    for transport in transports:
        transport.close()


def read(transport, kind: str, name: str = "m") -> list[dict]:
    """The readings of one poll; of a source that sends on its own, the first that come."""
    inbox = poll_all(transport, [name])
    if KINDS[kind].sends:
        until(lambda: any(poll.failure or poll.answers for poll in inbox.polls), PATIENCE)
    return [reading for poll in inbox.polls for reading in readings(poll)]


def names(running) -> set[str]:
    """The sources that have readings."""
    return {line["_source"] for line in running.records("raw")}


def tick_until(running, condition) -> None:
    """Tick until a condition holds: once, but for sources that send on their own."""
    until(lambda: running.tick() or condition(), PATIENCE)


def readings(poll) -> list[dict]:
    """The readings of a poll; none if it failed or was rejected."""
    try:
        return [parse(answer.body) for answer in poll.answers]
    except RejectedError:
        return []


@pytest.mark.parametrize(("kind", "_"), each("answers"))
def test_a_machine_that_answers_is_a_reading(kind, _, machine, opened):
    """An answer is a JSON object with the parameters of the machine."""
    reading, *others = read(opened(kind, m=machine(kind, "answers").keys), kind)
    assert isinstance(reading["temperature"], float)
    assert not others or KINDS[kind].sends


@pytest.mark.parametrize(("kind", "behaviour"), each("refuses", "garbage", "hangs"))
def test_a_machine_without_a_reading_fails_and_disturbs_no_neighbour(kind, behaviour, machine, opened):
    """A poll that gives no reading is a failure with a reason; another machine of the kind answers beside it."""
    bad = machine(kind, behaviour).keys | ({"timeout": f"{DEADLINE_S}s"} if behaviour == "hangs" else {})
    inbox = poll_all(opened(kind, bad=bad, good=machine(kind, "answers").keys), ["bad", "good"])
    failed = inbox.first("bad")
    assert readings(failed) == []
    assert failed.failure or failed.rejections or failed.answers
    assert readings(inbox.first("good"))
    if behaviour == "hangs":
        assert failed.failure.reason == "timeout"
        assert inbox.took["bad"] >= DEADLINE_S


@pytest.mark.parametrize(("kind", "_"), each("answers"))
def test_a_machine_that_comes_back_is_read_again(kind, _, machine, opened):
    """Polls fail while a machine is away, and give readings once it is back."""
    server = machine(kind, "answers")
    transport = opened(kind, m=server.keys)
    assert read(transport, kind)
    server.stop()
    until(lambda: poll_all(transport, ["m"]).first("m").failure, PATIENCE)
    server.start()
    assert until(lambda: read(transport, kind), PATIENCE)


@pytest.mark.parametrize(("kind", "_"), each("hangs"))
def test_a_machine_that_hangs_holds_up_no_neighbour_and_not_the_end(kind, _, machine, opened):
    """Others answer while a machine hangs; closing ends its poll at once, and a poll that is started later."""
    bad, good = machine(kind, "hangs").keys, machine(kind, "answers").keys
    transport, inbox = opened(kind, bad=bad, good=good), Inbox()
    transport.start(["bad", "good"], inbox)
    inbox.wait(["good"])
    assert readings(inbox.first("good"))
    assert inbox.took.keys() == {"good"}
    transport.close()
    inbox.wait(["bad"])
    assert inbox.of("bad").failure.reason == "closed"
    assert poll_all(transport, ["good"]).of("good").failure.reason == "closed"


@pytest.mark.parametrize(("kind", "_"), each("answers"))
def test_a_source_that_is_killed_and_restarted_is_down_and_up(kind, _, machine, plant):
    """A running pipeline records that a source is down and up again, and goes on reading the others."""
    server = machine(kind, "answers")
    sources = [{"name": "m", **server.keys}, {"name": "fixture", "file": "readings.json"}]
    running = plant(sources=sources, **KINDS[kind].settings)
    try:
        tick_until(running, lambda: running.records("raw")[-1]["_source"] == "m")
        server.stop()
        tick_until(running, lambda: running.events("source_down"))
        server.start()
        tick_until(running, lambda: running.events("source_up"))
    finally:
        running.close()
    assert [event["event"] for event in running.events("source_down", "source_up")] == ["source_down", "source_up"]
    lines = Counter(line["_source"] for line in running.records("raw"))
    assert lines["fixture"] >= 3
    assert lines["m"] >= 2
    assert KINDS[kind].sends or (lines["fixture"], lines["m"]) == (3, 2)


@pytest.mark.parametrize(("kind", "_"), each("answers"))
def test_a_reload_keeps_a_source_and_adds_another(kind, _, machine, plant):
    """After a reload both sources are read, the first one as before it."""
    server = machine(kind, "answers")
    running = plant(sources=[{"name": "m", **server.keys}], **KINDS[kind].settings)
    try:
        tick_until(running, lambda: names(running) == {"m"})
        running.config["sources"] = [{"name": "m", **server.keys}, {"name": "new-{n}", **server.keys, "count": 2}]
        running.reload()
        tick_until(running, lambda: names(running) == {"m", "new-1", "new-2"})
    finally:
        running.close()
    assert running.events("source_down", "rejected") == []


@pytest.mark.parametrize(("kind", "behaviour"), each("answers", "refuses"))
def test_once_polls_the_source(kind, behaviour, machine, tmp_path):
    """`etl once` writes the reading and exits with 0, or with 69 if there is none."""
    sources = [{"name": "m", **machine(kind, behaviour).keys}]
    site = Site(tmp_path)
    site.save(sources=sources, interval="60s", **KINDS[kind].settings)
    assert site.etl("once").returncode == (0 if behaviour == "answers" else 69)
    lines = len(site.lines("raw"))
    assert lines == (behaviour == "answers") or (lines and KINDS[kind].sends)


@pytest.mark.parametrize(("kind", "_"), each("answers"))
def test_check_accepts_the_source(kind, _, machine, tmp_path):
    """`etl check` finds nothing wrong with a source of the kind."""
    config = {"sources": [{"name": "m", **machine(kind, "answers").keys}], **KINDS[kind].settings}
    ended = check(written(tmp_path, yaml.safe_dump(config)), tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("1 source")
