"""A function of this program in a process of its own: at low priority, and gone with what it was started for.

A fresh interpreter, not a fork: a forked child would hold the output folder's lock after its parent was killed.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from selectors import EVENT_READ, DefaultSelector
from typing import IO, Any

NICE = 19
PATIENCE = 0.2
"""Seconds between two looks whether the child is still wanted."""


class StoppedError(Exception):
    """The process is ending: what the child was at is left for the next start."""


def in_child(function: Callable[..., Any], *arguments: Any, stopping: Callable[[], bool]) -> Any:
    """Call a function of a module with these arguments in a child process; what it returns, or raises.

    Raises:
        StoppedError: `stopping` became true; the child is ended.
        ChildProcessError: the child ended without a result.

    """
    command = [sys.executable, "-m", "etl.nightly.child"]
    with subprocess.Popen(  # noqa: S603  this program itself
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            return _ask(process, (function, arguments), stopping)
        finally:
            process.kill()


def _ask(process: subprocess.Popen[bytes], request: Any, stopping: Callable[[], bool]) -> Any:
    asked, answered = process.stdin, process.stdout
    if asked is None or answered is None:
        raise ChildProcessError("the child process has no pipes")
    try:
        pickle.dump(request, asked)
        asked.flush()
        _wait(answered, stopping)
        result, error = pickle.load(answered)  # noqa: S301  our own child
    except (EOFError, BrokenPipeError):
        raise ChildProcessError(f"the child process ended with exit code {process.wait()}") from None
    if error is not None:
        raise error
    return result


def _wait(answered: IO[bytes], stopping: Callable[[], bool]) -> None:
    with DefaultSelector() as selector:
        selector.register(answered, EVENT_READ)
        while not selector.select(PATIENCE):
            if stopping():
                raise StoppedError


def _end_with_parent() -> None:
    """End when the other end of stdin is closed, which the system does when the parent is killed."""
    os.read(0, 1)
    os._exit(1)


def _main() -> None:
    os.nice(NICE)
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no result
    with os.fdopen(os.dup(0), "rb", buffering=0) as asked:
        try:
            function, arguments = pickle.load(asked)  # noqa: S301  our own parent
        except EOFError:
            os._exit(1)  # it was killed before it had asked
    threading.Thread(target=_end_with_parent, daemon=True).start()
    result, failure = None, None
    try:
        result = function(*arguments)
    except Exception as error:  # it is raised again in the parent
        failure = error
    with os.fdopen(answer, "wb") as answered:
        pickle.dump((result, failure), answered)
    os._exit(0)


if __name__ == "__main__":
    _main()
