"""What the commands share: options, loading the config, locking the output folder, progress bars, exit codes."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import click

from etl.cli.exits import BAD_CONFIG, CANNOT_CREATE, HELD, INTERRUPTED, IO_ERROR, ExitError
from etl.cli.logs import log_to_stderr
from etl.config.document import ConfigError
from etl.config.load import Loaded, load
from etl.storage.atomic import sync
from etl.storage.folder import KINDS, Progress, irregular_files
from etl.storage.lock import HeldError, renew_lock, take_lock
from etl.storage.recovery.repair import remove_leftovers

DEFAULT_CONFIG = Path("config.yaml")
PRINT_INTERVAL_S = 10.0
"""Seconds between two plain lines: short work prints none, and a log file stays short."""

config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, readable=False),  # a file that cannot be read is a bad config, no bad usage
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The config file; relative paths in it start at its folder.",
)
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the log on stderr: text, or one JSON object per line.",
)


def execute(file: Path, work: Callable[[Loaded], int], log_format: str = "text") -> NoReturn:
    """Load the config, do the work, and end the process with the exit code that `work` returns."""
    finish(lambda: _naming_the_file(load(file), work), log_format)


def finish(work: Callable[[], int], log_format: str = "text") -> NoReturn:
    """Do work that needs no config, and end the process with the exit code that it returns."""
    log_to_stderr(log_format)
    problem = ""
    try:
        code = work()
    except KeyboardInterrupt:
        code, problem = INTERRUPTED, "Interrupted. No file is half-written; run the command again to complete it."
    except ConfigError as error:
        code, problem = BAD_CONFIG, str(error)
    except HeldError as error:
        code, problem = HELD, f"{error}. Stop that process first, or set another output.folder."
    except ExitError as error:
        code, problem = error.code, str(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        code, problem = (
            IO_ERROR,
            f"{error.filename}: {error.strerror or error}. Check the path, the disk and its mount.",
        )
    if problem and log_format == "json":
        logging.getLogger("etl").error(problem)
    elif problem:
        click.echo(problem, err=True)
    leave(code)


def _naming_the_file(loaded: Loaded, work: Callable[[Loaded], int]) -> int:
    """Do the work; an I/O error that it does not handle becomes an ExitError that names the file."""
    try:
        return work(loaded)
    except BrokenPipeError:
        raise
    except OSError as error:
        path = error.filename or loaded.path(loaded.config.output.folder)
        hint = "Check its owner and mode." if isinstance(error, PermissionError) else "Check the disk and its mount."
        raise ExitError(f"{path}: {error.strerror or error}. {hint}", IO_ERROR) from None


def leave(code: int) -> NoReturn:
    """End the process without waiting for threads whose polls were abandoned."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def output_root(loaded: Loaded) -> Path:
    """The output folder of a config; ExitError if it cannot be one."""
    return checked(loaded.path(loaded.config.output.folder))


def checked(root: Path) -> Path:
    """An output folder; ExitError if links, FIFOs and the like have the names of its files: nothing may wait for them.

    OSError if it cannot be read.
    """
    for path, file_type in irregular_files(root):
        raise ExitError(f"{path} is {file_type}, where this program has a file. Move it away.", CANNOT_CREATE)
    return root


@contextmanager
def locked(root: Path) -> Iterator[Callable[[], None]]:
    """Lock an output folder and create its subfolders.

    Yields a function that takes the lock again if the folder was deleted and recreated; call it periodically.

    Raises:
        HeldError: another process holds the folder, now or when the lock is taken again.
        ExitError: it cannot be created or written.

    """
    try:
        lock = take_lock(root)
    except OSError as error:
        raise ExitError(
            f"{root} cannot be created or written: {error.strerror}. Check output.folder and its owner.", CANNOT_CREATE
        ) from None

    def renew() -> None:
        nonlocal lock
        with suppress(OSError):
            lock = renew_lock(root, lock)

    try:
        for folder in [root / kind for kind in (*KINDS, "reports")]:
            if folder.name == "alarms" and not folder.exists():
                continue  # only a config with alarms needs it
            with suppress(OSError):
                folder.mkdir(exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise ExitError(f"{folder} cannot be written. Check its owner and mode.", CANNOT_CREATE)
        remove_leftovers(root)
        # A power cut must not take away the new folders, and with them what is written there.
        sync(root)
        with suppress(PermissionError):
            sync(root.parent)
        yield renew
    finally:
        os.close(lock)


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
