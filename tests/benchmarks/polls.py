"""CPU a poll, lateness and memory of `etl run`, as ratios to another variant, checkout or program.

python -m tests.benchmarks.polls [--machines 1000] [--seconds 40] [--warm 25] [--rounds 3] [--ports 1] [--hosts 1]
    [--together] [--peer NAME COMMAND] VARIANT ...

A variant is keys of the config, such as `transport=curl` or `transport=requests,fsync=never`. `ill=5` lets 5 % of the
machines hang until their deadline and 5 % answer garbage; lateness is that of the others. `root=DIR` runs the code of
another checkout, `dir=DIR` keeps the output there. A peer is another program that polls the same machines every 10 s:
its command, in which {port}, {machines} and {folder} are replaced, becomes the program (`exec` in a script). Machine N
answers /m/N/data in JSON and /m/N/metrics for Prometheus.

Variants run in turn, each on core 0; with `--together` all at the same time, each on a core of its own,
the next one in each round. Ratios are to
the first variant, of the same round; their median counts. Polls are counted by the machines.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.idle import cpu_seconds, rss_mib
from tests.support.process import free_port

INTERVAL_S = 10


class Options(NamedTuple):
    machines: int
    seconds: int
    warm: int
    ports: int
    hosts: int


class Running(NamedTuple):
    """A process that polls, the first ports of its machines' processes, its metrics, and how many machines answer."""

    process: subprocess.Popen
    targets: list[int]
    api: int | None
    machines: float

    def count(self) -> int:
        """Polls that its machines have answered."""
        urls = (f"http://127.0.0.1:{port}/count" for port in self.targets)
        return sum(int(urllib.request.urlopen(url).read()) for url in urls)


def paths(machines: int, ill: int) -> list[str]:
    """The path of each machine's readings; `ill` percent of them hang, and as many answer garbage."""
    kinds = ["hang"] * ill + ["garbage"] * ill + ["m"] * (100 - 2 * ill)
    return [f"/{kinds[number % 100]}/{number}/data" for number in range(machines)]


@contextmanager
def targets(ports: int, hosts: int = 1) -> Iterator[list[int]]:
    """Machines to poll; the ports they answer on. A process has descriptors for some thousand ports only."""
    with ExitStack() as stack:
        numbers: list[int] = []
        while len(numbers) < ports:
            share = min(5000, ports - len(numbers))
            command = [sys.executable, "-m", "tests.benchmarks.target", "--ports", str(share), "--hosts", str(hosts)]
            target = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(target.terminate)
            first = int(target.stdout.readline())
            numbers += range(first, first + share)
        yield numbers


def write_config(folder: Path, keys: dict[str, str], options: Options, ports: list[int]) -> int:
    """Write the config of a variant; the port of its metrics."""
    api, ill = free_port(), int(keys.get("ill", 0))
    addresses = [f"127.0.0.{1 + n % options.hosts}:{ports[n % len(ports)]}" for n in range(options.machines)]
    urls = map("http://{}{}".format, addresses, paths(options.machines, ill))
    config = {
        "timezone": "UTC",
        "interval": f"{INTERVAL_S}s",
        "transport": keys.get("transport", "requests"),
        "sources": "fleet.yaml",
        "output": {"stdout": [], "fsync": keys.get("fsync", "always")},
        "api": {"port": api},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "fleet.yaml").write_text(json.dumps([{"name": f"m-{n}", "url": url} for n, url in enumerate(urls)]))
    return api


@contextmanager
def polling(variant: str, command: str | None, options: Options, core: int) -> Iterator[Running]:
    """Start a variant, or the command of a peer, on a core; it is stopped at the end."""
    keys = {} if command else dict(pair.split("=", 1) for pair in variant.split(",") if pair)
    with targets(options.ports, options.hosts) as ports, tempfile.TemporaryDirectory(dir=keys.get("dir")) as aside:
        if command:
            api, environment = None, os.environ
            arguments = shlex.split(command.format(port=ports[0], machines=options.machines, folder=aside))
        else:
            api = write_config(Path(aside), keys, options, ports)
            root = str(Path(keys.get("root", ".")).resolve())
            arguments, environment = [sys.executable, "-m", "etl", "run"], os.environ | {"PYTHONPATH": root}
        with subprocess.Popen(
            arguments,
            cwd=None if command else aside,
            env=environment,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as process:
            os.sched_setaffinity(process.pid, {core})
            yield Running(process, ports[::5000], api, options.machines * (1 - int(keys.get("ill", 0)) / 100))
            process.send_signal(signal.SIGTERM)


def measure(variants: dict[str, str | None], options: Options, core: int) -> dict[str, dict[str, float]]:
    """The figures of variants that run at the same time, the first of them on this core."""
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(polling(name, command, options, number % (os.cpu_count() or 1)))
            for number, (name, command) in enumerate(variants.items(), core)
        }
        for run in running.values():
            wait_until_polling(run)
        time.sleep(options.warm)
        before = {name: (cpu_seconds(run.process.pid), run.count()) for name, run in running.items()}
        time.sleep(options.seconds)
        return {name: figures(run, *before[name], options.seconds) for name, run in running.items()}


def wait_until_polling(run: Running) -> None:
    while not run.count():
        if run.process.poll() is not None:
            raise SystemExit(f"{shlex.join(run.process.args)} ended with {run.process.returncode}")
        time.sleep(0.1)


def figures(run: Running, cpu_before: float, count_before: int, seconds: int) -> dict[str, float]:
    cpu, polls = cpu_seconds(run.process.pid) - cpu_before, run.count() - count_before
    measured = {
        "us_a_poll": 1e6 * cpu / polls,
        "core_percent": 100 * cpu / seconds,
        "polled": polls / (run.machines * seconds / INTERVAL_S),
        "rss_mib": rss_mib(run.process.pid),
    }
    if run.api:
        shown = metrics(run.api)
        measured["skipped"] = shown['telemetry_polls_total{result="skipped"}']
        measured["late_p99_ms"] = 1000 * shown['telemetry_poll_lateness_seconds{quantile="0.99"}']
    return measured


def metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("variants", nargs="+", metavar="VARIANT")
    options.add_argument("--peer", nargs=2, action="append", default=[], metavar=("NAME", "COMMAND"))
    options.add_argument("--together", action="store_true")
    defaults = {"machines": 1000, "seconds": 40, "warm": 25, "rounds": 3, "ports": 1, "hosts": 1}
    for name, default in defaults.items():
        options.add_argument(f"--{name}", type=int, default=default)
    arguments = options.parse_args()
    chosen = Options(*(getattr(arguments, name) for name in Options._fields))
    variants: dict[str, str | None] = dict.fromkeys(arguments.variants) | dict(arguments.peer)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for turn in range(arguments.rounds):
        for group in [variants] if arguments.together else [{name: command} for name, command in variants.items()]:
            for name, measured in measure(group, chosen, turn if arguments.together else 0).items():
                runs[name].append(measured)
                print(name, json.dumps({key: round(value, 3) for key, value in measured.items()}), flush=True)
    first = runs[next(iter(runs))]
    name, first = next(iter(runs.items()))
    for other, measured in runs.items():
        medians = {key: round(statistics.median(run[key] for run in measured), 3) for key in measured[0]}
        print(f"median {other}: {medians}")
        if other == name:
            continue
        pairs = zip(first, measured, strict=True)
        ratios = sorted(round(mine["us_a_poll"] / theirs["us_a_poll"], 3) for mine, theirs in pairs)
        print(f"CPU a poll of {name} is {statistics.median(ratios):.2f} of that of {other} ({ratios})")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
