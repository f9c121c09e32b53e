"""The nightly job's child process: what it gives back, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from etl.live.children import child
from etl.live.children.child import StoppedError
from etl.live.children.night import in_child
from etl.nightly.job import Job
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from tests.support.process import until

SETTINGS = Settings(5, {"temperature": "temperature", "speed": "fan_speed"}, "UTC", 10.0, 0.2)
DAY, START = "2026-11-22", 1_795_341_600.0


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


@pytest.fixture
def day(tmp_path):
    """The job of a day with readings."""
    raw = tmp_path / "raw" / f"{DAY}.jsonl"
    raw.parent.mkdir()
    raw.write_bytes(b"".join(
        raw_line({"temperature": 20 + n % 7, "fan_speed": 900}, source, START + 10 * n)
        for n in range(500) for source in ("a", "b")
    ))  # fmt: skip
    return Job(str(tmp_path), DAY, SETTINGS)


def test_a_child_writes_the_report_and_its_page(day):
    """The child answers with the path and the summary of the report, and is gone."""
    before = children()
    result = in_child(day, lambda: False)
    path = Path(result.path)
    assert msgspec.json.decode(path.read_bytes())["date"] == DAY
    assert path.with_suffix(".html").exists()
    assert result.summary["text"].startswith(f"{DAY}: 2 machines sent 1,000 of ")
    assert children() == before


def test_a_report_that_cannot_be_made_or_written_is_an_error(day, tmp_path):
    """No raw log and a folder that cannot be written are errors of the operating system; the child is gone."""
    before = children()
    with pytest.raises(OSError, match="exit code"):
        in_child(msgspec.structs.replace(day, day="2026-11-23"), lambda: False)
    (tmp_path / "reports").write_bytes(b"")
    with pytest.raises(OSError, match="exit code"):
        in_child(day, lambda: False)
    assert children() == before


def test_a_child_is_killed_when_the_process_stops(day, tmp_path, monkeypatch):
    """Once the process is to stop, it neither waits for the child nor leaves it behind."""
    monkeypatch.setattr(child, "CHECK_S", 0.0)  # the child is stopped while its interpreter starts
    before = children()

    def stopping() -> bool:
        (pid,) = children() - before
        os.kill(int(pid), signal.SIGSTOP)  # it cannot end by itself, although its stdin closes
        return until(lambda: "(stopped)" in Path(f"/proc/{pid}/status").read_text())

    with pytest.raises(StoppedError):
        in_child(day, stopping)
    assert children() == before


def test_a_child_runs_no_code_of_the_current_folder(day, tmp_path, monkeypatch):
    """Modules planted in the current folder are not imported."""
    for name in ("etl", "numpy", "pickle", "click"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    monkeypatch.chdir(tmp_path)
    assert Path(in_child(day, lambda: False).path).exists()


def test_a_child_ends_with_its_parent(tmp_path):
    """When the parent is killed, the child ends: its stdin closes."""
    command = [sys.executable, "-m", "etl", "report", "--date", DAY, "--closed"]
    raw = tmp_path / "raw" / f"{DAY}.jsonl"
    raw.parent.mkdir()
    raw.write_bytes(raw_line({"temperature": 20}, "a", START) * 2_000_000)  # the child works until it is ended
    request = msgspec.json.encode(Job(str(tmp_path), DAY, SETTINGS)) + b"\n"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(request)
        process.stdin.flush()
        stat = Path(f"/proc/{process.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[16] == "19")  # at the lowest priority
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(60) == 1
