"""The real process: a folder with a config, and the commands that run in it."""

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
from typing import IO

import yaml

HANG_S = 600.0
"""A wait that takes longer fails. It only stops a hung test: no test depends on how fast the machine is."""


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def until(condition, seconds: float = HANG_S):
    """Wait until a condition holds, and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"the condition did not hold within {seconds:g} s")


class Site:
    """A folder with a config, and the commands that run in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = free_port()
        self.config = {
            "interval": "200ms",
            "sources": [{"name": "machine-1", "url": f"http://127.0.0.1:{self.port}/data"}],
            "api": {"port": self.port},
        }

    def save(self, **changes) -> None:
        """Change keys of the config and write the file."""
        self.config |= changes
        (self.root / "config.yaml").write_text(yaml.safe_dump(self.config))

    def etl(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run an `etl` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "etl", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            **options,
        )

    @contextmanager
    def running(self, *command: str, stdout: IO[bytes] | int = subprocess.PIPE):
        """Start a process in this folder, `etl run` by default; it is killed if it still runs at the end."""
        arguments = command or ("-m", "etl", "run")
        with (
            (self.root / "stderr").open("w") as errors,
            subprocess.Popen([sys.executable, *arguments], cwd=self.root, stdout=stdout, stderr=errors) as process,
        ):
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def lines(self, kind: str) -> list[dict]:
        """The whole lines of the newest file of a kind, parsed."""
        path = self.root / "output" / f"{kind}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def events(self, name: str) -> list[dict]:
        """The events of this name in the newest file."""
        return [event for event in self.lines("events") if event["event"] == name]

    def ask(self, path: str, body: bytes | None = None):
        """Send a request to the API; the JSON of the answer."""
        return json.loads(self.fetch(path, body))

    def fetch(self, path: str, body: bytes | None = None) -> bytes:
        """Send a request to the API; the body of the answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        with urllib.request.urlopen(request, timeout=HANG_S) as answer:
            return answer.read()

    def metric(self, name: str) -> float:
        """The value of one sample of /metrics; `name` includes its labels."""
        samples = dict(line.rsplit(" ", 1) for line in self.fetch("/metrics").decode().splitlines())
        return float(samples[name])


def end(process: subprocess.Popen, number: int = signal.SIGTERM, code: int = 0) -> bytes:
    """Send a signal and wait until the process exits by itself with this code; the rest of its output."""
    process.send_signal(number)
    printed, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == code
    return printed


def caused_by_load(event: dict) -> bool:
    """Whether a busy machine alone explains an event: an answer missed its deadline, or the process did not run.

    Tests read sources every 100 ms, so that an answer has 80 ms; on a machine under load that is not always enough.
    """
    if event["event"] in ("source_down", "source_up"):
        return event["reason"] == "timeout"
    return (event["event"], event["reason"]) == ("gap", "stalled")


def not_refused(site) -> bool:
    """Whether the site's API answers."""
    try:
        site.ask("/data")
    except (urllib.error.URLError, ConnectionError):
        return False
    return True


def closed_day(site) -> str:
    """Write the raw log of a day that is long over into the folder; its name."""
    (site.root / "output" / "raw").mkdir(parents=True)
    line = '{"temperature":%d,"fan_speed":5,"_source":"m","_polled_at":"2026-01-05T10:00:%02d.000Z"}\n'
    (site.root / "output" / "raw" / "2026-01-05.jsonl").write_text(
        "".join(line % (20 + 9 * (i == 7), i) for i in range(30))
    )
    return "2026-01-05"
