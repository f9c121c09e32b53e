"""A child process: what it gives back, and that nothing of it stays."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from etl.nightly.child import StoppedError, in_child
from tests.support.process import until as wait_until


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def test_what_a_function_returns_or_raises_comes_back():
    """Called in a child at the lowest priority, a function returns and raises as it would here."""
    before = children()
    assert in_child(operator.mul, 6, 7, stopping=lambda: False) == 42
    assert in_child(os.getpriority, os.PRIO_PROCESS, 0, stopping=lambda: False) == 19
    with pytest.raises(FileNotFoundError):
        in_child(os.stat, "/nowhere", stopping=lambda: False)
    with pytest.raises(ChildProcessError, match="exit code 3"):
        in_child(os._exit, 3, stopping=lambda: False)
    assert children() == before


def test_a_child_that_is_not_wanted_any_more_is_ended():
    """Once asked to stop, the parent neither waits for the child nor leaves it behind."""
    before, began = children(), time.monotonic()
    with pytest.raises(StoppedError):
        in_child(time.sleep, 60, stopping=lambda: True)
    assert time.monotonic() - began < 10
    assert children() == before


def test_a_child_ends_with_its_parent(tmp_path):
    """Where the parent is killed, the child does not go on."""
    mark = tmp_path / "pid"
    code = (
        "import subprocess; from etl.nightly.child import in_child;"
        f"in_child(subprocess.run, ['sh', '-c', 'echo $PPID > {mark}; exec sleep 60'], stopping=lambda: False)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        wait_until(lambda: mark.exists() and mark.read_text())
        child = int(mark.read_text())
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())
