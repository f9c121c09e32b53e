"""`etl status`: the state of every source, read from the ends of the files."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from freezegun import freeze_time

from etl.cli.status import MAX_ROWS, read_state, show
from etl.readings.lines import raw_line
from tests.support import commands
from tests.support.plant import FIXTURE
from tests.support.process import Site, end, until

MORNING = 1_795_341_600.0


def status(here, running=True):
    """The state of a plant's folder now."""
    names = [source.name for source in here.loaded.sources]
    return read_state(here.folder, here.loaded, names, here.clock.now, running)


def by_name(state):
    return {source["source"]: source for source in state["sources"]}


def table(state):
    out = io.StringIO()
    show(state, out)
    return out.getvalue()


def test_a_source_shows_its_last_reading(plant):
    """The last raw line of each source, its age and its values by parameter; the newest one's age is the lag."""
    here = plant(sources=[{"name": name, "file": "readings.json"} for name in ("b", "a")])
    here.tick(3)
    state = status(here)
    last = here.records("raw")[-1]
    assert [source["source"] for source in state["sources"]] == ["a", "b"]
    assert state["sources"][0] == {
        "source": "a",
        "state": "up",
        "since": None,
        "reason": None,
        "last_reading": last["_polled_at"],
        "age": 10.0,
        "machines": 1,
        "status": last["status"],
        "values": {"temperature": last["temperature"], "speed": last["fan_speed"]},
        "no_number": None,
    }
    assert (state["lag"], state["last_reading"], state["up"]) == (10.0, last["_polled_at"], 2)


def test_a_source_is_down_from_its_event_until_it_returns(plant):
    """A source that is down is listed first, with time and reason; after its return or a start it is up again."""
    here = plant(sources=[{"name": name, "file": f"{name}.json"} for name in ("a", "z")])
    for name in ("a", "z"):
        shutil.copy(FIXTURE, here.root / f"{name}.json")
    here.tick(2)
    (here.root / "z.json").rename(here.root / "moved")
    here.tick(2)
    first = status(here)["sources"][0]
    assert (first["source"], first["state"], first["age"]) == ("z", "down", 30.0)
    (event,) = here.events("source_down")
    assert (first["since"], first["reason"]) == (event["at"], event["why"])
    here.pipeline.events.record("start")
    here.pipeline.writer.tick()
    assert by_name(status(here))["z"]["state"] == "up"
    (here.root / "moved").rename(here.root / "z.json")
    here.tick()
    assert status(here)["down"] == 0


def test_a_source_that_answered_later_is_not_down(plant):
    """A reading after the source_down event counts, also without an event of start or return."""
    here = plant(sources=[{"name": "z", "file": "z.json"}])
    here.tick()
    assert status(here)["down"] == 1
    shutil.copy(FIXTURE, here.root / "z.json")
    here.open()
    here.tick()
    assert (status(here)["down"], status(here)["up"]) == (0, 1)


def test_a_source_without_readings_is_silent(plant):
    """A source that is not down is silent three intervals after its last reading, or if it has none."""
    here = plant()
    here.tick()
    here.clock.now += 20
    assert status(here)["sources"][0]["state"] == "up"
    here.clock.now += 1
    assert status(here)["silent"] == 1
    here.config["sources"].append({"name": "new", "file": "new.json"})
    here.open()
    assert by_name(status(here))["new"] == {
        "source": "new",
        "state": "silent",
        "since": None,
        "reason": None,
        "last_reading": None,
        "age": None,
        "machines": 0,
        "status": None,
        "values": {},
        "no_number": None,
    }


def test_the_machines_of_one_answer_are_counted(plant):
    """A source with several machines in an answer shows their number, and no values in the table."""
    here = plant(sources=[{"name": "hall", "file": "hall.json", "records": "machines"}])
    machines = [{"id": n, "temperature": n, "fan_speed": 5} for n in range(7)]
    (here.root / "hall.json").write_bytes(orjson.dumps({"machines": machines}))
    here.tick(2)
    assert status(here)["sources"][0]["machines"] == 7
    assert "7 machines" in table(status(here))


def test_a_source_without_numbers_is_named(plant):
    """The JSON has the machines without a number by parameter, the table what one of them sends; numbers end it."""
    here = plant(sources=[{"name": name, "file": f"{name}.json"} for name in ("a", "b")])
    (here.root / "a.json").write_bytes(b'{"temperature": 20, "fan_speed": 1}')
    (here.root / "b.json").write_bytes(b'{"id": 7, "temperature": "20", "fan_rpm": 1}')
    here.tick(2)
    assert status(here)["no_number"] == 0
    here.tick()
    state = status(here)
    why = 'no number as temperature ("20"), fan_speed; it sends id 7, temperature, fan_rpm'
    assert [source["source"] for source in state["sources"]] == ["b", "a"]
    assert [source["no_number"] for source in state["sources"]] == [
        {"machines": {"temperature": 1, "speed": 1}, "why": why},
        None,
    ]
    assert (state["up"], state["no_number"]) == (2, 1)
    assert f"{why}\n" in table(state)
    assert "2 up, 0 down, 0 silent, 1 without a number" in table(state)
    (here.root / "b.json").write_bytes(b'{"id": 7, "temperature": 20, "fan_speed": 1}')
    here.tick()
    assert status(here)["no_number"] == 0


def test_machines_without_numbers_are_counted_by_source(plant):
    """Of a source with several machines the table has the number of those without a number, and one as an example."""
    here = plant(sources=[{"name": "hall", "file": "hall.json", "records": "machines"}])
    machines = [{"id": n, "temperature": 1, **({} if n % 3 else {"fan_speed": 5})} for n in range(6)]
    (here.root / "hall.json").write_bytes(orjson.dumps({"machines": machines}))
    here.tick(3)
    (source,) = status(here)["sources"]
    assert source["no_number"]["machines"] == {"speed": 4}
    assert "4 machines, such as: no number as fan_speed; it sends id 5, temperature\n" in table(status(here))


def test_a_machine_that_is_not_in_every_answer_is_named(plant):
    """A machine whose readings alternate with those of others in a file is named as well."""
    here = plant(sources=[{"name": "log", "file": "log.jsonl"}])
    for _ in range(4):
        with (here.root / "log.jsonl").open("a") as file:
            file.write('{"id": 1}\n')
        here.tick()
        with (here.root / "log.jsonl").open("a") as file:
            file.write('{"id": 2, "temperature": 5, "fan_speed": 5}\n')
        here.tick()
    assert status(here)["sources"][0]["no_number"]["machines"] == {"temperature": 1, "speed": 1}


def test_last_due_and_next_report(plant):
    """The state names the newest report, the closed days without one, and when the next is due."""
    here = plant(MORNING)
    here.tick()
    assert status(here)["reports"] == {
        "last": None,
        "due": [],
        "next": {"day": "2026-11-22", "at": "2026-11-23T00:05:00+00:00"},
    }
    here.clock.now += 86_400
    assert status(here)["reports"]["due"] == ["2026-11-22"]
    here.night()
    assert (status(here)["reports"]["last"], status(here)["reports"]["due"]) == ("2026-11-22", [])


def test_yesterday_counts_just_after_midnight(plant):
    """Just after midnight the last readings are those of the day before; a compressed day is not unpacked."""
    here = plant(
        MORNING, output={"compress": "gzip"}, sources=[{"name": "a", "file": "a.json"}, {"name": "b", "file": "b.json"}]
    )
    for name in ("a", "b"):
        shutil.copy(FIXTURE, here.root / f"{name}.json")
    here.tick()
    (here.root / "b.json").unlink()
    here.clock.now += 86_400
    here.tick()
    assert by_name(status(here))["b"]["age"] > 86_400
    here.night()
    assert here.folder.packed_path("raw", "2026-11-22").exists()
    assert by_name(status(here))["b"]["age"] is None


def test_only_the_end_of_a_large_folder_is_read(plant):
    """Of 100 MB of readings of 10,000 machines only the end is read, and the table shows the worst of them."""
    here = plant(sources=[{"name": "m-{n}", "file": "m.json", "count": 10_000}])
    lines = [
        raw_line({"id": n, "temperature": 20.5, "fan_speed": 700.5, "pad": "x" * 200}, f"m-{n}", MORNING)
        for n in range(1, 10_001)
    ]
    (here.folder.root / "raw").mkdir(parents=True)
    with here.folder.path("raw", "2026-11-22").open("wb") as file:
        for _ in range(32):
            file.writelines(lines)
        assert file.tell() > 100_000_000
    (here.folder.root / "events").mkdir()
    down = {"at": "2026-11-22T10:00:00.000Z", "event": "source_down", "source": "m-77", "reason": "dns", "why": "no"}
    here.folder.path("events", "2026-11-22").write_bytes(orjson.dumps(down) + b"\n")
    before = bytes_read_so_far()
    state = status(here)
    assert bytes_read_so_far() - before < 50_000_000
    shown = table(state)
    assert (state["up"], state["down"]) == (9999, 1)
    assert "m-77 " in shown.splitlines()[5]
    assert shown.splitlines()[-1] == f"and {10_000 - MAX_ROWS:,} more sources; --json has all"


def bytes_read_so_far() -> int:
    """Bytes this process has read from files, by the kernel's count."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_texts_of_machines_cannot_control_a_terminal(plant):
    """Control characters, line feeds and direction marks are escaped, texts shortened, and no markup is read."""
    here = plant(sources=[{"name": "a", "file": "a.json"}])
    odd = "\x1b[2J\x07\nfake line \u202e [red]markup[/red]"
    (here.root / "a.json").write_bytes(orjson.dumps([{"status": odd, "temperature": [odd], "fan_speed": 1e300}]))
    here.tick()
    shown = table(status(here))
    assert "\\u001b[2J\\u0007\\u000afake line \\u202e" in shown
    assert all(line.isprintable() for line in shown.split("\n"))


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.save(interval="10s", sources=[{"name": "fixture", "file": str(FIXTURE)}], api={"serve": False})
    return site


def test_status_beside_a_running_process(site):
    """The JSON document says whether `etl run` is running, and which sources are up."""
    with site.running() as process:
        until(lambda: site.lines("averages"))
        result = site.etl("status", "--json")
        assert (result.returncode, result.stderr) == (0, "")
        state = json.loads(result.stdout)
        assert (state["running"], state["up"], state["sources"][0]["source"]) == (True, 1, "fixture")
        end(process)
    table = site.etl("status")
    assert "not running" in table.stdout
    assert "\x1b" not in table.stdout


def on_a_terminal(site, **environment):
    """The output of `etl status` on a terminal."""
    parent_end, child_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", **environment}
    with subprocess.Popen(
        [sys.executable, "-m", "etl", "status"], cwd=site.root, stdout=child_end, stdin=child_end, env=environment
    ) as process:
        os.close(child_end)
        shown = b""
        with open(parent_end, "rb", buffering=0) as terminal:
            try:
                while piece := terminal.read(4096):
                    shown += piece
            except OSError:  # Linux reports the end of a terminal as EIO
                pass
    assert process.returncode == 0
    return shown


def test_colours_only_on_a_terminal_without_no_color(site, monkeypatch):
    """A terminal shows colours, but not with NO_COLOR set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert site.etl("once").returncode == 0
    assert b"\x1b[32mup" in on_a_terminal(site)
    plain = on_a_terminal(site, NO_COLOR="1")
    assert b"up" in plain
    assert b"\x1b[3" not in plain


def test_a_missing_or_empty_folder_is_an_error(site):
    """No folder, an empty one, and a file in its place exit with 1 and a hint; nothing is created."""
    for make, problem in (
        (lambda: None, "output does not exist"),
        (lambda: (site.root / "output").write_text(""), "output is not a folder"),
        (lambda: ((site.root / "output").unlink(), (site.root / "output").mkdir()), "output is empty"),
    ):
        make()
        result = site.etl("status")
        assert (result.returncode, result.stdout) == (1, "")
        assert problem in result.stderr
        assert "etl run" in result.stderr
    assert list((site.root / "output").iterdir()) == []


@pytest.mark.parametrize(
    "junk",
    [b"", b"\n", b"junk\n", b"\0" * 4096, b'{"a":1}\n[]\n"x"\n{"event":[],"source":{}}\n', b'{"_source":"fixture"'],
)
def test_damaged_lines_are_skipped(site, junk):
    """Damaged lines in the raw log and the events are skipped; the readings before them count."""
    site.save(timezone="UTC", output={"stdout": []})
    with freeze_time("2026-11-22T12:00:00Z"):
        assert commands.etl(site.root, "once").returncode == 0
    for kind in ("raw", "events"):
        path = site.root / "output" / kind
        path.mkdir(exist_ok=True)
        with (path / "2026-11-22.jsonl").open("ab") as file:
            file.write(junk)
    with freeze_time("2026-11-22T12:00:07Z"):
        result = commands.etl(site.root, "status", "--json")
    assert result.returncode == 0, result.stderr
    (source,) = json.loads(result.stdout)["sources"]
    assert (source["machines"], source["age"]) == (1, 7.0)
    assert json.loads(result.stdout)["reports"]["next"]["at"] == "2026-11-23T00:05:00+00:00"
