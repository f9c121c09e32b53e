"""Alarms files that do not follow from the raw log are wrong, and derived again."""

from __future__ import annotations

import pytest

from etl.storage.latest import raised_alarms
from tests.support.folders import prove, redo

RULES = [{"name": "busy", "parameter": "speed", "above": 0}, {"name": "hot", "parameter": "temperature", "above": 45}]
CHANGES = {
    "changed": (lambda data: data.replace(b'"limit":0.0', b'"limit":1.0', 1), "limit is 1.0, expected 0.0"),
    "cut": (lambda data: data[: data.rindex(b"\n", 0, -1) + 1], "1 missing or torn line at the end"),
    "surplus": (lambda data: data + data.splitlines(keepends=True)[0], "1 surplus line at the end"),
}


@pytest.fixture
def here(plant):
    """A folder with alarms, whose process has ended."""
    built = plant(alarms=RULES)
    built.tick(40)
    built.pipeline.writer.finish()
    built.close()
    built.settings = built.loaded.settings
    return built


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_alarms_file_is_found_and_derived_again(here, change):
    """Verify names the line and what it should be; rebuild restores the bytes."""
    change_file, text = CHANGES[change]
    whole = here.bytes_of("alarms")
    assert prove(here)[0] == []
    path = here.folder.path("alarms", "2026-11-22")
    path.write_bytes(change_file(path.read_bytes()))
    (wrong,) = prove(here)[0]
    assert wrong.startswith("alarms/2026-11-22.jsonl")
    assert text in wrong
    lines, events = redo(here)
    assert "alarms/2026-11-22.jsonl: derived again" in lines
    assert events == ["repaired"]
    assert here.bytes_of("alarms") == whole


def test_a_lost_alarms_file_is_wrong(here):
    """A day with readings under alarms has a file, even if nothing is raised."""
    here.folder.path("alarms", "2026-11-22").unlink()
    assert "alarms/2026-11-22.jsonl" in prove(here)[0][0]


def test_what_is_raised_is_read_from_the_newest_file(here):
    """Each alarm that was raised and not ended is listed once."""
    raised = raised_alarms(here.folder)
    assert ("busy", "machine-1") in {(alarm["alarm"], alarm["source"]) for alarm in raised}
    assert all(alarm["state"] == "raised" for alarm in raised)


def test_a_lost_file_of_a_day_that_only_ends_alarms_is_derived_at_the_next_start(plant, monkeypatch):
    """Its lines are under settings without alarms; it continues and ends what the day before had raised."""
    monkeypatch.setattr("etl.storage.recovery.start.TAIL_BYTES", 1)  # so that the day is not derived again anyway
    here = plant(start=1_795_392_000.0 - 15, alarms=RULES)
    here.tick(2)
    here.config["alarms"] = []
    here.reload()
    here.tick(2)
    here.clock.now += 86_400
    here.tick(2)
    here.pipeline.writer.finish()
    path = here.folder.path("alarms", "2026-11-23")
    whole = path.read_bytes()
    assert b'"continued":true' in whole
    assert b'"reason":"settings"' in whole
    here.close()
    path.unlink()
    here.open()
    here.tick()
    assert path.read_bytes() == whole
