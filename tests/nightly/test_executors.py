"""The report is the same bytes whoever makes it: this process, several, a cluster, or what is left when one breaks."""

from __future__ import annotations

import gzip
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
from etl.nightly.column_store import Spill
from etl.nightly.executors import executed
from etl.nightly.night import here
from etl.nightly.report import encode, make_report
from etl.readings.records import Settings
from etl.storage.folder import READ_BYTES, Folder
from etl.storage.settings_log import SettingsLog
from tests.benchmarks.generate import write_day
from tests.support.process import free_port
from tests.support.process import until as wait_until

DAY = "2026-01-05"
SETTINGS = Settings(
    5, {"temperature": "temperature", "speed": "fan_speed"}, "UTC", 10.0, 0.2, ("telemetry", "status_band")
)


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """A folder with one day of two machines, and its report made here in turn."""
    folder = Folder(tmp_path_factory.mktemp("night"))
    write_day(folder.path("raw", DAY), date.fromisoformat(DAY), Machines(2, random.Random(1)))
    return folder, encode(make_report(SettingsLog(folder, SETTINGS), DAY))


class Dask:
    """A scheduler and two workers, each a process of its own, on loopback."""

    def __init__(self) -> None:
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self._processes: list[subprocess.Popen] = []

    @contextmanager
    def running(self):
        with ExitStack() as stack:
            self.scheduler = self._start(stack, "scheduler", "--host", self.address, "--no-dashboard")
            self.workers = [
                self._start(stack, "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                            "--local-directory", "/tmp")
                for _ in range(2)
            ]  # fmt: skip
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
    def _await(process, what):
        for line in process.stderr:
            if what in line:
                return
        raise AssertionError(f"the process ended before it said {what!r}")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_make_the_same_report(day, workers, caplog):
    """Any number of worker processes gives the same bytes, and none is left."""
    folder, expected = day
    path = here()(folder, DAY, SETTINGS, workers, None)
    assert path.read_bytes() == expected
    assert not caplog.records


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_parts_of_a_block_make_the_same_report(day, tmp_path, packed, workers, monkeypatch):
    """A day in many parts, also where it is compressed and has to be read from its start on."""
    folder, expected = day
    monkeypatch.setattr(day_module, "PART", READ_BYTES)
    parts = []
    add = Spill.add
    monkeypatch.setattr(Spill, "add", lambda self, part: (parts.append(part.length), add(self, part)))
    copy = Folder(tmp_path)
    copy.path("raw", DAY).parent.mkdir()
    raw = folder.path("raw", DAY).read_bytes()
    assert len(raw) > 20 * READ_BYTES
    if packed:
        copy.packed_path("raw", DAY).write_bytes(gzip.compress(raw, 1))
    else:
        copy.path("raw", DAY).write_bytes(raw)
    assert here()(copy, DAY, SETTINGS, workers, None).read_bytes() == expected
    assert len(parts) > 20
    assert max(parts) < 2000


@pytest.mark.parametrize("workers", [1, 2])
def test_a_day_cut_short_meanwhile_is_told_by_whoever_reads_it(tmp_path, workers):
    """Where an anomaly's line is gone when its timestamp is read back, the report cannot be made, and nothing else."""
    folder = Folder(tmp_path)
    folder.path("raw", DAY).parent.mkdir()
    folder.path("raw", DAY).touch()
    read = partial(day_module.read_timestamps, folder.root, DAY)

    def work(executing):
        return list(executing.map(read, [[day_module.Block(0, 0)]] * 20, [[3]] * 20))

    with pytest.raises(EOFError, match=r"line 4 .* is no longer there"):
        executed(work, workers, None, print)


def test_workers_end_with_their_parent(tmp_path):
    """Where the process that makes the report is killed, no worker is left."""
    code = (
        "import os, time; from etl.nightly.executors import executed\n"
        "def pids(n): time.sleep(0.2); return os.getpid()\n"
        "def work(executing): print(*executing.map(pids, range(4)), flush=True); time.sleep(60)\n"
        "if __name__ == '__main__': executed(work, 2, None, print)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    ) as it:
        workers = {int(pid) for pid in it.stdout.readline().split()}
        it.kill()
    assert workers
    wait_until(lambda: not any(_lives(pid) for pid in workers))


def _where(_, seconds):
    time.sleep(seconds)
    return os.getpid()


def test_this_process_works_as_well():
    """With two workers one is this process, which begins at once; the other one takes what is left, in order."""
    done = executed(lambda executing: [*executing.map(_where, range(60), [0.02] * 60)], 2, None, print)
    assert len(done) == 60
    assert os.getpid() in done
    assert len({*done}) == 2


def test_parts_are_not_read_far_ahead():
    """However many parts there are, few wait for the one that is asked for: their columns stand in memory."""
    begun = []

    def parts():
        for number in range(100):
            begun.append(number)
            yield number

    def work(executing):
        for number, at in enumerate(executing.map(_after, parts())):
            assert at == number
            assert len(begun) <= number + 16
        return begun

    assert executed(work, 2, None, print) == list(range(100))


def _after(number):
    time.sleep(0.001)
    return number


def test_ctrl_c_on_the_terminal_is_for_this_process(tmp_path):
    """The workers that share the terminal say nothing, and end with it."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time; from etl.nightly.executors import executed\n"
        "def pids(n): time.sleep(0.1); return os.getpid()\n"
        "def work(executing): print(*executing.map(pids, range(30)), flush=True); time.sleep(60)\n"
        "if __name__ == '__main__': executed(work, 3, None, print)\n"
    )
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PYTHONPATH": "."},
    ) as it:  # fmt: skip
        pids = {int(pid) for pid in it.stdout.readline().split()}
        os.killpg(it.pid, signal.SIGINT)
        said = it.communicate(timeout=30)[1]
    assert said.count(b"Traceback") == 1
    assert said.endswith(b"KeyboardInterrupt\n")
    assert len(pids) == 3
    wait_until(lambda: not any(_lives(pid) for pid in pids))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _die_elsewhere(parent):
    if os.getpid() != parent:
        os._exit(1)


def test_where_a_worker_dies_the_report_is_made_in_turn():
    """A worker process that is killed costs the report nothing but time."""
    told = []

    def work(executing):
        return "here" if executing.parts == 1 else list(executing.map(_die_elsewhere, [os.getpid()] * 9))

    assert executed(work, 2, None, told.append) == "here"
    assert re.match("A worker process died: .* The report is made by one process.", told[0])


def test_a_cluster_makes_the_same_report(day, caplog):
    """A scheduler and two workers give the same bytes as this process does."""
    folder, expected = day
    with Dask().running() as dask:
        path = here()(folder, DAY, SETTINGS, 1, dask.address)
    assert path.read_bytes() == expected
    assert not caplog.records


def test_where_the_cluster_is_down_the_report_is_made_here(day, caplog, monkeypatch):
    """A cluster that does not answer is told, and the report is the same."""
    monkeypatch.setattr(executors, "REACHED", 1)
    folder, expected = day
    address = f"tcp://127.0.0.1:{free_port()}"
    assert here()(folder, DAY, SETTINGS, 1, address).read_bytes() == expected
    assert address in caplog.text
    assert "made on this machine" in caplog.text


@pytest.mark.parametrize("victim", ["scheduler", "workers"])
def test_where_the_cluster_dies_halfway_the_report_is_made_here(victim, monkeypatch):
    """Its scheduler or its workers gone in the middle of the work, the work is done again here, and that is told."""
    monkeypatch.setattr(executors, "LOOK", 0.2)
    told = []
    with Dask().running() as dask:

        def work(executing):
            if executing is executors.HERE:
                return "here"
            results = executing.map(subprocess.call, [["sleep", "5"]] * 2)
            killed = dask.workers if victim == "workers" else [dask.scheduler]
            for process in killed:
                process.send_signal(signal.SIGKILL)
            return list(results)

        assert executed(work, 1, dask.address, told.append) == "here"
    assert len(told) == 1
