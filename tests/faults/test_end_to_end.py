"""From readings through ticks and nights to the files of a folder, compared with golden files.

`pytest --refresh-golden` writes the golden files again; review the difference before you commit it.
"""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest
import yaml
from freezegun import freeze_time

from etl.readings.lines import raw_line
from tests.support import commands
from tests.support.golden import GOLDEN, assert_same_page, files, golden, rounded
from tests.support.plant import Plant

MIDNIGHT = 1_795_392_000.0
"""2026-11-23T00:00:00Z."""
HISTORY = "reports/history/2026-11-22.msgpack"
"""Saves reading the days before again. It is binary, derivable, and tested in tests/nightly: not a golden file."""


# Ticks around midnight, and the night


def ticks_and_a_night(root: Path) -> Path:
    """Sixty ticks around midnight, with a source that is down for a while, then the night; the output folder."""
    lines = [{"id": "press", "temperature": 80 + i % 3, "fan_speed": 10 if i % 7 else "stuck"} for i in range(50)]
    feed = root / "feed.jsonl"
    feed.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines[:25]) + b"broken\n")
    here = Plant(
        root,
        MIDNIGHT - 400,
        sources=[{"name": "machine-1", "file": "readings.json"}, {"name": "hall 2", "file": "feed.jsonl"}],
    )
    here.tick(5)
    feed.rename(root / "aside")
    here.tick(2)
    (root / "aside").rename(feed)
    with feed.open("ab") as file:
        file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines[25:]))
    here.tick(53)
    here.clock.now = MIDNIGHT + 300
    here.night()
    here.pipeline.writer.tick()
    here.close()
    return here.folder.root


def test_the_folder_is_the_golden_one(tmp_path, request):
    """Ticks from a fixture, a source that is down for a while, midnight and the night write exactly these files."""
    written = files(ticks_and_a_night(tmp_path))
    assert written.pop(HISTORY)
    expected = golden("midnight", written, request)
    assert written.keys() == expected.keys()
    for name, data in expected.items():
        assert written[name] == data, name


def test_the_golden_averages_are_those_of_a_hand_calculation():
    """Each golden average is the plain mean of the last five readings of its machine in the raw log."""
    last_of: dict[str, list[float]] = {}
    rows = [
        (orjson.loads(raw), orjson.loads(average))
        for day in ("2026-11-22", "2026-11-23")
        for raw, average in zip(
            (GOLDEN / "midnight" / "raw" / f"{day}.jsonl").read_bytes().splitlines(),
            (GOLDEN / "midnight" / "averages" / f"{day}.jsonl").read_bytes().splitlines(),
            strict=True,
        )
    ]
    assert len(rows) == 110
    for raw, average in rows:
        last = last_of.setdefault(raw["_source"], [])
        last.append(raw["temperature"])
        assert average["average_temperature"] == pytest.approx(sum(last[-5:]) / len(last[-5:]), rel=1e-12)
        assert average["source"] == raw["_source"]


def test_the_links_name_the_newest_files(tmp_path):
    """raw.jsonl, averages.jsonl and events.jsonl are relative links to the newest day's files."""
    root = ticks_and_a_night(tmp_path)
    for kind in ("raw", "averages", "events"):
        assert str((root / f"{kind}.jsonl").readlink()) == f"{kind}/2026-11-23.jsonl"


# A day with a stuck sensor and a level shift


def write_days(raw: Path) -> None:
    """Write the raw logs of two days, a reading a minute: on the second a sensor is stuck, and a speed shifts.

    The temperature of `press` stands still from 08:00 to 11:00, its speed is 60 higher from 15:00 on. `oven` is well.
    """
    noise = random.Random(23)
    raw.mkdir(parents=True)
    for day, start in (("2026-11-22", MIDNIGHT - 86_400), ("2026-11-23", MIDNIGHT)):
        lines = []
        for minute in range(1440):
            ill = start == MIDNIGHT
            heat = 60 + round(noise.uniform(-2, 2), 2)
            speed = 800 + round(noise.uniform(-9, 9), 1) + 60 * (ill and minute >= 15 * 60)
            if ill and 8 * 60 <= minute < 11 * 60:
                heat = 61.5
            press = {"id": 1, "name": "Press", "temperature": heat, "fan_speed": speed, "status": "STARTED"}
            oven = {"id": 2, "temperature": round(180 + noise.uniform(-3, 3), 2), "fan_speed": 40, "status": "STARTED"}
            lines += [raw_line(press, "press", start + 60 * minute), raw_line(oven, "oven", start + 60 * minute)]
        (raw / f"{day}.jsonl").write_bytes(b"".join(lines))


def reported(root: Path) -> tuple[bytes, bytes]:
    """Report those two days; the second day's report, indented, and its page."""
    sources = [{"name": name, "file": f"{name}.json"} for name in ("press", "oven")]
    (root / "config.yaml").write_text(yaml.safe_dump({"timezone": "UTC", "interval": "1m", "sources": sources}))
    write_days(root / "output" / "raw")
    with freeze_time("2026-11-24T00:06:00Z"):
        done = commands.etl(root, "report")
    assert done.stdout == "output/reports/2026-11-22.json\noutput/reports/2026-11-23.json\n"
    report, page = (root / "output" / "reports" / f"2026-11-23.{suffix}" for suffix in ("json", "html"))
    indented = orjson.dumps(orjson.loads(report.read_bytes()), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return indented, page.read_bytes()


def without_incidents(report: dict) -> dict:
    """The keys of the contract alone."""
    machines = []
    for machine in report["machines"]:
        parameters = {
            name: {key: figures[key] for key in ("average", "max", "min", "anomalies")}
            for name, figures in machine["parameters"].items()
        }
        machines.append({key: machine[key] for key in ("source", "id", "name", "readings", "expected")} | parameters)
    return {key: report[key] for key in ("date", "timezone", "interval", "threshold")} | {"machines": machines}


def test_a_day_of_incidents_is_reported_as_in_the_golden_files(tmp_path, request):
    """A stuck sensor and a level shift give the golden report, its figures to the last bit, and the golden page."""
    report, page = reported(tmp_path)
    expected = golden("incidents", {"report.json": report, "page.html": page}, request)
    made, kept = orjson.loads(report), orjson.loads(expected["report.json"])
    assert without_incidents(made) == without_incidents(kept)
    assert rounded(made) == rounded(kept)
    assert_same_page(page, expected["page.html"])


def test_the_golden_incidents_are_those_that_were_put_in():
    """The golden report has the stuck sensor and the level shift, at their times, and no other incident."""
    report = orjson.loads((GOLDEN / "incidents" / "report.json").read_bytes())
    incidents = [
        (machine["source"], name, incident["start"][11:16], incident["end"][11:16])
        for machine in report["machines"]
        for name, figures in machine["parameters"].items()
        for incident in figures["incidents"]
    ]
    (stuck,) = [incident for incident in incidents if incident[1] == "temperature"]
    (shift,) = [incident for incident in incidents if incident[1] == "speed"]
    assert stuck[0] == shift[0] == "press"
    assert "08:00" <= stuck[2] <= "09:00"
    assert stuck[3] == "10:59"
    assert "15:00" <= shift[2] < "15:05"
