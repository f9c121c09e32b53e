"""A source with ever new machines costs a bounded amount of memory, and nobody else anything."""

from __future__ import annotations

import orjson
import pytest

from etl.audit.verify import Proof
from etl.live import writer
from etl.live.sinks.console import Traces
from etl.readings.averages import alive
from etl.storage.settings_log import SettingsLog
from tests.support.transport import run_tick, use_records

MACHINES = 20
"""Machines of a source here, instead of thousands."""
NOW = 1_795_341_600.0


@pytest.fixture
def flooded(scripted, monkeypatch):
    """A plant whose source a may send new machines with every answer, and whose source b does not."""
    monkeypatch.setattr(alive, "MAX_MACHINES", MACHINES)
    here = scripted(traces=Traces(2, NOW))
    use_records(here, "@")
    return here


def send(here, ids, source="a"):
    """One tick in which a source sends a reading of each of these machines, and the others one of theirs."""
    here.script.answers[source] = orjson.dumps([{"id": n, "temperature": 1} for n in ids])
    run_tick(here)


def check_sound(here):
    proof = Proof(SettingsLog(here.folder, here.loaded.settings), [], lambda _: False)
    assert [finding.text for finding in proof.findings() if finding.wrong] == []


def shown(here):
    """The ids of source a in `/averages`, in the windows and in the traces, which must be the same ones."""
    kept = [machine_id for source, machine_id in here.pipeline.standing.latest if source == "a"]
    assert [machine_id for source, machine_id in here.pipeline.writer._windows if source == "a"] == kept
    assert [machine_id for source, machine_id in here.traces._slots if source == "a"] == kept
    return kept


def test_a_source_has_a_limited_number_of_machines(flooded):
    """A further machine is rejected before it is a raw line, in one event a poll; those there are go on."""
    here = flooded
    send(here, range(15))
    send(here, range(10, 40))
    assert [line["id"] for line in here.records("raw") if line["_source"] == "a"] == [*range(15), *range(10, 20)]
    (event,) = here.events("rejected")
    assert (event["source"], event["reason"], event["count"]) == ("a", "too_many", 20)
    assert here.events("source_down") == []
    assert len(here.records("raw")) == 25 + 4
    check_sound(here)


def test_a_silent_machine_is_forgotten_everywhere_and_makes_room(flooded):
    """After an hour of silence a machine has no window, no latest line and no trace, and another takes its place."""
    here = flooded
    send(here, range(20))
    for _ in range(13):
        here.clock.now += 290
        send(here, range(5))
    assert shown(here) == [0, 1, 2, 3, 4]
    send(here, range(100, 130))
    assert shown(here) == [*range(5), *range(100, 115)]
    check_sound(here)


def test_machines_in_the_raw_log_count_after_a_restart(flooded):
    """A process that starts again knows the machines of the last hour from the raw log."""
    here = flooded
    send(here, range(20))
    here.pipeline.writer.finish()
    here.open()
    here.script.clock = here.clock
    use_records(here, "@")
    send(here, range(50, 60))
    assert len(here.records("raw")) == 20 + 2 + 2
    check_sound(here)


def test_machines_in_the_raw_log_count_after_a_reload(flooded):
    """The first answer after a reload brings no further machines either."""
    here = flooded
    send(here, range(20))
    here.reload()
    use_records(here, "@")
    send(here, range(50, 60))
    assert len(here.records("raw")) == 20 + 2 + 2
    check_sound(here)


def test_long_ids_count_by_their_length(flooded, monkeypatch):
    """A few ids of megabytes are as many as thousands of short ones."""
    monkeypatch.setattr(alive, "MAX_ID_CHARACTERS", 1000)
    here = flooded
    send(here, ["x" * 400, "y" * 400, "z" * 400, "short"])
    assert [line["id"][:1] for line in here.records("raw") if line["_source"] == "a"] == ["x", "y", "s"]


def test_a_machine_that_was_forgotten_goes_on_where_the_clock_was_set_back(flooded):
    """Forgetting changes no line: set back into the hour after its last reading, a machine's window goes on."""
    here = flooded
    send(here, [1, 2])
    here.clock.now += 1000
    send(here, [1])
    here.clock.now += 4000
    send(here, [1])
    assert shown(here) == [1]
    here.clock.now -= 3000
    send(here, [1, 2])
    last = [line for line in here.records("averages") if line["id"] == 2]
    assert [line["readings"] for line in last] == [1, 2]
    check_sound(here)


def test_what_is_shown_of_a_machine_is_short(flooded):
    """A status, timestamp or id of any length is shortened where it is kept to be shown; the files have all of it."""
    here = flooded
    long = {"status": "x" * 100_000, "timestamp": ["y" * 100_000], "id": "z" * 100_000, "temperature": 1}
    here.script.answers["b"] = orjson.dumps(long)
    run_tick(here)
    (line,) = (line for (source, _), line in here.pipeline.standing.latest.items() if source == "b")
    assert len(line) < 1000
    assert orjson.loads(line)["average_temperature"] == 1
    assert any(raw["status"] == long["status"] for raw in here.records("averages"))


def test_many_broken_records_are_one_event(flooded):
    """An answer of thousands of broken records does not fill the events log."""
    here = flooded
    here.script.answers["a"] = orjson.dumps([*range(5000), {"id": 1}])
    run_tick(here)
    (event,) = here.events("rejected")
    assert (event["reason"], event["count"]) == ("not_object", 5000)
    assert here.pipeline.standing.counts["rejected"] == 5000


def test_the_search_for_silent_machines_waits_for_the_disk(flooded, monkeypatch):
    """While lines wait for the disk, no window is forgotten: they may go on with it."""
    here = flooded
    send(here, [1, 2])
    forgotten = []
    monkeypatch.setattr(writer, "forget", lambda windows, before: forgotten.append(before))
    monkeypatch.setattr(type(here.pipeline.logs.raw), "flush", lambda self: (_ for _ in ()).throw(OSError("full")))
    here.clock.now += 5000
    send(here, [1])
    assert forgotten == []
