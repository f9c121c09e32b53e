"""A recorded disk: what a program wrote, fsynced, renamed and created, and what a power cut may leave of it."""

from __future__ import annotations

import builtins
import fcntl
import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

PAGE_BYTES = 4096
FOLDER = "folder"
"""The node of a folder; that of a file is a number, that of a symbolic link its target."""


class Disk:
    """Records the changes below a folder, while `recording`; `notes` are entries of the test in the same journal."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.journal: list[tuple[Any, ...]] = []
        self._ids: dict[int, int] = {}
        self._next = 0
        self.before = self._tree()

    def _tree(self) -> tuple[dict[str, Any], dict[int, bytes]]:
        """The durable names and contents at the start."""
        names, contents = {}, {}
        for path in sorted(Path(self.root).rglob("*")):
            if path.is_symlink():
                names[str(path)] = f"-> {path.readlink()}"
            elif path.is_dir():
                names[str(path)] = FOLDER
            else:
                names[str(path)] = self._new_id(path.stat().st_ino)
                contents[names[str(path)]] = path.read_bytes()
        return names, contents

    def _new_id(self, inode: int) -> int:
        self._next += 1
        self._ids[inode] = self._next
        return self._next

    def note(self, *entry: Any) -> None:
        self.journal.append(("note", *entry))

    def _path(self, path: Any, dir_fd: int | None = None) -> str | None:
        """An absolute path below the root; None for any other file."""
        if isinstance(path, int):
            return None
        folder = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
        path = os.path.normpath(os.path.join(folder, path))
        return path if path.startswith(self.root + "/") else None

    def _id(self, fd: int) -> int | None:
        link = os.readlink(f"/proc/self/fd/{fd}")
        return self._ids.get(os.fstat(fd).st_ino) if link.startswith(self.root + "/") else None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what this process does, through `os` and through files that it opens for writing."""
        names = ("open", "write", "ftruncate", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "symlink")
        self._system = {name: getattr(os, name) for name in names}
        self._builtin_open = builtins.open
        with (
            patch.multiple(os, **{name: getattr(self, f"_{name}") for name in names}),
            patch.object(builtins, "open", self._open_file),
        ):
            yield

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        below = self._path(path, dir_fd)
        is_new = below is not None and flags & os.O_CREAT and not os.path.lexists(below)
        fd = self._system["open"](path, flags, mode, dir_fd=dir_fd)
        if is_new:
            self.journal.append(("names", {below: self._new_id(os.fstat(fd).st_ino)}))
        elif below and flags & os.O_TRUNC:
            self.journal.append(("truncate", self._id(fd), 0))
        return fd

    def _write(self, fd: int, data: Any) -> int:
        number = self._id(fd)
        if number is None:
            return self._system["write"](fd, data)
        appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        offset = os.fstat(fd).st_size if appends else os.lseek(fd, 0, os.SEEK_CUR)
        written = self._system["write"](fd, data)
        self.journal.append(("write", number, offset, bytes(data[:written])))
        return written

    def _ftruncate(self, fd: int, size: int) -> None:
        self._system["ftruncate"](fd, size)
        if number := self._id(fd):
            self.journal.append(("truncate", number, size))

    def _fsync(self, fd: int) -> None:
        self._system["fsync"](fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        if os.path.isdir(path):
            self.journal.append(("sync folder", path))
        elif number := self._id(fd):
            self.journal.append(("sync", number))

    def _replace(self, source: Any, target: Any) -> None:
        self._system["replace"](source, target)
        source, target = self._path(source), self._path(target)
        self.journal.append(("names", {target: ("moved", source), source: None}))

    _rename = _replace

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        below = self._path(path, dir_fd)
        self._system["unlink"](path, dir_fd=dir_fd)
        if below:
            self.journal.append(("names", {below: None}))

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        below = self._path(path, dir_fd)
        self._system["rmdir"](path, dir_fd=dir_fd)
        if below:
            self.journal.append(("names", {below: None}))

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._system["mkdir"](path, mode, dir_fd=dir_fd)
        if below := self._path(path, dir_fd):
            self.journal.append(("names", {below: FOLDER}))

    def _symlink(self, target: Any, path: Any) -> None:
        self._system["symlink"](target, path)
        self.journal.append(("names", {self._path(path): f"-> {target}"}))

    def _open_file(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if "b" not in mode or not {*mode} & {*"wa+"} or self._path(file) is None:
            return self._builtin_open(file, mode, buffering, *rest, **named)
        raw = _RecordedFile(file, mode.replace("b", ""), opener=named.get("opener"))
        if buffering == 0:
            return raw
        return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class _RecordedFile(io.FileIO):
    """A file whose writes go through `os`."""

    def write(self, data: Any) -> int:
        return os.write(self.fileno(), data)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self.fileno(), size)
        return size


class Image:
    """The disk after the first `length` entries of a journal: what is durable, and what may be."""

    def __init__(self, disk: Disk, length: int) -> None:
        self._root = disk.root
        names, contents = disk.before
        self._durable_names, self._names = dict(names), dict(names)
        self._pending: list[dict[str, Any]] = []
        self._durable = dict(contents)
        self._contents = {number: bytearray(data) for number, data in contents.items()}
        self._pages: dict[int, set[int]] = {}
        self.notes = []
        for entry in disk.journal[:length]:
            self._apply(*entry)

    def _apply(self, kind: str, *entry: Any) -> None:
        if kind == "note":
            self.notes.append(entry)
        elif kind == "names":
            changes = {
                path: self._names.get(node[1]) if isinstance(node, tuple) else node for path, node in entry[0].items()
            }
            self._change(self._names, changes)
            self._pending.append(changes)
        elif kind == "sync folder":
            for changes in [c for c in self._pending if any(os.path.dirname(path) == entry[0] for path in c)]:
                self._change(self._durable_names, changes)
                self._pending.remove(changes)
        elif kind == "sync":
            self._durable[entry[0]] = bytes(self._contents.get(entry[0], b""))
            self._pages[entry[0]] = set()
        else:
            self._write(kind, *entry)

    def _write(self, kind: str, number: int, offset: int, data: bytes = b"") -> None:
        content = self._contents.setdefault(number, bytearray())
        end = max(len(content), offset + len(data)) if kind == "write" else max(len(content), offset)
        first = min(offset, len(content))
        content.extend(bytes(max(0, offset - len(content))))
        if kind == "write":
            content[offset : offset + len(data)] = data
            end = offset + len(data)
        else:
            del content[offset:]
        self._pages.setdefault(number, set()).update(range(first // PAGE_BYTES, -(-end // PAGE_BYTES)))

    @staticmethod
    def _change(names: dict[str, Any], changes: dict[str, Any]) -> None:
        for path, node in changes.items():
            if node is None:
                names.pop(path, None)
            else:
                names[path] = node

    def build(self, target: Path, chance: random.Random) -> None:
        """Write one of the possible images: each name and each page that is not durable is there or not."""
        kept = chance.choice((0.0, 0.5, 0.5, 0.5, 1.0))
        names = dict(self._durable_names)
        for changes in self._pending:
            if chance.random() < kept:
                self._change(names, changes)
        target.mkdir()
        for path, node in sorted(names.items()):
            place = target / os.path.relpath(path, self._root)
            if not place.parent.is_dir():
                continue  # the name of its folder is lost
            if node == FOLDER:
                place.mkdir()
            elif isinstance(node, str):
                place.symlink_to(node.removeprefix("-> "))
            else:
                place.write_bytes(self._content(node, chance, chance.choice((0.0, 0.5, 0.5, 0.5, 1.0))))

    def _content(self, number: int, chance: random.Random, kept: float) -> bytes:
        old, new = self._durable.get(number, b""), bytes(self._contents.get(number, b""))
        pages = self._pages.get(number, set())
        if not pages:
            return new
        low, high = sorted((len(old), len(new)))
        between = range(-(-low // PAGE_BYTES) * PAGE_BYTES, high, PAGE_BYTES)
        size = len(new) if chance.random() < kept else chance.choice([len(old), len(new), *between])
        content = bytearray()
        for page in range(-(-size // PAGE_BYTES)):
            part = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            is_new = page not in pages or chance.random() < kept
            content += (new if is_new else old)[part].ljust(PAGE_BYTES, b"\0")
        return bytes(content[:size])
