"""Files opened only if they are regular, written whole or not at all, and the system calls that make them durable."""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

MODE = 0o666
"""The process's umask decides who may read and write, as for the folders."""
_TYPES = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class IrregularFileError(OSError):
    """A link, folder, FIFO, socket or device has the name of a file of ours; it is neither followed nor read."""

    def __init__(self, path: str | Path, file_type: str) -> None:
        super().__init__(errno.EINVAL, f"it is {file_type}, not a regular file", str(path))

    def __reduce__(self) -> Any:
        return OSError, (self.errno, self.strerror, self.filename)


def irregular_type(path: str | Path) -> str | None:
    """What a path names instead of a regular file, such as "a FIFO"; None if it is regular or does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return _TYPES.get(stat.S_IFMT(os.lstat(path).st_mode))
    return None


def open_regular(path: str | Path, flags: int, system: Any = os) -> int:
    """Open a file, created with our mode; also for `open(..., opener=)`. IrregularFileError if it is not regular.

    O_NONBLOCK: without it the open of a FIFO would wait for its other end.
    """
    try:
        fd: int = system.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, MODE)
    except OSError:
        if file_type := irregular_type(path):
            raise IrregularFileError(path, file_type) from None
        raise
    if file_type := _TYPES.get(stat.S_IFMT(os.fstat(fd).st_mode)):
        os.close(fd)
        raise IrregularFileError(path, file_type)
    return fd


def read_regular(path: Path) -> bytes:
    """The content of a file; IrregularFileError if it is not regular."""
    with open(path, "rb", opener=open_regular) as file:
        return bytes(file.read())


def write_whole(path: Path, pieces: Iterable[bytes], system: Any = os) -> None:
    """Write a file atomically: beside its place, fsynced, renamed. After an OSError it is as it was."""
    system.makedirs(path.parent, exist_ok=True)
    write_temporary(path, pieces, system)
    try:
        system.replace(temporary_path(path), path)
    except OSError:
        temporary_path(path).unlink(missing_ok=True)
        raise
    sync(path.parent, system)


def write_temporary(path: Path, pieces: Iterable[bytes], system: Any = os) -> None:
    """Write the fsynced file that is to be renamed into a place; after an OSError it does not exist."""
    temporary = temporary_path(path)
    fd = open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, system)
    try:
        try:
            for piece in pieces:
                write_all(fd, piece, system)
            system.fsync(fd)
        finally:
            system.close(fd)
    except OSError:
        temporary.unlink(missing_ok=True)  # it may be what fills the disk
        raise


def append_whole(path: Path, line: bytes) -> None:
    """Append one line to a small file, fsynced. After an OSError it is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    size = os.fstat(fd).st_size
    try:
        write_all(fd, line)
        os.fsync(fd)
    except OSError:
        os.ftruncate(fd, size)
        raise
    finally:
        os.close(fd)
    if not size:
        sync(path.parent)


def temporary_path(path: Path) -> Path:
    """Where a file is written before it is renamed into its place: hidden, in the same folder."""
    return path.with_name(f".{path.name}.tmp")


def write_all(fd: int, data: bytes, system: Any = os) -> None:
    """Write all bytes, also where the system accepts only a part of them per call."""
    rest = memoryview(data)
    while rest:
        rest = rest[system.write(fd, rest) :]


def sync(path: Path, system: Any = os) -> None:
    """Fsync a file, or a folder, so that the names in it are durable."""
    fd = system.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        system.fsync(fd)
    finally:
        system.close(fd)


def link(path: Path, target: str, system: Any = os) -> None:
    """Point a symbolic link at another target, atomically."""
    with suppress(OSError):
        if system.readlink(path) == target:
            return
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    system.symlink(target, temporary)
    system.replace(temporary, path)


def is_same_file(fd: int, path: Path, system: Any = os) -> bool:
    """Whether a path still names the open file."""
    try:
        named = system.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    opened = system.fstat(fd)
    return bool((named.st_ino, named.st_dev) == (opened.st_ino, opened.st_dev))
