"""A new kind of source is a module, a struct and an entry: polled, averaged and reloaded without any other change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pytest

from etl.config.sources.base import Source
from etl.config.sources.kinds import KINDS
from etl.readings.records import Answer, Failure
from etl.sources import registry
from etl.sources.contract import Content, Context, Deliver
from etl.sources.poll_threads import PendingPoll, PollThreads


class Counter(Source, frozen=True, kw_only=True):
    """Counts from a number on; from a negative one it fails."""

    key = "counter"
    label = "a counter"
    hints = Source.hints | {"counter": "write a number"}

    counter: int


class CounterTransport:
    """Polls counters with a client that blocks; a reload continues where the previous transport was."""

    def __init__(self, sources: Sequence[Counter], context: Context) -> None:
        previous = context.previous.counts if isinstance(context.previous, CounterTransport) else {}
        self.counts = {source.name: previous.get(source.name, source.counter) for source in sources}
        self._timeouts = {source.name: context.timeout(source) for source in sources}
        self._threads = PollThreads("counter", len(sources), self._read, self._explain, context.clock)

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        self._threads.start([PendingPoll(name, self._timeouts[name], deliver) for name in names])

    def close(self) -> None:
        self._threads.close()

    def _read(self, poll: PendingPoll) -> Content:
        self.counts[poll.name] += 1
        body = b'{"temperature":%d,"root":%f}' % (self.counts[poll.name], math.sqrt(self.counts[poll.name]))
        return Content([Answer(body, mark=self.counts[poll.name])])

    @staticmethod
    def _explain(_: PendingPoll, error: Exception) -> Failure:
        return Failure("negative", str(error))


@pytest.fixture
def counting(plant, monkeypatch):
    """A plant with two counters, a good one and one that fails, beside a file."""
    monkeypatch.setitem(KINDS, "counter", Counter)
    monkeypatch.setitem(registry.TRANSPORTS, "counter", (__name__, "CounterTransport"))
    entries = [("good", 0), ("bad", -9)]
    sources = [{"name": name, "counter": number} for name, number in entries]
    return plant(sources=[*sources, {"name": "machine-1", "file": "readings.json"}])


def test_a_kind_is_polled_beside_the_others(counting):
    """Readings of the kind are raw lines and averages, its failures events with a reason; a mark stays inside."""
    counting.tick(3)
    lines = [line for line in counting.records("raw") if line["_source"] == "good"]
    assert [line["temperature"] for line in lines] == [1, 2, 3]
    assert [*lines[0]] == ["temperature", "root", "_source", "_polled_at"]
    averages = [line for line in counting.records("averages") if line["source"] == "good"]
    assert [line["average_temperature"] for line in averages] == [1.0, 1.5, 2.0]
    (down,) = counting.events("source_down")
    assert (down["source"], down["reason"]) == ("bad", "negative")
    assert sum(line["_source"] == "machine-1" for line in counting.records("raw")) == 3


def test_a_reload_hands_the_previous_transport_on(counting):
    """What a transport keeps goes on after a reload, and a kind that is no longer in the config is closed."""
    counting.tick()
    previous = counting.pipeline._opened["counter"]
    counting.reload()
    counting.tick()
    assert counting.pipeline._opened["counter"].counts["good"] == 2
    assert previous.counts["good"] == 1
    counting.config["sources"] = [{"name": "machine-1", "file": "readings.json"}]
    counting.reload()
    assert [*counting.pipeline._opened] == ["file"]


def test_a_kind_without_sources_is_not_imported(plant, monkeypatch):
    """The module of a kind is imported only when a source of it exists."""
    monkeypatch.setitem(KINDS, "counter", Counter)
    monkeypatch.setitem(registry.TRANSPORTS, "counter", ("no.such.module", "CounterTransport"))
    plant().tick()
    with pytest.raises(ModuleNotFoundError):
        plant(sources=[{"name": "good", "counter": 0}])


def test_every_kind_has_a_transport():
    """The registry has an entry for each kind, and no other."""
    assert registry.TRANSPORTS.keys() == KINDS.keys()
