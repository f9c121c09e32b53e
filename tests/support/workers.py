"""Calls for worker processes that wait for each other, so that a test knows how many processes take part."""

from __future__ import annotations

import os
import time
from pathlib import Path

HANG_GUARD_S = 120.0


def meet(folder: Path, parties: int) -> int:
    """Wait until this many processes have called it with the same folder; the pid of this process."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + HANG_GUARD_S
    while len(list(folder.iterdir())) < parties:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {parties} processes called")
        time.sleep(0.01)
    return os.getpid()
