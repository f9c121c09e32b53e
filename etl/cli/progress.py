"""Progress of a long command on stderr: a bar on a terminal, else a plain line every few seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import click

from etl.storage.folder import Progress

PRINT_INTERVAL_S = 10.0
"""Seconds between two plain lines: short work prints none, and a log file stays short."""


def progress(task: str, total_bytes: int) -> AbstractContextManager[Progress]:
    """Show the progress of a task; the context is the function to call with the bytes done since its last call."""
    return _bar(task, total_bytes) if sys.stderr.isatty() else _lines(task, total_bytes)


@contextmanager
def _bar(task: str, total_bytes: int) -> Iterator[Progress]:
    # Both take 50 ms to import, which only a terminal needs.
    from rich import progress as rich  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    columns = (task, rich.BarColumn(), rich.DownloadColumn(), rich.TransferSpeedColumn(), rich.TimeRemainingColumn())
    # Lines printed to stdout meanwhile appear above the bar if both are the terminal, and are not redirected otherwise.
    with rich.Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as bar:
        bar_task = bar.add_task(task, total=total_bytes or None)
        yield lambda size: bar.advance(bar_task, size)


@contextmanager
def _lines(task: str, total_bytes: int) -> Iterator[Progress]:
    start_s = printed_s = time.monotonic()
    done_bytes = 0

    def advance(size: int) -> None:
        nonlocal done_bytes, printed_s
        done_bytes += size
        now_s = time.monotonic()
        if now_s - printed_s < PRINT_INTERVAL_S:
            return
        printed_s = now_s
        rate = done_bytes / (now_s - start_s)
        remaining = f", {max(0, total_bytes - done_bytes) / rate:.0f} s left" if total_bytes and rate else ""
        done = f"{done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB"
        click.echo(f"{task}: {done}, {rate / 1e6:.1f} MB/s{remaining}", err=True)

    yield advance
