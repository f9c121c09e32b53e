"""What the process is asked to do from outside. Handlers only take note; the main thread acts."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


class Signals:
    """SIGTERM and SIGINT ask to stop, the second of them ends the process at once; SIGHUP asks to reload."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._reload = False
        self.reason = ""
        self.failed = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGHUP, self._hang_up)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping.is_set():
            os._exit(128 + number)
        self.stop(signal.Signals(number).name)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True
        self._asked.set()

    def stop(self, reason: str, *, failed: bool = False) -> None:
        """Ask the process to end; from any thread."""
        self.reason = self.reason or reason
        self.failed = self.failed or failed
        self._stopping.set()
        self._asked.set()

    def stopping(self) -> bool:
        """Whether the process is to end."""
        return self._stopping.is_set()

    def wait(self, seconds: float) -> None:
        """Wait until something is asked, `seconds` at most."""
        self._asked.wait(seconds)
        self._asked.clear()

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked
