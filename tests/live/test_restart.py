"""What console and API show between a start and the first reading: the ends of the files."""

from __future__ import annotations

import gzip
import shutil
import urllib.error
from datetime import datetime

import orjson
import pytest

from etl.live.sinks.console import Console, Traces
from etl.readings.lines import raw_line
from etl.readings.times import rfc3339
from etl.storage import latest
from tests.support.plant import FIXTURE
from tests.support.process import Site, end, not_refused, until

MORNING = 1_795_341_600.0
"""2026-11-22T10:00:00Z."""
NAMES = ("a", "b")


@pytest.fixture
def site_of_two(plant):
    """A plant of two sources, whose readings the console shows."""
    here = plant(MORNING, traces=Traces(2, MORNING), sources=[{"name": name, "file": f"{name}.json"} for name in NAMES])
    for name in NAMES:
        shutil.copy(FIXTURE, here.root / f"{name}.json")
    return here


def restart(here):
    """Start another process on the folder; nothing is polled yet."""
    here.traces = Traces(2, here.clock())
    here.open()
    here.pipeline.restore_events()
    here.pipeline.restore_readings()


def shown(here):
    """The latest averages lines and the values of the traces, by source."""
    console = Console(here.loaded, here.pipeline.standing, here.traces, here.pipeline.alarms)
    answer = orjson.loads(b"".join(console.overview(here.clock(), 0, [])))
    averages = {line["source"]: line for line in map(orjson.loads, here.pipeline.standing.latest.values())}
    return averages, {entry["latest"]["source"]: entry["trace"] for entry in answer["machines"]}


def last_lines(here):
    return {line["source"]: line for line in here.records("averages")}


def milliseconds(moment):
    return round(1000 * datetime.fromisoformat(moment).timestamp())


def traces_of(here, count=60):
    """The last readings in the raw log by source, as a trace."""
    return {
        name: [
            [milliseconds(line["_polled_at"]), line["temperature"], line["fan_speed"]]
            for line in here.records("raw") if line["_source"] == name
        ][-count:]
        for name in NAMES
    }  # fmt: skip


def test_a_start_shows_the_last_lines(site_of_two):
    """The latest averages lines, the readings of the last ten minutes and the latest events are there at once."""
    here = site_of_two
    here.tick(70)
    here.pipeline.events.record("stop", reason="SIGTERM")
    here.pipeline.writer.tick()
    here.clock.now += 3 * 86_400
    restart(here)
    averages, traces = shown(here)
    assert averages == last_lines(here)
    assert traces == traces_of(here)
    assert list(map(orjson.loads, here.pipeline.events.latest)) == here.records("events")
    assert here.pipeline.not_ready() == ["no reading was written yet"]
    before = traces_of(here)
    here.tick()
    assert shown(here) == (last_lines(here), {name: [*before[name], *traces_of(here, 1)[name]][-60:] for name in NAMES})


def test_only_configured_sources_are_shown(site_of_two):
    """The machines of a source that was removed meanwhile are not shown."""
    here = site_of_two
    here.tick(3)
    here.config["sources"] = here.config["sources"][1:]
    restart(here)
    assert [set(part) for part in shown(here)] == [{"b"}, {"b"}]


@pytest.mark.parametrize(
    "junk", [b"junk\n", b"\0" * 4096, b'{"source":"a","polled_at":1}\n[]\n', b'{"source":"a"', b"\xff\n"]
)
def test_damaged_last_lines_are_skipped(site_of_two, junk):
    """Damaged and torn lines at the ends of the files are skipped; the lines before them are shown."""
    here = site_of_two
    here.tick(3)
    here.pipeline.events.record("stop")
    here.pipeline.writer.tick()
    expected = last_lines(here), traces_of(here), here.records("events")
    here.close()
    for kind in ("raw", "averages", "events"):
        with here.folder.path(kind, "2026-11-22").open("ab") as file:
            file.write(junk)
    restart(here)
    assert shown(here) == expected[:2]
    assert list(map(orjson.loads, here.pipeline.events.latest)) == expected[2]


def test_the_day_before_is_shown_just_after_midnight(site_of_two):
    """Just after midnight, what only yesterday's files hold is shown too."""
    here = site_of_two
    here.clock.now += 14 * 3600 - 25
    here.tick(3)
    (here.root / "b.json").unlink()
    here.tick(1)
    assert here.folder.days("raw") == ["2026-11-22", "2026-11-23"]
    restart(here)
    assert shown(here) == (last_lines(here), traces_of(here))


def test_compressed_days_are_shown(site_of_two, caplog):
    """If the newest files are compressed, they are read; a damaged one is logged, and the start goes on."""
    here = site_of_two
    here.tick(3)
    expected = last_lines(here), traces_of(here)
    here.close()
    for kind in ("raw", "averages", "events"):
        path = here.folder.path(kind, "2026-11-22")
        if path.exists():
            here.folder.packed_path(kind, "2026-11-22").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    restart(here)
    assert shown(here) == expected
    packed = here.folder.packed_path("averages", "2026-11-22")
    packed.write_bytes(packed.read_bytes()[:-20])
    restart(here)
    assert shown(here) == ({}, {})
    assert f"{packed} is damaged: " in caplog.text


def test_a_clock_that_was_set_back_hides_nothing(site_of_two):
    """After the clock was set back, the last lines of the file count, whatever their times are."""
    here = site_of_two
    here.tick(3)
    here.clock.now -= 2 * 3600
    here.tick(3)
    restart(here)
    assert shown(here) == (last_lines(here), traces_of(here))


def test_a_line_of_the_far_future_hides_nothing(site_of_two):
    """A line that a wrong clock dated years ahead does not hide the lines before it."""
    here = site_of_two
    here.tick(3)
    expected = set(here.pipeline.standing.latest)
    reading = {"temperature": 1, "fan_speed": 1}
    with here.folder.path("raw", "2026-11-22").open("ab") as file:
        file.write(raw_line({"id": 99, **reading}, "a", MORNING + 1e9))
    with here.folder.path("averages", "2026-11-22").open("ab") as file:
        file.write(orjson.dumps({"source": "a", "id": 99, "polled_at": rfc3339(MORNING + 1e9)}) + b"\n")
    restart(here)
    assert expected <= set(here.pipeline.standing.latest)
    assert [len(here.traces.of(machine)) for machine in expected] == [3, 3]


def test_a_machine_that_was_silent_for_long_is_not_shown(site_of_two):
    """A machine that was silent before the newest line for so long that its windows start over is left out."""
    here = site_of_two
    here.tick(2)
    (here.root / "b.json").unlink()
    here.clock.now += 3700
    here.tick(1)
    restart(here)
    assert set(shown(here)[0]) == {"a"}


def test_only_the_ends_of_large_files_are_read(plant, monkeypatch):
    """Of the files only the last bytes are read; machines that wrote in them are shown, with as many readings."""
    here = plant(MORNING, sources=[{"name": "hall", "file": "hall.json", "records": "[]"}])
    machines = [{"id": n, "temperature": 20.5, "fan_speed": 5} for n in range(200)]
    (here.root / "hall.json").write_bytes(orjson.dumps({"m": machines}))
    here.config["sources"][0]["records"] = "m"
    here.reload()
    here.tick(20)
    round_bytes = sum(len(line) for _, line in list(here.folder.lines("averages", "2026-11-22"))[-200:])
    monkeypatch.setattr(latest, "MAX_START_BYTES", 3 * round_bytes // 2)
    restart(here)
    assert len(here.pipeline.standing.latest) == 200
    kept = [len(here.traces.of(machine)) for machine in here.pipeline.standing.latest]
    assert set(kept) <= {1, 2, 3}


def test_a_restarted_process_shows_its_machines_before_the_first_reading(tmp_path):
    """While the sources of a restarted process do not answer, API and console show the last lines with their times."""
    site = Site(tmp_path)
    shutil.copy(FIXTURE, tmp_path / "press.json")
    site.save(interval="1s", sources=[{"name": "press", "file": "press.json"}], output={"stdout": []})
    with site.running() as process:
        until(lambda: len(site.lines("averages")) > 3)
        end(process)
    last, events = site.lines("averages")[-1], site.lines("events")
    (tmp_path / "press.json").unlink()
    with site.running() as process:
        until(lambda: not_refused(site))
        assert site.ask("/averages") == [last]
        assert site.ask("/events")[: len(events)] == events
        overview = site.ask("/console.json")
        assert [entry["latest"] for entry in overview["machines"]] == [last]
        assert len(overview["machines"][0]["trace"]) == len(site.lines("raw"))
        assert overview["not_ready"] == ["no reading was written yet"]
        with pytest.raises(urllib.error.HTTPError):
            site.ask("/readyz")
        until(lambda: site.ask("/console.json")["down"])
        assert site.ask("/averages") == [last]
        end(process)
