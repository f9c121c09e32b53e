"""`etl replay` of a day's file, beside a bare loop that parses each line and writes it twice, in paired runs.

python -m tests.benchmarks.replay FOLDER [--day 2026-01-05] [--rounds 5]

tests.benchmarks.generate writes FOLDER.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.night import measure

REPLAY = """
import sys
sys.argv = ["etl", "replay", {file!r}, "--config", {config!r}, "--output", {aside!r} + "/out"]
from etl.cli.main import main
main()
"""
BARE = """
import orjson
with open({file!r}, "rb") as lines, open({aside!r} + "/one", "wb") as one, open({aside!r} + "/two", "wb") as two:
    for line in lines:
        reading = orjson.loads(line)
        one.write(line)
        two.write(orjson.dumps(reading))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder")
    options.add_argument("--day", default="2026-01-05")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    file = Path(arguments.folder, "raw", f"{arguments.day}.jsonl").resolve()
    lines = sum(1 for _ in file.open("rb"))
    runs: dict[str, list[float]] = {"replay": [], "bare": []}
    for _ in range(arguments.rounds):
        for name, script in (("replay", REPLAY), ("bare", BARE)):
            with tempfile.TemporaryDirectory() as aside:
                config = Path(aside, "config.yaml")
                config.write_text("timezone: UTC\nsources: [{name: m, file: m.json}]\n")
                runs[name].append(measure(script.format(file=str(file), config=str(config), aside=aside)).cpu)
    replay, bare = (statistics.median(runs[name]) for name in ("replay", "bare"))
    print(
        f"replay {lines / replay:,.0f} lines per CPU second, bare loop {lines / bare:,.0f}: ratio {replay / bare:.2f}"
    )


if __name__ == "__main__":
    main()
