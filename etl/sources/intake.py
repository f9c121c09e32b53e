"""The memory that answers take until they are written, of all sources together."""

from __future__ import annotations

import threading

from etl.readings.records import Failure

MAX_RECEIVED_BYTES = 64 << 20
"""Bytes of answers that are received or wait for the writer, at most: a dozen of the largest."""
SMALL_BYTES = 16 << 10
"""Bytes of each answer that are never refused: large answers of other sources fail no poll of a single machine."""
BUSY = Failure("busy", f"{MAX_RECEIVED_BYTES >> 20} MiB of other answers wait to be written")


class Intake:
    """Counts the bytes of answers; for any thread."""

    def __init__(self) -> None:
        self._bytes = 0
        self._lock = threading.RLock()  # a lease may be dropped while another one grows

    def lease(self) -> Lease:
        """A lease for one answer, empty at first."""
        return Lease(self)

    def take(self, size: int, *, small: bool) -> bool:
        """Count further bytes; False, and nothing is counted, if they are too many and not part of a small answer."""
        with self._lock:
            if not small and self._bytes + size > MAX_RECEIVED_BYTES:
                return False
            self._bytes += size
            return True

    def give_back(self, size: int) -> None:
        """Count so many bytes less."""
        with self._lock:
            self._bytes -= size


class Lease:
    """The bytes of one answer; they are given back when nothing refers to the lease any more, or by `release`."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._bytes = 0

    def grow(self, size: int) -> bool:
        """Take further bytes; False if there is no room for them."""
        if not self._intake.take(size, small=self._bytes + size <= SMALL_BYTES):
            return False
        self._bytes += size
        return True

    def release(self) -> None:
        """Give all bytes back."""
        size, self._bytes = self._bytes, 0
        self._intake.give_back(size)

    def __del__(self) -> None:
        self._intake.give_back(self._bytes)
