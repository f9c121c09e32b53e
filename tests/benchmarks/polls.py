"""CPU per poll, lateness and memory of `etl run`, in paired runs.

python -m tests.benchmarks.polls [--machines 1000] [--seconds 40] [--rounds 3] [--ports 1] VARIANT ...

A variant is keys of the config, such as `transport=curl` or `transport=requests,fsync=never`; the variants run in turn.
`ill=5` lets 5 % of the machines hang until their deadline and 5 % answer garbage; lateness is that of the others.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from etl.live.standing import LATENESS_SAMPLES
from tests.benchmarks.idle import cpu_seconds, rss_mib
from tests.support.process import free_port


def paths(machines: int, ill: int) -> list[str]:
    """The path of each machine's readings; `ill` percent of them hang, and as many answer garbage."""
    kinds = ["hang"] * ill + ["garbage"] * ill + ["m"] * (100 - 2 * ill)
    return [f"/{kinds[number % 100]}/{number}/data" for number in range(machines)]


@contextmanager
def targets(ports: int) -> Iterator[list[int]]:
    """Machines to poll; the ports they answer on. A process has descriptors for some thousand ports only."""
    with ExitStack() as stack:
        numbers: list[int] = []
        while len(numbers) < ports:
            share = min(5000, ports - len(numbers))
            command = [sys.executable, "-m", "tests.benchmarks.target", "--ports", str(share)]
            target = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(target.terminate)
            first = int(target.stdout.readline())
            numbers += range(first, first + share)
        yield numbers


def measure(variant: str, machines: int, seconds: int, ports: list[int]) -> dict[str, float]:
    keys = dict(pair.split("=") for pair in variant.split(",") if pair)
    api = free_port()
    ill = int(keys.get("ill", 0))
    sources = [
        {"name": f"m-{n}", "url": f"http://127.0.0.1:{ports[n % len(ports)]}{path}"}
        for n, path in enumerate(paths(machines, ill))
    ]
    config = {
        "timezone": "UTC",
        "transport": keys.get("transport", "requests"),
        "sources": "fleet.yaml",
        "output": {"stdout": [], "fsync": keys.get("fsync", "always")},
        "api": {"port": api},
    }
    with tempfile.TemporaryDirectory(dir=keys.get("dir")) as aside:
        Path(aside, "config.yaml").write_text(json.dumps(config))
        Path(aside, "fleet.yaml").write_text(json.dumps(sources))
        with subprocess.Popen(
            [sys.executable, "-m", "etl", "run"], cwd=aside, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            # Wait until the lateness of the first polls, which all come at once, is forgotten.
            time.sleep(15 + 10 * LATENESS_SAMPLES / (machines * (1 - ill / 50)))
            cpu, before = cpu_seconds(process.pid), metrics(api)
            time.sleep(seconds)
            cpu, shown = cpu_seconds(process.pid) - cpu, metrics(api)
            polls, skipped = (
                shown[f'telemetry_polls_total{{result="{result}"}}']
                - before[f'telemetry_polls_total{{result="{result}"}}']
                for result in ("answered", "skipped")
            )
            figures = {
                "us_a_poll": 1e6 * cpu / polls,
                "polled": polls / (machines * (1 - ill / 50) * seconds / 10),
                "skipped": skipped,
                "late_p99_ms": 1000 * shown['telemetry_poll_lateness_seconds{quantile="0.99"}'],
                "rss_mib": rss_mib(process.pid),
            }
            process.send_signal(signal.SIGTERM)
    return figures


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("variants", nargs="+", metavar="VARIANT")
    for name, default in (("machines", 1000), ("seconds", 40), ("rounds", 3), ("ports", 1)):
        options.add_argument(f"--{name}", type=int, default=default)
    arguments = options.parse_args()
    runs: dict[str, list[dict[str, float]]] = {variant: [] for variant in arguments.variants}
    with targets(arguments.ports) as ports:
        for _ in range(arguments.rounds):
            for variant, measured in runs.items():
                measured.append(measure(variant, arguments.machines, arguments.seconds, ports))
                print(variant, json.dumps({key: round(value, 3) for key, value in measured[-1].items()}), flush=True)
    for variant, measured in runs.items():
        medians = {key: round(statistics.median(run[key] for run in measured), 2) for key in measured[0]}
        print(f"median {variant}: {medians}")


if __name__ == "__main__":
    main()
