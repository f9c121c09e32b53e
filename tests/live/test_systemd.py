"""As a service: the messages to systemd, its unit, metrics in the format of Prometheus."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from etl.live.systemd import Service
from tests.support import servers
from tests.support.process import end, until

ROOT = Path(__file__).parents[2]


class Manager:
    """A service manager's socket; `heard` collects the messages to it."""

    def __init__(self, address: str) -> None:
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def listen(self) -> list[str]:
        """All messages so far; those that have arrived are read."""
        with suppress(BlockingIOError):
            while True:
                self.heard.append(self._socket.recv(4096).decode())
        return self.heard

    def close(self) -> None:
        self._socket.close()


HANGING = """
import os, threading
from etl.cli.main import main
fsync = os.fsync
os.fsync = lambda fd: threading.Event().wait() if os.path.exists("hang") else fsync(fd)
main()
"""
"""The program, with an fsync that never returns once there is a file `hang`."""


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """A manager that the environment names, and a watchdog of a second."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@etl-test-{os.getpid()}-{tmp_path.name}"
    listening = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    yield listening
    listening.close()


def test_the_manager_hears_of_a_whole_life(site, manager):
    """READY when polling has begun, WATCHDOG while ticks finish, RELOADING and READY again, STOPPING."""
    with site.running() as process:
        until(lambda: "WATCHDOG=1" in manager.listen())
        assert manager.heard[:2] == ["WATCHDOG_USEC=1000000", "READY=1"]
        assert site.lines("raw")
        process.send_signal(signal.SIGHUP)
        until(lambda: any("RELOADING=1" in message for message in manager.listen()))
        until(lambda: manager.listen().count("READY=1") == 2)
        reloading = next(message for message in manager.heard if "RELOADING" in message)
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
        end(process)
    assert manager.listen().count("STOPPING=1") == 1
    assert manager.heard.count("WATCHDOG=1") >= 1


def test_the_watchdog_is_fed_while_sources_are_down(site, manager):
    """A tick that ends with failures has finished: a restart would not help."""
    (site.root / "numbered.json").unlink()
    with site.running() as process:
        until(lambda: manager.listen().count("WATCHDOG=1") >= 5)
        end(process)


def test_the_watchdog_starves_where_ticks_do_not_finish(site, manager):
    """A write that hangs, as on a network drive, stops no poll, but nothing feeds the watchdog."""
    machine = servers.Server(servers.good)
    try:
        source = {"name": "m-{n}", "url": machine.url, "count": 20}
        site.save(sources=[*site.config["sources"], source])
        with site.running("-c", HANGING, "run") as process:
            until(lambda: "WATCHDOG=1" in manager.listen())
            (site.root / "hang").touch()
            fed, polled = -1, 0

            def starves() -> bool:
                """Whether there were a hundred polls since the watchdog was fed."""
                nonlocal fed, polled
                if manager.listen().count("WATCHDOG=1") > fed:
                    fed, polled = manager.heard.count("WATCHDOG=1"), len(machine.requests)
                return len(machine.requests) >= polled + 100

            until(starves)
            assert process.poll() is None
    finally:
        machine.close()


def test_a_process_that_cannot_start_is_never_ready(site, manager):
    """A process that cannot start never sends READY."""
    site.save(output={"folder": "numbered.json"})
    assert site.etl("run").returncode == 73
    assert manager.listen() == []


@pytest.mark.parametrize(
    ("interval", "watchdog"), [(10.0, 60_000_000), (20.0, 80_000_000), (86_400.0, 345_600_000_000)]
)
def test_the_watchdog_waits_for_four_intervals_at_least(manager, tmp_path, interval, watchdog):
    """Where ticks are rarer than the watchdog expects, the process asks for a longer timeout."""
    environment = {"NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"], "WATCHDOG_USEC": "60000000"}
    Service(environment).ready(interval)
    assert manager.listen() == [f"WATCHDOG_USEC={watchdog}", "READY=1"]


def test_a_watchdog_is_fed_once_for_each_finished_tick(manager):
    """Without a tick in between it is not fed again; a watchdog for another process is never fed."""
    environment = {**os.environ, "WATCHDOG_PID": str(os.getpid())}
    service = Service(environment)
    for finished in (0, 3, 3, 4):
        service.feed(finished)
    Service({**environment, "WATCHDOG_PID": "1"}).feed(5)
    assert manager.listen() == ["WATCHDOG=1"] * 2


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@nobody", "vsock:2:1", "/" + "x" * 200])
def test_a_missing_manager_is_ignored(address):
    """A message to an address where nothing listens is no error."""
    service = Service({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "x"})
    service.ready(10)
    service.feed(1)
    service.stopping()


def test_a_tick_with_lines_in_the_queue_has_finished(plant):
    """While the disk is full the watchdog is fed: a restart would lose the lines in the queue."""
    here = plant()
    here.folder.root.write_text("in the way")
    here.tick(2)
    assert here.pipeline.standing.stuck
    assert here.pipeline.standing.finished_ticks == 2


def unit() -> str:
    """The unit file, with this environment's command."""
    written = (ROOT / "etl" / "cli" / "telemetry.service").read_text()
    return written.replace("/opt/telemetry/.venv/bin/etl", f"{Path(sys.executable).parent}/etl")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here (Debian: systemd)")
def test_the_unit_file_is_sound(tmp_path):
    """`systemd-analyze` finds no fault in the unit file, and rates its exposure below 2 of 10."""
    file = tmp_path / "telemetry.service"
    file.write_text(unit())
    verified = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    secure = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(file)]
    assert subprocess.run(secure, capture_output=True).returncode == 0


def test_the_unit_files_command_exists():
    """The options in ExecStart are options of `etl run`."""
    options = re.search(r"ExecStart=\S+ (\w+) (.*)", unit())
    assert options[1] == "run"
    shown = subprocess.run([sys.executable, "-m", "etl", "run", "--help"], capture_output=True, text=True).stdout
    assert all(option in shown for option in re.findall(r"--[a-z-]+", options[2]))


@contextmanager
def metrics(site, **changes):
    """The metrics of a process that serves them."""
    site.save(api={"port": site.port}, **changes)
    with site.running() as process:
        until(lambda: len(site.lines("averages")) > 1)
        yield site.fetch("/metrics").decode()
        end(process)


def test_metrics_count_ticks_events_bytes_and_reports(site):
    """Ticks by result, events by name, bytes of the newest files and the last report, each in base units."""
    reports = site.root / "output" / "reports"
    reports.mkdir(parents=True)
    (reports / "2026-01-05.json").write_text("{}")
    os.utime(reports / "2026-01-05.json", (1_767_650_700, 1_767_650_700))
    with metrics(site) as text:
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['telemetry_ticks_total{result="written"}']) >= 1
    assert float(values['telemetry_ticks_total{result="held"}']) == 0
    assert float(values['telemetry_events_total{event="start"}']) == 1
    assert float(values['telemetry_events_total{event="clock_step"}']) == 0
    assert float(values['telemetry_output_bytes{kind="raw"}']) > 100
    assert float(values["telemetry_report_last_success_timestamp_seconds"]) == 1_767_650_700


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool here (Debian: prometheus)")
def test_promtool_accepts_the_metrics(site):
    """`promtool check metrics` reports no problem, also with a source that is down."""
    down = {"name": "down", "url": "http://127.0.0.1:1/"}
    with metrics(site, sources=[*site.config["sources"], down]) as text:
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
