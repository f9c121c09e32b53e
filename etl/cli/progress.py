"""How far long work is, on stderr: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 10.0
"""Seconds between two plain lines."""

Advance = Callable[[int], None]
"""Takes the bytes that were done since it was last called."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Show `what` is being done to `total` bytes; what is given is called as they are."""
    shown = _bar if sys.stderr.isatty() else _lines
    with shown(what, total) as advance:
        yield advance


@contextmanager
def _bar(what: str, total: int) -> Iterator[Advance]:
    from rich import progress as rich  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415  only on a terminal

    columns = (
        rich.TextColumn(what), rich.BarColumn(), rich.DownloadColumn(), rich.TransferSpeedColumn(),
        rich.TimeRemainingColumn(),
    )  # fmt: skip
    # What goes to stdout meanwhile is shown above the bar where both are the terminal, and left alone elsewhere.
    with rich.Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    ) as bar:
        task = bar.add_task(what, total=total or None)
        yield lambda done: bar.advance(task, done)


@contextmanager
def _lines(what: str, total: int) -> Iterator[Advance]:
    began = told = time.monotonic()
    done = 0

    def advance(more: int) -> None:
        nonlocal done, told
        done += more
        now = time.monotonic()
        if now - told < EVERY:
            return
        told = now
        rate = done / (now - began)
        left = f", {max(0, total - done) / rate:.0f} s left" if total and rate else ""
        print(f"{what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s{left}", file=sys.stderr)  # noqa: T201

    yield advance
