"""The commands in this process, so that a test can freeze the clock they read."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from etl.__main__ import main


class Finished(NamedTuple):
    """What a command did: its exit code, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def etl(root: Path, *arguments: str) -> Finished:
    """Run an `etl` command in a folder; use it inside `freezegun.freeze_time`.

    Lines that `once` writes to the descriptor of stdout are not among what is returned.
    """
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with chdir(root), _own_logging(), redirect_stdout(out), redirect_stderr(errors), patch("os._exit", _raise_exit):
        try:
            with patch("sys.argv", ["etl", *arguments]):
                main()
        except SystemExit as error:
            code = error.code or 0
    return Finished(int(code), *(stream.buffer.getvalue().decode() for stream in (out, errors)))


def _raise_exit(code: int) -> None:
    raise SystemExit(code)


@contextmanager
def _own_logging() -> Iterator[None]:
    """Let a command set its log up as in a process of its own, and take that back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        with patch("logging.shutdown"):
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Create files with this umask, also in processes started meanwhile."""
    previous = os.umask(mask)
    try:
        yield
    finally:
        os.umask(previous)
