"""Disks that take no lines: a small one that is full, a read-only one, a limit of the process."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.process import Site, until

SIZE = 2 << 20
"""Bytes of the disk."""


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a disk of its own cannot be mounted here: {done.stderr.strip()}")


@contextmanager
def mounted(folder: Path, *options: str):
    """A small disk of its own in place of a folder."""
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a disk of its own")
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", ",".join([f"size={SIZE}", *options]), "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@contextmanager
def full(site: Site, _process):
    """The disk is full: another file takes the free space."""
    ballast = site.root / "output" / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1024))
        except OSError:
            pass
    yield "No space left on device"
    ballast.unlink()


@contextmanager
def read_only(site: Site, _process):
    """The disk is read-only."""
    with mounted(site.root / "output", "ro"):
        yield "Read-only file system"


@contextmanager
def limited(site: Site, process):
    """The process may not make files any larger: RLIMIT_FSIZE."""
    until(lambda: (site.root / "output" / "raw.jsonl").stat().st_size > 8192)
    size = (site.root / "output" / "raw.jsonl").stat().st_size
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + 1000, hard))
    yield "File too large"
    if process.poll() is None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def small_disk(site: Site, broken):
    """The disk the output is on: a small one where it is to be filled."""
    if broken is full:
        with mounted(site.root / "output"):
            yield
    else:
        yield
