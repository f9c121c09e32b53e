"""The report has the same bytes from one process, several or a cluster, and after any of them failed."""

from __future__ import annotations

import gzip
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from api.machines import Machines
from etl.nightly import day as day_module
from etl.nightly import executors
from etl.nightly.column_store import ColumnStore
from etl.nightly.executors import run_parallel
from etl.nightly.job import Job
from etl.nightly.report import encode
from etl.nightly.run import run
from etl.readings.records import Settings
from etl.storage.folder import READ_BYTES, Folder
from etl.storage.settings_log import SettingsLog
from tests.benchmarks.generate import write_day
from tests.support.process import free_port
from tests.support.process import until as wait_until
from tests.support.reports import make_report
from tests.support.workers import meet

DAY = "2026-01-05"
SETTINGS = Settings(
    5, {"temperature": "temperature", "speed": "fan_speed"}, "UTC", 10.0, 0.2, ("telemetry", "status_band")
)


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """A folder with one day of two machines, and its report made by one process."""
    folder = Folder(tmp_path_factory.mktemp("night"))
    write_day(folder.path("raw", DAY), date.fromisoformat(DAY), Machines(2, random.Random(1)))
    return folder, encode(make_report(SettingsLog(folder, SETTINGS), DAY))


class Dask:
    """A dask scheduler and two workers on loopback, each in its own process."""

    def __init__(self) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._processes: list[subprocess.Popen] = []

    @contextmanager
    def running(self):
        with ExitStack() as stack:
            self.scheduler = self._start(stack, "scheduler", "--host", self.address, "--no-dashboard")
            options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", "/tmp")
            self.workers = [self._start(stack, "worker", self.address, *options) for _ in range(2)]
            for worker in self.workers:
                self._await(worker, b"Starting established connection")
            try:
                yield self
            finally:
                for process in (*self.workers, self.scheduler):
                    process.kill()
                    process.wait()

    def _start(self, stack, role, *arguments):
        command = [sys.executable, "-m", "distributed.cli.dask_" + role, *arguments]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        if role == "scheduler":
            self._await(process, b"Scheduler at")
        return process

    @staticmethod
    def _await(process, text):
        for line in process.stderr:
            if text in line:
                return
        raise AssertionError(f"the process ended before it logged {text!r}")


def report(folder, workers=1, cluster=None):
    """The path of the day's report, written by this many processes or by a cluster."""
    job = Job(str(folder.root), DAY, SETTINGS, workers, cluster)
    return Path(run(job, logging.getLogger("etl").warning).path)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_make_the_same_report(day, workers, caplog):
    """Any number of worker processes makes a report of the same bytes."""
    folder, expected = day
    path = report(folder, workers)
    assert path.read_bytes() == expected
    assert not caplog.records


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_parts_of_a_block_make_the_same_report(day, tmp_path, packed, workers, monkeypatch):
    """A day in many parts has the same report, also if it is compressed and can only be read from its start."""
    folder, expected = day
    monkeypatch.setattr(day_module, "PART_BYTES", READ_BYTES)
    parts = []
    add = ColumnStore.add
    monkeypatch.setattr(ColumnStore, "add", lambda self, part: (parts.append(part.length), add(self, part)))
    copy = Folder(tmp_path)
    copy.path("raw", DAY).parent.mkdir()
    raw = folder.path("raw", DAY).read_bytes()
    assert len(raw) > 20 * READ_BYTES
    if packed:
        copy.packed_path("raw", DAY).write_bytes(gzip.compress(raw, 1))
    else:
        copy.path("raw", DAY).write_bytes(raw)
    assert report(copy, workers).read_bytes() == expected
    assert len(parts) > 20
    assert max(parts) < 2000


@pytest.mark.parametrize("workers", [1, 2])
def test_a_day_truncated_meanwhile_is_an_error_in_any_process(tmp_path, workers):
    """If the line of an anomaly no longer exists when its timestamp is read back, EOFError names the line."""
    folder = Folder(tmp_path)
    folder.path("raw", DAY).parent.mkdir()
    folder.path("raw", DAY).touch()
    read = partial(day_module.read_timestamps, folder.root, DAY)

    def work(mapper):
        return list(mapper.map(read, [[day_module.Block(0, 0)]] * 20, [[3]] * 20))

    with pytest.raises(EOFError, match=r"line 4 .* no longer exists"):
        run_parallel(work, workers, None, print)


SCRIPT = """
import time
from pathlib import Path
from etl.nightly.executors import run_parallel
from tests.support.workers import meet

def work(mapper):
    print(*mapper.map(meet, [Path({folder!r})] * 20, [{workers}] * 20), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    run_parallel(work, {workers}, None, print)
"""
"""Prints the pids of the processes that work, and hangs."""


def start_script(folder: Path, workers: int) -> subprocess.Popen[bytes]:
    """Run SCRIPT in a session of its own."""
    meeting = folder / "meeting"
    meeting.mkdir()
    script = folder / "parent.py"
    script.write_text(SCRIPT.format(folder=str(meeting), workers=workers))
    environment = {**os.environ, "PYTHONPATH": "."}
    pipe = subprocess.PIPE
    command = [sys.executable, script]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True, env=environment)


def test_workers_end_with_their_parent(tmp_path):
    """The workers exit when the process that makes the report is killed."""
    with start_script(tmp_path, 2) as process:
        pids = {int(pid) for pid in process.stdout.readline().split()}
        process.kill()
    assert len(pids) == 2
    wait_until(lambda: not any(_lives(pid) for pid in pids), 60)


def test_this_process_is_one_of_the_workers(tmp_path):
    """Of two workers one is this process; both take calls."""
    pids = run_parallel(lambda mapper: [*mapper.map(meet, [tmp_path] * 20, [2] * 20)], 2, None, print)
    assert len(pids) == 20
    assert os.getpid() in pids
    assert len({*pids}) == 2


def test_parts_are_not_read_far_ahead():
    """However many parts there are, only a few are read before they are needed, because they take memory."""
    started = []

    def parts():
        for number in range(100):
            started.append(number)
            yield number

    def work(mapper):
        for number, result in enumerate(mapper.map(_after, parts())):
            assert result == number
            assert len(started) <= number + 16
        return started

    assert run_parallel(work, 2, None, print) == list(range(100))


def _after(number):
    time.sleep(0.001)
    return number


def test_workers_ignore_ctrl_c(tmp_path):
    """The workers on the same terminal print nothing at SIGINT; they exit after the parent."""
    with start_script(tmp_path, 3) as process:
        pids = {int(pid) for pid in process.stdout.readline().split()}
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=120)[1]
    assert errors.count(b"Traceback") == 1
    assert errors.endswith(b"KeyboardInterrupt\n")
    assert len(pids) == 3
    wait_until(lambda: not any(_lives(pid) for pid in pids), 60)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _die_elsewhere(parent):
    if os.getpid() != parent:
        os._exit(1)


def test_after_the_death_of_a_worker_one_process_does_the_work():
    """If a worker process dies, the work starts again in this process, after a warning."""
    warnings = []

    def work(mapper):
        return "local" if mapper.parts == 1 else list(mapper.map(_die_elsewhere, [os.getpid()] * 9))

    assert run_parallel(work, 2, None, warnings.append) == "local"
    assert re.match("A worker process died: .* The report is made by one process.", warnings[0])


def test_a_cluster_makes_the_same_report(day, caplog):
    """A scheduler and two workers make a report of the same bytes as this process."""
    folder, expected = day
    with Dask().running() as dask:
        path = report(folder, cluster=dask.address)
    assert path.read_bytes() == expected
    assert not caplog.records


def test_without_an_answer_of_the_cluster_this_machine_makes_the_report(day, caplog, monkeypatch):
    """A cluster that does not answer is logged with its address, and the report is the same."""
    monkeypatch.setattr(executors, "CLUSTER_TIMEOUT_S", 1)
    folder, expected = day
    address = f"tcp://127.0.0.1:{free_port()}"
    assert report(folder, cluster=address).read_bytes() == expected
    assert address in caplog.text
    assert "made on this machine" in caplog.text


@pytest.mark.parametrize("victim", ["scheduler", "workers"])
def test_after_the_death_of_a_cluster_this_machine_does_the_work(victim, monkeypatch):
    """If its scheduler or its workers die during the work, the work starts again here, after a warning."""
    monkeypatch.setattr(executors, "CLUSTER_CHECK_S", 0.2)
    warnings = []
    with Dask().running() as dask:

        def work(mapper):
            if mapper is executors.SERIAL:
                return "local"
            results = mapper.map(subprocess.call, [["sleep", "30"]] * 2)
            for process in dask.workers if victim == "workers" else [dask.scheduler]:
                process.send_signal(signal.SIGKILL)
            return list(results)

        assert run_parallel(work, 1, dask.address, warnings.append) == "local"
    assert len(warnings) == 1
