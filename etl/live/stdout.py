"""Lines on stdout from a thread of their own: a reader that stalls or goes costs stdout lines, never a poll."""

from __future__ import annotations

import threading
from collections import deque

from etl.storage.atomic import write_all

LIMIT = 8 << 20
"""Bytes that wait for a slow reader, at most; what comes then is left out, and counted."""


class Stdout:
    """Writes whole lines to a descriptor in the order they are given."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._ending = False
        self.left_out = 0
        self.gone = False
        self._thread = threading.Thread(target=self._work, name="stdout", daemon=True)
        self._thread.start()

    def put(self, lines: list[bytes]) -> None:
        """Let lines wait for the reader; never blocks."""
        data = b"".join(lines)
        with self._changed:
            if self.gone or self._size + len(data) > LIMIT:
                self.left_out += len(lines)
                return
            self._waiting.append(data)
            self._size += len(data)
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ending:
                    self._changed.wait()
                if not self._waiting:
                    return
                data = self._waiting[0]
            try:
                write_all(self._fd, data)
            except OSError:
                with self._changed:
                    self._give_up()
                return
            with self._changed:
                if not self.gone:
                    self._waiting.popleft()
                    self._size -= len(data)

    def _give_up(self) -> None:
        """Count what waits as left out: the reader is gone, or does not take it."""
        self.gone = True
        self.left_out += sum(block.count(b"\n") for block in self._waiting)
        self._waiting.clear()

    def close(self, patience: float) -> None:
        """Wait up to `patience` seconds for the reader to take what waits; then the rest is left out."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(patience)
        with self._changed:
            self._give_up()
