"""Lines on stdout from a thread of their own: a reader that stalls or goes away loses lines, and delays no poll."""

import threading
from collections import deque

from etl.storage.atomic import write_all

MAX_PENDING_BYTES = 8 << 20
"""Bytes that wait for a slow reader, at most; further lines are dropped and counted."""


class Stdout:
    """Writes whole lines to a descriptor, in order."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closing = False
        self.dropped = 0
        self.closed = False
        self._thread = threading.Thread(target=self._work, name="stdout", daemon=True)
        self._thread.start()

    def put(self, lines: list[bytes]) -> None:
        """Queue lines; never blocks."""
        data = b"".join(lines)
        with self._changed:
            if self.closed or self._size + len(data) > MAX_PENDING_BYTES:
                self.dropped += len(lines)
                return
            self._queue.append(data)
            self._size += len(data)
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                data = self._queue[0]
            try:
                write_all(self._fd, data)
            except OSError:
                with self._changed:
                    self._drop_all()
                return
            with self._changed:
                if not self.closed:
                    self._queue.popleft()
                    self._size -= len(data)

    def _drop_all(self) -> None:
        """Count what waits as dropped: the reader is gone, or does not take it."""
        self.closed = True
        self.dropped += sum(data.count(b"\n") for data in self._queue)
        self._queue.clear()

    def close(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for the reader to take what waits; then drop the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            self._drop_all()
