"""Sources that go down and answer again and again."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.live.sinks.console import Console, Traces
from etl.live.standing import FLAPPING_OUTAGES, MAX_OUTAGES, Flapping, flapping_of, flapping_period

NOW = 1_795_341_600.0


@pytest.mark.parametrize(
    ("outages_ago_s", "interval", "flapping"),
    [((100, 2000), 10, None), ((0, 100, 3599), 10, Flapping(3, NOW - 3599)), ((0, 100, 3600), 10, None),
     ((0, 100, 3600), 60, None), ((0, 100, 3600), 61, Flapping(3, NOW - 3600)),
     ((100, 200, 300, -86_400), 10, Flapping(3, NOW - 300)),
     ((100, 200, -86_400), 10, None), ((), 10, None)],
)  # fmt: skip
def test_a_source_flaps_after_three_outages_within_the_period(outages_ago_s, interval, flapping):
    """Three outages within an hour, or within 60 intervals where these are longer, and not those of a wrong clock."""
    assert flapping_of([NOW - ago for ago in outages_ago_s], NOW, interval) == flapping


@given(st.lists(st.floats(0, 10_000)), st.floats(0.1, 86_400))
def test_no_source_flaps_longer_than_the_period(ages, interval):
    """Whatever the outages were, a period after the last one the source does not flap."""
    outages = [NOW - age for age in ages]
    assert flapping_of(outages, NOW + flapping_period(interval) + 1, interval) is None


def go_down(here, times):
    """Let the source go down and answer again so many times."""
    readings = here.root / "readings.json"
    content = readings.read_bytes()
    for _ in range(times):
        readings.unlink()
        here.tick()
        readings.write_bytes(content)
        here.tick()


def flapping_in(here):
    """What the console is told of flapping sources."""
    console = Console(here.loaded, here.pipeline.standing, here.traces, here.pipeline.alarms)
    return orjson.loads(b"".join(console.overview(here.clock(), 0, [])))["flapping"]


def test_the_overview_has_the_sources_that_flap(plant):
    """A source with three outages is listed with their number and the first, until an hour has passed."""
    here = plant(NOW, traces=Traces(2, NOW))
    go_down(here, 2)
    assert flapping_in(here) == []
    go_down(here, 1)
    first, *_ = here.events("source_down")
    assert flapping_in(here) == [{"source": "machine-1", "outages": 3, "since": first["at"]}]
    here.tick()
    assert len(flapping_in(here)) == 1
    here.clock.now += 3600
    assert flapping_in(here) == []


def test_an_outage_that_lasts_is_one(plant):
    """A source that stays down does not flap, however often its polls fail."""
    here = plant(NOW, traces=Traces(2, NOW))
    (here.root / "readings.json").unlink()
    here.tick(20)
    assert flapping_in(here) == []


def restart(here):
    here.open()
    here.pipeline.restore_events()


def test_a_restart_remembers_the_outages(plant):
    """After a restart a flapping source flaps as before, and an outage that lasts across it counts once."""
    here = plant(NOW, traces=Traces(2, NOW))
    go_down(here, 3)
    before = flapping_in(here)
    restart(here)
    assert flapping_in(here) == before
    (here.root / "readings.json").unlink()
    for _ in range(FLAPPING_OUTAGES):
        restart(here)
        here.tick()
    assert flapping_in(here) == [{**before[0], "outages": 4}]


def test_a_reload_forgets_the_outages_of_a_removed_source(plant):
    """A source that leaves the config and comes back starts without outages."""
    here = plant(NOW, traces=Traces(2, NOW))
    go_down(here, 3)
    sources = here.config["sources"]
    for names in ([{"name": "machine-2", "file": "readings.json"}], sources):
        here.config["sources"] = names
        here.reload()
    assert flapping_in(here) == []


def test_the_memory_of_outages_is_bounded(plant):
    """Of a source that goes down with every other poll the newest outages are remembered."""
    here = plant(NOW, traces=Traces(2, NOW))
    go_down(here, MAX_OUTAGES + 5)
    assert flapping_in(here)[0]["outages"] == MAX_OUTAGES
    assert flapping_in(here)[0]["since"] == here.events("source_down")[5]["at"]
