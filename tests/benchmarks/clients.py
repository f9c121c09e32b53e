"""`GET /healthz` of `etl run` beside clients that are silent, slow, upload without the token, or take all descriptors.

python -m tests.benchmarks.clients [--clients 200] [--descriptors 64]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.idle import cpu_seconds, rss_mib
from tests.support.process import free_port

HEALTH_CHECKS = 10
"""One a second."""
UPLOADS, UPLOAD_BYTES = 12, 60 << 20
Attack = Callable[[list[socket.socket]], None]


def silent(_clients: list[socket.socket]) -> None:
    """Send nothing."""


def half(clients: list[socket.socket]) -> None:
    """Send half a request."""
    for client in clients:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a")


def slow(clients: list[socket.socket]) -> None:
    """Send a byte a second."""
    half(clients)
    while True:
        time.sleep(1)
        for client in clients:
            with contextlib.suppress(OSError):
                client.send(b"a")


def upload(clients: list[socket.socket]) -> None:
    """Send a body of 60 MiB but for its last byte."""
    for client in clients[:UPLOADS]:
        with contextlib.suppress(OSError):
            client.sendall(b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % UPLOAD_BYTES)
            client.sendall(bytes(UPLOAD_BYTES - 1))


def temporary_mib(pid: int, folder: str) -> float:
    """The size of the temporary files that the process has open."""
    links = [path for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    return sum(path.stat().st_size for path in links if os.readlink(path).startswith(folder)) / (1 << 20)


def measure(name: str, attack: Attack, count: int, descriptors: int | None = None) -> None:
    """Start the process, then so many clients, and print the slowest health check."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as temporary:
        root = Path(folder)
        source = {"name": "machine-1", "url": f"http://127.0.0.1:{port}/data"}
        config = {"interval": "1s", "sources": [source], "api": {"port": port, "token": "a-long-token"}}
        (root / "config.yaml").write_text(json.dumps(config))
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "etl", "run"],
                cwd=root, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "TMPDIR": temporary},
            )  # fmt: skip
        if descriptors:
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
        threading.Thread(target=lambda: list(process.stdout or ()), daemon=True).start()
        time.sleep(3)
        began, cpu = time.monotonic(), cpu_seconds(process.pid)
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        threading.Thread(target=attack, args=(clients,), daemon=True).start()
        latencies = []
        for _ in range(HEALTH_CHECKS):
            time.sleep(1)
            start = time.monotonic()
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30).read()
            latencies.append(time.monotonic() - start)
        share = (cpu_seconds(process.pid) - cpu) / (time.monotonic() - began)
        print(
            f"{name:12} healthz {max(latencies) * 1000:8.1f} ms, CPU {share:5.1%}, "
            f"RSS {rss_mib(process.pid):4.0f} MiB, temporary files {temporary_mib(process.pid, temporary):4.0f} MiB, "
            f"log {(root / 'log').stat().st_size:10} bytes, "
            f"readings {len((root / 'output' / 'raw.jsonl').read_bytes().splitlines())}"
        )
        process.kill()
        process.wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clients", type=int, default=200)
    options.add_argument("--descriptors", type=int, default=64)
    arguments = options.parse_args()
    for attack in (silent, half, slow, upload):
        measure(attack.__name__, attack, UPLOADS if attack is upload else arguments.clients)
    measure("descriptors", silent, arguments.clients, arguments.descriptors)


if __name__ == "__main__":
    main()
