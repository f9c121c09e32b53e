"""Files written whole or not at all, and the system calls that make them durable."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

MODE = 0o666
"""The process's umask decides who may read and write, as for the folders."""


def write_whole(path: Path, pieces: Iterable[bytes], system: Any = os) -> None:
    """Write a file atomically: beside its place, fsynced, renamed. After an OSError it is as it was."""
    system.makedirs(path.parent, exist_ok=True)
    temporary = temporary_path(path)
    fd = system.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        try:
            for piece in pieces:
                write_all(fd, piece, system)
            system.fsync(fd)
        finally:
            system.close(fd)
        system.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # it may be what fills the disk
        raise
    sync(path.parent, system)


def append_whole(path: Path, line: bytes) -> None:
    """Append one line to a small file, fsynced. After an OSError it is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
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


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=)`: a new file with MODE, never through a symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)


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
