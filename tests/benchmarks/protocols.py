"""CPU a poll and lateness of `etl run` with sources of other protocols, beside the bare library in a loop.

python -m tests.benchmarks.protocols opcua|modbus [--machines 200] [--seconds 120] [--processes 4]

Both poll the same simulated machines every second, three values each; the machines run in processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from asyncua import Client
from pymodbus.client import AsyncModbusTcpClient

from tests.benchmarks.idle import cpu_seconds, rss_mib
from tests.benchmarks.polls import metrics
from tests.support.modbus import REGISTERS
from tests.support.opcua import NODES
from tests.support.process import free_port

WARM_UP_S = 15
"""The first polls open connections, and come all at once."""


class Protocol(NamedTuple):
    """`machines` runs so many machines in processes and gives the sources that poll them; `loop` polls them bare."""

    machines: Callable[[int, int], Any]
    loop: Callable[[list[dict[str, Any]], float], None]


def measure_etl(sources: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    """`etl run` with an interval of a second."""
    api = free_port()
    config = {
        "interval": "1s",
        "timezone": "UTC",
        "sources": [{"name": f"m-{n}", **source} for n, source in enumerate(sources)],
        "output": {"stdout": []},
        "api": {"port": api},
    }
    with tempfile.TemporaryDirectory() as aside:
        Path(aside, "config.yaml").write_text(json.dumps(config))
        with subprocess.Popen([sys.executable, "-m", "etl", "run"], cwd=aside, stderr=subprocess.DEVNULL) as process:
            try:
                time.sleep(WARM_UP_S)
                cpu, before = cpu_seconds(process.pid), metrics(api)
                time.sleep(seconds)
                cpu, shown = cpu_seconds(process.pid) - cpu, metrics(api)
                kinds = {kind: f'telemetry_polls_total{{result="{kind}"}}' for kind in ("answered", "skipped")}
                counts = {kind: shown[name] - before[name] for kind, name in kinds.items()}
                return {
                    "us_a_poll": 1e6 * cpu / counts["answered"],
                    "polled": counts["answered"] / (len(sources) * seconds),
                    "skipped": counts["skipped"],
                    "late_p99_ms": 1000 * shown['telemetry_poll_lateness_seconds{quantile="0.99"}'],
                    "rss_mib": rss_mib(process.pid),
                }
            finally:
                process.send_signal(signal.SIGTERM)


def measure_bare(protocol: str, sources: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    """The bare library in a process of its own, which prints its lateness."""
    command = [sys.executable, "-m", "tests.benchmarks.protocols", protocol, "--bare", str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate(json.dumps(sources))
    figures: dict[str, float] = json.loads(printed)
    return figures


def report(polls: list[float], cpu: float, sources: int, seconds: float) -> None:
    """Print what a bare loop measured: the lateness of each poll in seconds, and its CPU."""
    late = statistics.quantiles(polls, n=100)[98]
    figures = {"us_a_poll": 1e6 * cpu / len(polls), "polled": len(polls) / (sources * seconds)}
    print(json.dumps(figures | {"late_p99_ms": 1000 * late}))


@contextmanager
def opcua_machines(machines: int, processes: int) -> Iterator[list[dict[str, Any]]]:
    """OPC UA servers: ports that share an address space in each process."""
    first = random.randrange(10_000, 32_000 - machines)  # below those that the system gives to others
    ports = range(first, first + machines)
    with ExitStack() as stack:
        for share in range(processes):
            own = [str(port) for port in ports[share::processes]]
            command = [sys.executable, "-m", "tests.support.opcua_server", "--ready", *own]
            server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(server.terminate)
            assert server.stdout.readline() == b"ready\n", "the machines do not run"
        yield [{"opcua": f"opc.tcp://127.0.0.1:{port}", "nodes": NODES} for port in ports]


def opcua_loop(sources: list[dict[str, Any]], seconds: float) -> None:
    """One asyncua client for each server, connected once, that reads all nodes in one call."""
    asyncio.run(_opcua_loop(sources, seconds))


async def _opcua_loop(sources: list[dict[str, Any]], seconds: float) -> None:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    late: list[float] = []
    clients = [Client(source["opcua"]) for source in sources]
    for client in clients:
        await client.connect()
    begin = time.monotonic() + 2
    end = begin + seconds

    async def poll(client: Client, source: dict[str, Any], due: float) -> None:
        nodes = [node if isinstance(node, str) else node["node"] for node in source["nodes"].values()]
        read = [client.get_node(node) for node in nodes]
        while due < end:
            await asyncio.sleep(due - time.monotonic())
            await client.read_values(read)
            late.append(time.monotonic() - due)
            due += 1

    cpu = time.process_time()
    offsets = [begin + n / len(clients) for n in range(len(clients))]
    await asyncio.gather(*map(poll, clients, sources, offsets))
    report(late, time.process_time() - cpu, len(sources), seconds)


MODBUS_REGISTERS = {field: REGISTERS[field] for field in ("temperature", "fan_speed")}
"""Two registers in two tables: two requests a poll."""


@contextmanager
def modbus_machines(machines: int, processes: int) -> Iterator[list[dict[str, Any]]]:
    """Modbus devices, each on a port of its own."""
    ports: list[int] = []
    with ExitStack() as stack:
        for share in range(processes):
            own = ["0"] * len(range(share, machines, processes))
            command = [sys.executable, "-m", "tests.support.modbus_server", *own]
            server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(server.terminate)
            ports += map(int, server.stdout.readline().split())
        yield [{"modbus": f"tcp://127.0.0.1:{port}", "registers": MODBUS_REGISTERS} for port in ports]


def modbus_loop(sources: list[dict[str, Any]], seconds: float) -> None:
    """One asyncio client of pymodbus for each device, connected once, that reads what MODBUS_REGISTERS names."""
    asyncio.run(_modbus_loop(sources, seconds))


async def _modbus_loop(sources: list[dict[str, Any]], seconds: float) -> None:
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    late: list[float] = []
    ports = [int(source["modbus"].rpartition(":")[2]) for source in sources]
    clients = [AsyncModbusTcpClient("127.0.0.1", port=port, retries=0) for port in ports]
    for client in clients:
        await client.connect()
    begin = time.monotonic() + 2
    end = begin + seconds

    async def poll(client: AsyncModbusTcpClient, due: float) -> None:
        while due < end:
            await asyncio.sleep(due - time.monotonic())
            holding = await client.read_holding_registers(100, count=1)
            inputs = await client.read_input_registers(4, count=2)
            client.convert_from_registers(holding.registers, client.DATATYPE.INT16)
            client.convert_from_registers(inputs.registers, client.DATATYPE.FLOAT32)
            late.append(time.monotonic() - due)
            due += 1

    cpu = time.process_time()
    await asyncio.gather(*(poll(client, begin + n / len(clients)) for n, client in enumerate(clients)))
    report(late, time.process_time() - cpu, len(sources), seconds)


PROTOCOLS = {"opcua": Protocol(opcua_machines, opcua_loop), "modbus": Protocol(modbus_machines, modbus_loop)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("protocol", choices=PROTOCOLS)
    for name, default in (("machines", 200), ("seconds", 120), ("processes", 4)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--bare", type=float, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    protocol = PROTOCOLS[arguments.protocol]
    if arguments.bare:
        protocol.loop(json.load(sys.stdin), arguments.bare)
        return
    with protocol.machines(arguments.machines, arguments.processes) as sources:
        for label, figures in (
            ("etl run", measure_etl(sources, arguments.seconds)),
            ("bare library", measure_bare(arguments.protocol, sources, arguments.seconds)),
        ):
            print(f"{label}: { ({key: round(value, 3) for key, value in figures.items()}) }", flush=True)


if __name__ == "__main__":
    main()
