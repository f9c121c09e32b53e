"""Runs `etl report` in a child process, which does at low priority what the polling process must not do itself."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

import etl
from etl.nightly.job import safe_path

CHECK_S = 0.2
"""Seconds between two checks whether the process is stopping, while a child works."""
PIPE_BYTES = 64 << 10
"""Bytes taken of the child's answer at once: what a pipe of Linux holds."""
EXIT_S = 5.0
"""The child gets this long to exit after the end of its answer."""

Stopping = Callable[[], bool]
"""Whether this process is to end."""


class StoppedError(Exception):
    """The process is stopping; the child was killed."""


def run_child(
    arguments: list[str], request: bytes, take: Callable[[bytes], object], stopping: Stopping, limit_s: float
) -> int:
    """Send a request, one line, to an `etl report` with these arguments; `take` gets the bytes of its answer.

    A fresh interpreter, not a fork: a forked child would keep the output folder's lock after this process was killed.
    The child ends when this process does. After `limit_s` seconds it is killed. The result is its exit code.

    Raises:
        StoppedError: `stopping` became true; the child is killed.

    """
    safe = safe_path()
    # The child runs the same code as this process, and numpy's BLAS library needs no thread per core.
    path = os.pathsep.join(filter(None, [str(Path(etl.__file__).parents[1]), safe["PYTHONPATH"]]))
    with subprocess.Popen(  # noqa: S603  this program itself
        [sys.executable, "-P", "-m", "etl", "report", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **safe, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
    ) as process:
        try:
            _exchange(process, request, take, stopping, time.monotonic() + limit_s)
        finally:
            process.kill()
    return process.returncode


def _exchange(
    process: subprocess.Popen[bytes],
    request: bytes,
    take: Callable[[bytes], object],
    stopping: Stopping,
    deadline: float,
) -> None:
    """Send the request and take the answer to its end; stdin stays open, as its end ends the child."""
    if process.stdin is None or process.stdout is None:
        raise ChildProcessError("the child process has no pipes")
    try:
        process.stdin.write(request + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return
    answer = process.stdout.fileno()
    with DefaultSelector() as selector:
        selector.register(answer, EVENT_READ)
        while True:
            if selector.select(CHECK_S):
                data = os.read(answer, PIPE_BYTES)
                if not data:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(EXIT_S)
                    return
                take(data)
            if stopping():
                raise StoppedError
            if time.monotonic() > deadline:
                return
