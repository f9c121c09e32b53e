"""The real process: a folder with a config, and the commands run in it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import yaml


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def until(condition, seconds: float = 15.0):
    """Wait for a condition, and give what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


class Site:
    """A folder with a config, and the commands run in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.config = {
            "interval": "200ms",
            "sources": [{"name": "machine-1", "url": f"http://127.0.0.1:{self.port}/data"}],
            "api": {"port": self.port},
        }

    def save(self, **changes) -> None:
        self.config |= changes
        (self.root / "config.yaml").write_text(yaml.safe_dump(self.config))

    def etl(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "etl", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=30,
            **options,
        )

    @contextmanager
    def running(self, *command: str):
        """A process of this folder, ended by its id."""
        arguments = command or ("-m", "etl", "run")
        with (
            (self.root / "stderr").open("w") as errors,
            subprocess.Popen(
                [sys.executable, *arguments], cwd=self.root, stdout=subprocess.PIPE, stderr=errors
            ) as process,
        ):
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def lines(self, kind: str) -> list[dict]:
        path = self.root / "output" / f"{kind}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def events(self, name: str) -> list[dict]:
        return [event for event in self.lines("events") if event["event"] == name]

    def ask(self, path: str, body: bytes | None = None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)


def end(process: subprocess.Popen, number: int = signal.SIGTERM) -> float:
    """Send a signal; seconds until the process was gone, with exit code 0."""
    began = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == 0
    return time.monotonic() - began


def not_refused(site) -> bool:
    try:
        site.ask("/data")
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def closed_day(site) -> str:
    """Give the folder a raw log of a day long ago; its name."""
    (site.root / "output" / "raw").mkdir(parents=True)
    line = '{"temperature":%d,"fan_speed":5,"_source":"m","_polled_at":"2026-01-05T10:00:%02d.000Z"}\n'
    (site.root / "output" / "raw" / "2026-01-05.jsonl").write_text(
        "".join(line % (20 + 9 * (i == 7), i) for i in range(30))
    )
    return "2026-01-05"
