"""`etl status`: the state of sources and reports, read from the ends of the files alone."""

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
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.cli.status import look
from etl.cli.status_table import MAX_ROWS, show
from etl.readings.lines import raw_line
from etl.storage import folder as folders
from etl.storage.folder import Folder
from tests.support import commands
from tests.support.plant import FIXTURE
from tests.support.process import Site, end, until

MORNING = 1_795_341_600.0


def status(here, running=True):
    """The state of a plant's folder now."""
    loaded = here.loaded
    names = [source.name for source in loaded.sources]
    return look(here.folder, names, loaded.settings, loaded.config.report.at, here.clock.now, running)


def by_name(found):
    return {source["source"]: source for source in found["sources"]}


def table(found):
    out = io.StringIO()
    show(found, out)
    return out.getvalue()


def test_a_source_shows_its_last_reading(plant):
    """The last raw line of each source, its age and its values by parameter; the newest one's age is the lag."""
    here = plant(sources=[{"name": name, "file": "readings.json"} for name in ("b", "a")])
    here.tick(3)
    found = status(here)
    last = here.records("raw")[-1]
    assert [source["source"] for source in found["sources"]] == ["a", "b"]
    assert found["sources"][0] == {
        "source": "a", "state": "up", "since": None, "reason": None, "last_reading": last["_polled_at"], "age": 10.0,
        "machines": 1, "status": last["status"],
        "values": {"temperature": last["temperature"], "speed": last["fan_speed"]},
    }  # fmt: skip
    assert (found["lag"], found["last_reading"], found["up"]) == (10.0, last["_polled_at"], 2)


def test_a_source_is_down_from_its_event_on_until_it_is_back(plant):
    """A source that is down comes first, with the time and the reason; back, or after a restart, it is up again."""
    here = plant(sources=[{"name": name, "file": f"{name}.json"} for name in ("a", "z")])
    for name in ("a", "z"):
        shutil.copy(FIXTURE, here.root / f"{name}.json")
    here.tick(2)
    (here.root / "z.json").rename(here.root / "gone")
    here.tick(2)
    first = status(here)["sources"][0]
    assert (first["source"], first["state"], first["age"]) == ("z", "down", 30.0)
    (event,) = here.events("source_down")
    assert (first["since"], first["reason"]) == (event["at"], event["why"])
    here.pipeline.events.record("start")
    here.pipeline.writer.tick()
    assert by_name(status(here))["z"]["state"] == "up"
    (here.root / "gone").rename(here.root / "z.json")
    here.tick()
    assert status(here)["down"] == 0


def test_a_source_that_answered_since_is_not_down(plant):
    """A reading newer than the event `source_down` counts, also of a process that recorded neither start nor return."""
    here = plant(sources=[{"name": "z", "file": "z.json"}])
    here.tick()
    assert status(here)["down"] == 1
    shutil.copy(FIXTURE, here.root / "z.json")
    here.open()
    here.tick()
    assert (status(here)["down"], status(here)["up"]) == (0, 1)


def test_a_source_without_readings_is_silent(plant):
    """A source that is not known to be down is silent three intervals after its last reading, or without one."""
    here = plant()
    here.tick()
    here.clock.now += 20
    assert status(here)["sources"][0]["state"] == "up"
    here.clock.now += 1
    assert status(here)["silent"] == 1
    here.config["sources"].append({"name": "new", "file": "new.json"})
    here.open()
    assert by_name(status(here))["new"] == {
        "source": "new", "state": "silent", "since": None, "reason": None, "last_reading": None, "age": None,
        "machines": 0, "status": None, "values": {},
    }  # fmt: skip


def test_the_machines_of_one_answer_are_counted(plant):
    """The table shows how many machines a source has in an answer, and the values of none of them."""
    here = plant(sources=[{"name": "hall", "file": "hall.json", "records": "machines"}])
    machines = [{"id": n, "temperature": n, "fan_speed": 5} for n in range(7)]
    (here.root / "hall.json").write_bytes(orjson.dumps({"machines": machines}))
    here.tick(2)
    assert status(here)["sources"][0]["machines"] == 7
    assert "7 machines" in table(status(here))


def test_reports_last_due_and_next(plant):
    """The newest report, the closed days without a report, and when the next one is due."""
    here = plant(MORNING)
    here.tick()
    assert status(here)["reports"] == {
        "last": None, "due": [], "next": {"day": "2026-11-22", "at": "2026-11-23T00:05:00+00:00"},
    }  # fmt: skip
    here.clock.now += 86_400
    assert status(here)["reports"]["due"] == ["2026-11-22"]
    here.night()
    assert (status(here)["reports"]["last"], status(here)["reports"]["due"]) == ("2026-11-22", [])


def test_readings_of_the_day_before_count_just_after_midnight(plant):
    """Just after midnight the last readings are those of the day before; a compressed day is not read."""
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


def bytes_read() -> int:
    """Bytes that this process has read from files so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_a_big_folder_is_read_from_its_ends_only(plant):
    """Of 100 MB of readings of 10,000 machines at most a third is read, and the table shows the worst of them."""
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
    before = bytes_read()
    found = status(here)
    assert bytes_read() - before < 33_000_000
    shown = table(found)
    assert (found["up"], found["down"]) == (9999, 1)
    assert "m-77 " in shown.splitlines()[5]
    assert shown.splitlines()[-1] == f"and {10_000 - MAX_ROWS} more; --json has all"


@given(
    lines=st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"\r")), max_size=12),
    torn=st.sampled_from([b"", b"torn"]),
    block=st.integers(1, 20),
    size=st.integers(1, 200),
)
@settings(max_examples=150, deadline=None)
def test_backwards_are_the_last_lines(tmp_path_factory, lines, torn, block, size):
    """For any block size, the lines that are whole within the last bytes are read, the newest first."""
    folder = Folder(tmp_path_factory.mktemp("back"))
    path = folder.path("raw", "2026-11-22")
    path.parent.mkdir()
    content = b"".join(line + b"\n" for line in lines) + torn
    path.write_bytes(content)
    kept, left = [], size - len(torn)
    for number, line in reversed(list(enumerate(lines))):
        left -= len(line) + 1
        if left < (number > 0):
            break
        kept.append(line)
    before, folders.READ_BYTES = folders.READ_BYTES, block
    try:
        assert [line.rstrip(b"\n") for line in folder.backwards("raw", size)] == kept
    finally:
        folders.READ_BYTES = before


def test_text_of_machines_cannot_disturb_a_terminal(plant):
    """Escapes, line feeds and direction marks are shown escaped and clipped, and markup is not interpreted."""
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
    """Beside `etl run` the JSON document shows the source up; afterwards the table says that nothing runs."""
    with site.running() as process:
        until(lambda: site.lines("averages"))
        told = site.etl("status", "--json")
        assert (told.returncode, told.stderr) == (0, "")
        found = json.loads(told.stdout)
        assert (found["running"], found["up"], found["sources"][0]["source"]) == (True, 1, "fixture")
        end(process)
    table = site.etl("status")
    assert "not running" in table.stdout
    assert "\x1b" not in table.stdout


def on_a_terminal(site, **environment):
    """The bytes that `etl status` writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", **environment}
    with subprocess.Popen(
        [sys.executable, "-m", "etl", "status"], cwd=site.root, stdout=theirs, stdin=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        with open(ours, "rb", buffering=0) as terminal:
            try:
                while piece := terminal.read(4096):
                    shown += piece
            except OSError:  # so a terminal ends
                pass
    assert process.returncode == 0
    return shown


def test_a_terminal_gets_colours_unless_no_color_is_set(site, monkeypatch):
    """A terminal gets colours, and with NO_COLOR none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert site.etl("once").returncode == 0
    assert b"\x1b[32mup" in on_a_terminal(site)
    plain = on_a_terminal(site, NO_COLOR="1")
    assert b"up" in plain
    assert b"\x1b[3" not in plain


def test_a_folder_without_readings_is_an_error(site):
    """No folder, an empty one, and a file in its place are exit code 1 with a hint, and no file is created."""
    for make, message in (
        (lambda: None, "output does not exist"),
        (lambda: (site.root / "output").write_text(""), "output is not a folder"),
        (lambda: ((site.root / "output").unlink(), (site.root / "output").mkdir()), "output is empty"),
    ):
        make()
        refused = site.etl("status")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert message in refused.stderr
        assert "etl run" in refused.stderr
    assert list((site.root / "output").iterdir()) == []


@pytest.mark.parametrize(
    "junk",
    [b"", b"\n", b"junk\n", b"\0" * 4096, b'{"a":1}\n[]\n"x"\n{"event":[],"source":{}}\n', b'{"_source":"fixture"'],
)
def test_a_damaged_folder_shows_what_is_left(site, junk):
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
        shown = commands.etl(site.root, "status", "--json")
    assert shown.returncode == 0, shown.stderr
    (source,) = json.loads(shown.stdout)["sources"]
    assert (source["machines"], source["age"]) == (1, 7.0)
    assert json.loads(shown.stdout)["reports"]["next"]["at"] == "2026-11-23T00:05:00+00:00"
