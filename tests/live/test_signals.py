"""Signals that end or stop a process: SIGTERM, SIGINT, SIGSTOP."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest

from etl.config import load as config
from etl.nightly.report import encode
from etl.storage.settings_log import SettingsLog
from tests.support.numbered import check_averages, folder_of, numbers, stderr
from tests.support.plant import FIXTURE
from tests.support.process import HANG_S, end, until
from tests.support.reports import make_report


@contextmanager
def mute():
    """The URL of a machine that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_during_a_tick_everything_printed_is_whole(site, number):
    """Ended when a reading is written, again and again, the process exits with 0 and each reading has its average."""
    (site.root / "followed.jsonl").touch()
    site.save(sources=[*site.config["sources"], {"name": "followed", "file": "followed.jsonl"}])
    for start in range(0, 300, 100):
        before = len(site.lines("raw"))
        with (site.root / "followed.jsonl").open("a") as file:
            file.writelines(f'{{"n":{n},"temperature":1}}\n' for n in range(start, start + 100))
        with site.running() as process:
            until(lambda before=before: len(site.lines("raw")) > before)
            end(process, number)
        assert len(site.lines("raw")) == len(site.lines("averages"))
        assert site.events("stop")[-1]["reason"] == number.name
    assert numbers(site.lines("raw"), "followed") == list(range(300))
    check_averages(site)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_twice_it_ends_at_once(site, number):
    """A second signal does not wait for a poll that hangs; the next start finds everything whole."""
    with mute() as url:
        sources = [{"name": "mute", "url": url, "timeout": "20m"}, {"name": "file", "file": str(FIXTURE)}]
        site.save(interval="30m", sources=sources)
        with site.running() as process:
            until(lambda: site.lines("averages"))
            until(lambda: process.poll() is not None or process.send_signal(number))
            assert process.returncode == 128 + number
    site.save(sources=sources[1:])
    assert site.etl("once").returncode == 0
    assert site.events("repaired") == []
    check_averages(site)


def test_ended_during_a_report_it_is_left_for_the_next_start(site):
    """Ended in the middle of a big day's report the process exits with 0 and leaves none; the next start makes it."""
    site.etl("once")
    folder = folder_of(site)
    line = b'{"temperature":%d,"_source":"m","_polled_at":"2026-01-05T10:00:00.%03dZ"}\n'
    block = b"".join(line % (20 + 9 * (n == 7), n) for n in range(1000))
    with gzip.open(folder.packed_path("raw", "2026-01-05"), "wb", 1) as file:
        file.writelines([block] * 120)
    with site.running() as process:
        until(lambda: "2026-01-05.jsonl.gz" in open_files(process))
        end(process)
    assert "the next start writes the report" in stderr(site)
    assert os.listdir(folder.reports_path) == []
    with site.running() as process:
        until(folder.reports)
        end(process)
    report = make_report(SettingsLog(folder, config.load(site.root / "config.yaml").settings), "2026-01-05")
    assert report["machines"][0]["readings"] == 120_000
    assert folder.report_path("2026-01-05").read_bytes() == encode(report)


def open_files(process: subprocess.Popen) -> set[str]:
    """The names of the files a process and its children have open."""
    names = set()
    children = [
        pid for task in Path(f"/proc/{process.pid}/task").glob("*/children") for pid in task.read_text().split()
    ]
    for pid in (process.pid, *children):
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(FileNotFoundError):
                names.add(fd.readlink().name)
    return names


def test_stopped_for_a_while_there_is_one_gap_and_no_burst(site):
    """After SIGSTOP and SIGCONT one event records the gap, and there are no more polls than slots since then."""
    interval = 0.2
    site.save(interval="200ms")
    with site.running() as process:
        until(lambda: len(site.lines("raw")) > 3)
        process.send_signal(signal.SIGSTOP)
        before, stopped = len(site.lines("raw")), time.time()
        until(lambda: time.time() > stopped + 2.7)
        woken = time.time()
        process.send_signal(signal.SIGCONT)
        until(lambda: len(site.lines("averages")) > before + 5)
        end(process)
    (gap,) = [gap for gap in site.events("gap") if moment(gap["since"]) < stopped + 1 and moment(gap["at"]) >= woken]
    assert gap["reason"] == "stalled"
    assert gap["seconds"] >= 2.7
    polled = [moment(line["_polled_at"]) for line in site.lines("raw")]
    after = [at for at in polled if at >= woken - 0.001]
    assert len(polled) - len(after) <= before + 1
    assert len(after) <= (after[-1] - after[0]) / interval + 2


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


IMPORTING = """
import os, signal, sys
import etl.__main__, etl.cli.main
start = etl.cli.main.main

def main():
    os.kill(os.getpid(), {number})
    start()

etl.cli.main.main = main
sys.argv = ["etl", "run"]
etl.__main__.main()
"""


def test_a_hangup_while_the_program_is_imported_is_a_reload(site):
    """SIGHUP in the first moments of the process, before anything is imported, reloads the config after the start."""
    with site.running("-c", IMPORTING.format(number=int(signal.SIGHUP))) as process:
        until(lambda: "is applied" in stderr(site) and site.lines("raw"))
        end(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_program_is_imported_ends_it_cleanly(site, number):
    """SIGTERM or SIGINT in the first moments of the process ends it with exit code 0 and the lock released."""
    with site.running("-c", IMPORTING.format(number=int(number))) as process:
        process.communicate(timeout=HANG_S)
        assert process.returncode == 0
    assert site.events("stop")[-1]["reason"] == number.name
    assert site.etl("once").returncode == 0


READING = """
import os, signal, sys
import etl.__main__, etl.cli.command
load = etl.cli.command.load

def read(file):
    os.kill(os.getpid(), signal.SIGHUP)
    return load(file)

etl.cli.command.load = read
sys.argv = ["etl", "run"]
etl.__main__.main()
"""


def test_a_hangup_while_the_config_is_read_is_a_reload(site):
    """SIGHUP while the config is read does not end the process: it reads the config once more."""
    with site.running("-c", READING) as process:
        until(lambda: process.poll() is not None or "is applied" in stderr(site))
        end(process)
