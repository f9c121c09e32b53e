"""From a fixture through ticks and a night to the files of a folder, compared with golden ones.

`python -m tests.faults.test_end_to_end` writes the golden files anew; look at what changed before you keep it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import orjson
import pytest

from tests.support.plant import FIXTURE, Plant

GOLDEN = Path(__file__).parents[1] / "golden"
MIDNIGHT = 1_795_392_000.0
"""2026-11-23T00:00:00Z."""


def files(root: Path) -> dict[str, bytes]:
    """Every plain file below a folder but the lock, by its name."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != ".lock"
    }


def ticks_and_a_night(root: Path) -> Path:
    """Sixty ticks around midnight with a source that goes and comes back, then the night; the output folder."""
    lines = [{"id": "press", "temperature": 80 + i % 3, "fan_speed": 10 if i % 7 else "stuck"} for i in range(50)]
    feed = root / "feed.jsonl"
    feed.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines[:25]) + b"broken\n")
    here = Plant(
        root,
        MIDNIGHT - 400,
        sources=[{"name": "machine-1", "file": "readings.json"}, {"name": "hall 2", "file": "feed.jsonl"}],
    )
    here.tick(5)
    feed.rename(root / "gone")
    here.tick(2)
    (root / "gone").rename(feed)
    with feed.open("ab") as file:
        file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines[25:]))
    here.tick(53)
    here.clock.now = MIDNIGHT + 300
    here.night()
    here.pipeline.writer.tick()
    here.close()
    return here.folder.root


def test_the_folder_is_the_golden_one(tmp_path):
    """Ticks from a fixture, a source that is down for a while, midnight and the night give exactly these files."""
    written = files(ticks_and_a_night(tmp_path))
    golden = files(GOLDEN)
    assert written.keys() == golden.keys()
    for name, expected in golden.items():
        assert written[name] == expected, name


def test_the_golden_averages_are_those_of_a_hand_calculation():
    """Each average in the golden folder is the plain mean of the last five readings of its machine in the raw log."""
    seen: dict[str, list[float]] = {}
    rows = [
        (orjson.loads(raw), orjson.loads(average))
        for day in ("2026-11-22", "2026-11-23")
        for raw, average in zip(
            (GOLDEN / "raw" / f"{day}.jsonl").read_bytes().splitlines(),
            (GOLDEN / "averages" / f"{day}.jsonl").read_bytes().splitlines(),
            strict=True,
        )
    ]
    assert len(rows) == 110
    for raw, average in rows:
        last = seen.setdefault(raw["_source"], [])
        last.append(raw["temperature"])
        assert average["average_temperature"] == pytest.approx(sum(last[-5:]) / len(last[-5:]), rel=1e-12)
        assert average["source"] == raw["_source"]


def test_the_links_name_the_newest_files(tmp_path):
    """raw.jsonl, averages.jsonl and events.jsonl are relative links to the newest day's files."""
    root = ticks_and_a_night(tmp_path)
    for kind in ("raw", "averages", "events"):
        assert str((root / f"{kind}.jsonl").readlink()) == f"{kind}/2026-11-23.jsonl"


if __name__ == "__main__":
    assert FIXTURE.exists()
    with tempfile.TemporaryDirectory() as aside:
        root = ticks_and_a_night(Path(aside))
        shutil.rmtree(GOLDEN, ignore_errors=True)
        for name, data in files(root).items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_bytes(data)
