"""Lateness of 1,000 polled machines while the night's report of a big day is made beside them.

python -m tests.benchmarks.night_polls FOLDER [--machines 1000] [--transport curl] [--workers 1]

FOLDER is what tests.benchmarks.generate wrote, for example with --machines 500: 1 GB. The start catches its days up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.idle import rss_mib
from tests.benchmarks.polls import metrics, targets
from tests.test_run import free_port


def measure(folder: Path, machines: int, transport: str, workers: int, port: int) -> None:
    api = free_port()
    config = {
        "timezone": "UTC",
        "transport": transport,
        "sources": [{"name": "m-{n}", "url": f"http://127.0.0.1:{port}/m/{{n}}/data", "count": machines}],
        "output": {"stdout": []},
        "report": {"workers": workers},
        "api": {"port": api},
    }
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        Path(aside, "config.yaml").write_text(json.dumps(config))
        logs = sorted((folder / "raw").iterdir())
        subprocess.run([sys.executable, "-m", "etl", "replay", *logs], cwd=aside, check=True)
        days = {path.name.removesuffix("l") for path in logs}
        with subprocess.Popen(
            [sys.executable, "-m", "etl", "run"], cwd=aside, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            began = time.monotonic()
            while not days <= {path.name for path in Path(aside, "output", "reports").glob("*.json")}:
                time.sleep(0.1)
                if process.poll() is not None:
                    sys.exit("the process ended before the report stood")
            took, shown = time.monotonic() - began, metrics(api)
            polls = shown['telemetry_polls_total{result="answered"}']
            late = [1000 * shown[f'telemetry_poll_lateness_seconds{{quantile="{q}"}}'] for q in (0.5, 0.99)]
            print(f"reports after {took:.1f} s; meanwhile {polls:.0f} polls, {rss_mib(process.pid):.0f} MiB")
            print("lateness p50 {:.0f} ms, p99 {:.0f} ms".format(*late))
            process.terminate()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--machines", type=int, default=1000)
    options.add_argument("--transport", default="curl")
    options.add_argument("--workers", type=int, default=1)
    given = options.parse_args()
    with targets(1) as (port,):
        measure(given.folder.resolve(), given.machines, given.transport, given.workers, port)


if __name__ == "__main__":
    main()
