"""`etl status`: which sources and machines have a row, in which order, and the units of their values."""

from __future__ import annotations

import io
import json
import shutil

import orjson
import pytest

from etl.cli.status import MAX_ROWS, read_state, show
from tests.support.plant import FIXTURE
from tests.support.process import Site

ONE = {"temperature": 20.180000000000003, "fan_speed": 900, "status": "IDLE"}


@pytest.fixture
def site(tmp_path):
    """A folder in which three presses and an oven were polled once."""
    site = Site(tmp_path)
    shutil.copy(FIXTURE, tmp_path / "readings.json")
    names = ("press-10", "press-2", "press-1", "oven[1]")
    site.save(sources=[{"name": name, "file": "readings.json"} for name in names], output={"stdout": []})
    assert site.etl("once").returncode == 0
    return site


def status(here):
    """The state of a plant's folder now."""
    return read_state(here.folder, here.loaded, [s.name for s in here.loaded.sources], here.clock.now, running=True)


def rows(state) -> list[list[str]]:
    """The rows of the table and what follows it, as words."""
    out = io.StringIO()
    show(state, out)
    lines = out.getvalue().splitlines()
    return [line.split() for line in lines[lines.index("") + 2 :]]


def names_of(shown: str) -> list[str]:
    return [line.split()[0] for line in shown.split("\n\n")[1].splitlines()[1:]]


def hall(here, *machines):
    """Send an answer with these machines, and poll it."""
    (here.root / "hall.json").write_bytes(orjson.dumps({"machines": machines}))
    here.tick()


@pytest.fixture
def halls(plant):
    return plant(sources=[{"name": "hall", "file": "hall.json", "records": "machines"}])


def test_sources_are_in_natural_order(site):
    """Numbers in names are compared as numbers."""
    assert names_of(site.etl("status").stdout) == ["oven[1]", "press-1", "press-2", "press-10"]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["press-*"], ["press-1", "press-2", "press-10"]),
        (["press-?", "oven*"], ["oven[1]", "press-1", "press-2"]),
        (["press-[12]", "press-2"], ["press-1", "press-2"]),
        (["oven[1]"], ["oven[1]"]),
    ],
)
def test_patterns_choose_sources(site, patterns, names):
    """Of several names and patterns each source that one of them matches is shown and counted."""
    assert names_of(site.etl("status", *patterns).stdout) == names
    state = json.loads(site.etl("status", *patterns, "--json").stdout)
    assert [source["source"] for source in state["sources"]] == names
    assert {machine["source"] for machine in state["machines"]} == set(names)
    assert state["up"] + state["silent"] + state["down"] == len(names)


def test_a_pattern_without_a_source_is_an_error(site):
    """The exit code is 1, with the nearest name or a hint, also beside a pattern that matches."""
    for pattern, hint in (("pres-1", "Did you mean press-1?"), ("x*", "Put a pattern in quotes"), ("Press-*", "")):
        refused = site.etl("status", "press-*", pattern)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"No source of config.yaml matches {pattern}. {hint}")


def test_alarms_are_those_of_the_chosen_sources(plant):
    """Without patterns also those of sources that the config does not have any more."""
    alarms = [{"name": "hot", "parameter": "temperature", "above": 20}]
    here = plant(sources=[{"name": name, "file": "one.json"} for name in ("a", "b", "old")], alarms=alarms)
    (here.root / "one.json").write_bytes(orjson.dumps(ONE))
    here.tick()
    here.config["sources"].pop()
    here.open()
    assert sorted(alarm["source"] for alarm in status(here)["alarms"]) == ["a", "b", "old"]
    (alarm,) = read_state(here.folder, here.loaded, ["b"], here.clock.now, running=True)["alarms"]
    assert alarm["source"] == "b"


def test_each_machine_of_a_source_has_a_row(halls):
    """Below their source, in natural order, a machine that sends no number first; the JSON has all as `machines`."""
    numbers = [{**ONE, "id": n, "fan_speed": n} for n in (10, 9, 2)]
    for _ in range(3):
        hall(halls, *numbers, {**ONE, "id": "m-3", "fan_speed": None})
    state = status(halls)
    assert rows(state)[1:] == [
        ["id", "m-3", "up", "10", "s", "ago", "IDLE", "20.18", "no", "number", "for", "speed"],
        ["id", "2", "up", "10", "s", "ago", "IDLE", "20.18", "2"],
        ["id", "9", "up", "10", "s", "ago", "IDLE", "20.18", "9"],
        ["id", "10", "up", "10", "s", "ago", "IDLE", "20.18", "10"],
    ]
    assert state["sources"][0]["machines"] == 4
    assert [(machine["source"], machine["id"]) for machine in state["machines"]] == [
        ("hall", "m-3"), ("hall", 2), ("hall", 9), ("hall", 10),
    ]  # fmt: skip
    assert state["machines"][1] == {
        "source": "hall",
        "id": 2,
        "state": "up",
        "last_reading": state["last_reading"],
        "age": 10.0,
        "status": "IDLE",
        "values": {"temperature": 20.180000000000003, "speed": 2},
        "no_number": [],
    }


def test_a_machine_that_is_missing_in_the_answers_is_silent(halls):
    """A source that answers is up; a machine that its answers do not have any more is silent, and later forgotten."""
    hall(halls, {**ONE, "id": 1}, {**ONE, "id": 2})
    for _ in range(4):
        hall(halls, {**ONE, "id": 1})
    source, silent, up = rows(status(halls))
    assert source[:2] == ["hall", "up"]
    assert silent[:6] == ["id", "2", "silent", "50", "s", "ago"]
    assert up[:3] == ["id", "1", "up"]
    halls.clock.now += 3600
    hall(halls, {**ONE, "id": 1})
    assert [machine["id"] for machine in status(halls)["machines"]] == [1]


def test_the_rows_are_limited(halls):
    """Of many machines those that need attention have a row, and the others are counted; the JSON has all."""
    lacking = {"id": 499, "temperature": 1}
    for _ in range(3):
        hall(halls, *({**ONE, "id": n} for n in range(499)), lacking)
    state = status(halls)
    shown = rows(state)
    assert len(shown) == MAX_ROWS + 1
    assert shown[1][:2] == ["id", "499"]
    assert (
        " ".join(shown[-1])
        == f"and {500 - MAX_ROWS + 1} more machines; `etl status NAME` shows those of a source, --json all"
    )
    assert len(state["machines"]) == 500


def test_every_source_has_its_row_before_the_machines(plant):
    """The machines of one source take no row from another source."""
    here = plant(sources=[{"name": "hall", "file": "hall.json", "records": "machines"}] + [
        {"name": f"m-{n}", "file": "one.json"} for n in range(MAX_ROWS - 2)
    ])  # fmt: skip
    (here.root / "one.json").write_bytes(orjson.dumps(ONE))
    hall(here, *({**ONE, "id": n} for n in range(50)))
    shown = rows(status(here))
    assert len(shown) == MAX_ROWS + 1
    assert [row[0] for row in shown].count("id") == 1
    assert " ".join(shown[-1]).startswith("and 49 more machines;")


def test_units_stand_beside_the_values(plant):
    """In the headings, at the values and limits of alarms, and once in the JSON, whose numbers stay numbers."""
    alarms = [{"name": "hot", "parameter": "temperature", "above": 19.5}, {"name": "idle", "status": "IDLE"}]
    here = plant(sources=[{"name": "a", "file": "one.json"}], alarms=alarms, units={"temperature": "[b]°C"})
    (here.root / "one.json").write_bytes(orjson.dumps(ONE))
    here.tick()
    state = status(here)
    out = io.StringIO()
    show(state, out)
    assert " temperature [b]°C  speed  why" in out.getvalue()
    assert "  hot: a, temperature 20.18 [b]°C, limit 19.5 [b]°C, since" in out.getvalue()
    assert "  idle: a, status IDLE, since" in out.getvalue()
    assert state["units"] == {"temperature": "[b]°C"}
    assert state["sources"][0]["values"] == {"temperature": 20.180000000000003, "speed": 900}
    assert b"[b]" not in b"".join(here.bytes_of("alarms").values())
