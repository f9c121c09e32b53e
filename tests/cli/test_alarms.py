"""What the alarms of a config would have raised, tried on recorded days."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.process import Site

ALARMS = [
    {"name": "hot", "parameter": "temperature", "above": 80, "deadband": 2, "for": "20s"},
    {"name": "fault", "status": "ERROR", "sources": "press-*"},
    {"name": "never", "parameter": "speed", "below": -1},
]


@pytest.fixture
def site(tmp_path):
    """Two recorded days of two presses: one is hot for ten minutes in the first night hour and again at the end."""
    site = Site(tmp_path)
    sources = [{"name": name, "file": f"{name}.jsonl"} for name in ("press-1", "press-2")]
    site.save(interval="10s", timezone="UTC", sources=sources, window=1)
    for name in ("press-1", "press-2"):
        lines = []
        for n in range(2 * 8640):
            is_hot = name == "press-1" and (8640 + 360 <= n < 8640 + 420 or n >= 2 * 8640 - 60)
            lines.append(json.dumps({
                "id": 7, "temperature": 90 if is_hot else 60, "fan_speed": 900,
                "status": "ERROR" if name == "press-2" and n == 100 else "STARTED",
                "timestamp": f"2026-11-{20 + n // 8640}T{n % 8640 // 360:02}:{n % 360 // 6:02}:{n % 6}0Z",
            }) + "\n")  # fmt: skip
        (site.root / f"{name}.jsonl").write_text("".join(lines))
    assert site.etl("replay", "press-1.jsonl").returncode == 0
    return site


def test_the_lines_are_those_of_the_alarms_log_and_a_table_sums_them_up(site):
    """Replayed under the alarms, the folder's alarms log has the lines that `etl alarms` printed before."""
    site.save(interval="10s", timezone="UTC", window=1, alarms=ALARMS, units={"temperature": "°C"},
              sources=[{"name": "press-1", "file": "press-1.jsonl"}])  # fmt: skip
    before = sorted(path for path in (site.root / "output").rglob("*"))
    tried = site.etl("alarms")
    assert tried.returncode == 0
    assert sorted((site.root / "output").rglob("*")) == before
    assert tried.stderr.splitlines() == [
        "hot (temperature above 80 °C for 20 s): raised 2 times on 1 machine, 10 minutes in total; "
        "most: press-1 7 (2); 1 still raised at the end",
        "fault (status ERROR): raised 0 times",
        "never (speed below -1): raised 0 times",
    ]
    assert site.etl("replay", "press-1.jsonl", "--output", "live").returncode == 0
    live = [path.read_text() for path in sorted((site.root / "live" / "alarms").glob("*.jsonl"))]
    assert tried.stdout == "".join(live)
    assert [json.loads(line)["state"] for line in tried.stdout.splitlines()] == ["raised", "ended", "raised"]


def test_days_can_be_chosen(site):
    """Of the first day alone nothing is raised; a day that does not exist is exit code 1."""
    site.save(interval="10s", timezone="UTC", window=1, alarms=ALARMS,
              sources=[{"name": "press-1", "file": "press-1.jsonl"}])  # fmt: skip
    first = site.etl("alarms", "--to", "2026-11-20")
    assert (first.returncode, first.stdout) == (0, "")
    assert site.etl("alarms", "--from", "2026-11-21").stdout.count('"raised"') == 2
    nothing = site.etl("alarms", "--from", "2026-11-22")
    assert nothing.returncode == 1
    assert "has no averages of these days" in nothing.stderr
    assert site.etl("alarms", "--from", "yesterday").returncode == 2


def test_without_alarms_the_command_says_where_to_write_them(site):
    """Exit code 2, with the config's path and the key."""
    refused = site.etl("alarms")
    assert refused.returncode == 2
    assert re.search(r"config.yaml has no alarms\. Write some below alarms:", refused.stderr)
