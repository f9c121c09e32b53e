"""What the process is asked to do from outside. Handlers only take note; the main thread acts."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType


class Signals:
    """SIGTERM and SIGINT ask to stop, the second of them ends the process at once; SIGHUP asks to reload.

    The main thread waits on a descriptor: a lock taken in a handler could wait for the very code it interrupted.
    """

    def __init__(self) -> None:
        self._asked = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._reload = False
        self.reason = ""
        self.failed = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGHUP, self._hang_up)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + number)
        self.stop(signal.Signals(number).name)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True
        os.eventfd_write(self._asked, 1)

    def stop(self, reason: str, *, failed: bool = False) -> None:
        """Ask the process to end; from any thread."""
        self.reason = self.reason or reason
        self.failed = self.failed or failed
        self._stopping = True
        os.eventfd_write(self._asked, 1)

    def stopping(self) -> bool:
        """Whether the process is to end."""
        return self._stopping

    def wait(self, seconds: float) -> None:
        """Wait until something is asked, `seconds` at most."""
        if select.select([self._asked], [], [], seconds)[0]:
            os.eventfd_read(self._asked)

    def take_reload(self) -> bool:
        """Whether a reload was asked for since the last call."""
        asked, self._reload = self._reload, False
        return asked
