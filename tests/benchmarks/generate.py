"""Write the readings of N simulated machines over D days, polled every 10 seconds, as raw logs; seeded.

python -m tests.benchmarks.generate FOLDER [--machines 100] [--days 1] [--seed 1] [--start 2026-01-05]
"""

from __future__ import annotations

import argparse
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from api.machines import Machines
from etl.readings.lines import raw_line

INTERVAL = 10


def write_day(path: Path, day: date, machines: Machines) -> int:
    """Write one day's raw log; the number of its lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    lines = 0
    with path.open("wb") as file:
        for tick in range(86_400 // INTERVAL):
            for number in range(1, len(machines) + 1):
                moment = start + timedelta(seconds=tick * INTERVAL, milliseconds=number % 1000)
                reading = machines.reading(number, moment)
                file.write(raw_line(reading, f"machine-{number}", moment.timestamp() + 0.002))
                lines += 1
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--machines", type=int, default=100)
    options.add_argument("--days", type=int, default=1)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--start", type=date.fromisoformat, default=date(2026, 1, 5))
    arguments = options.parse_args()
    machines = Machines(arguments.machines, random.Random(arguments.seed))
    for number in range(arguments.days):
        day = arguments.start + timedelta(days=number)
        path = arguments.folder / "raw" / f"{day}.jsonl"
        print(f"{path}: {write_day(path, day, machines)} lines, {path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
