"""A file outside of the output folder that is written aside and renamed, so that it is complete or does not exist."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import IO, Any

from etl.storage.atomic import irregular_type, open_regular, sync

BUFFER_BYTES = 1 << 20
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The last two end the process by default, without the time to delete what is written aside."""


def unusable(path: Path, output: Path) -> str | None:
    """Why a file cannot be written, whether it exists or not; None if it can. `output` is the output folder."""
    if file_type := irregular_type(path):
        return f"{path} is {file_type}, not a regular file"
    parent = Path(os.path.realpath(path.parent))
    if not parent.is_dir():
        return f"{path.parent} is not a folder"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"{path.parent} cannot be written"
    if parent.is_relative_to(os.path.realpath(output)):
        return f"{path} is in the output folder, which only `etl` itself writes"
    return None


@contextmanager
def written_aside(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write; it gets its name, durably, when the block ends without an exception, else it is deleted.

    SIGINT, SIGTERM and SIGHUP are KeyboardInterrupt meanwhile. Any OSError of the file names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    received: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    handlers = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        with naming(path):
            file = BufferedWriter(_File(temporary, path, received), BUFFER_BYTES)
        with file:
            yield file
            file.flush()
            with naming(path):
                os.fsync(file.fileno())
        if received:
            raise KeyboardInterrupt
        with naming(path):
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError name this path."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


class _File(FileIO):
    """A new file whose errors name the path that it is to have.

    Once a signal was `received`, nothing more is written: Python ignores an exception in some callbacks, as of imports.
    """

    def __init__(self, temporary: Path, path: Path, received: list[int]) -> None:
        super().__init__(temporary, "wb", opener=open_regular)
        self._path = path
        self._received = received

    def write(self, data: Any) -> int:
        if self._received:
            raise KeyboardInterrupt
        with naming(self._path):
            return super().write(data)
