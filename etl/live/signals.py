"""SIGTERM, SIGINT and SIGHUP. The handlers only set flags; the main thread acts on them."""

import os
import select
import signal
from types import FrameType

HANDLED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
"""The signals that have a meaning for `etl run`; they may be blocked until there are handlers."""


class Signals:
    """SIGTERM and SIGINT stop the process, a second one at once; SIGHUP reloads the config.

    The main thread waits on a descriptor: a lock taken in a handler could wait for the very code it interrupted.
    """

    def __init__(self) -> None:
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._reload = False
        self.reason = ""
        self.failed = False
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_hangup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping:
            os._exit(128 + number)
        self.stop(signal.Signals(number).name)

    def _on_hangup(self, _number: int, _frame: FrameType | None) -> None:
        self._reload = True
        os.eventfd_write(self._wakeup, 1)

    def stop(self, reason: str, *, failed: bool = False) -> None:
        """Ask the process to stop; from any thread. `failed` makes the exit code an error."""
        self.reason = self.reason or reason
        self.failed = self.failed or failed
        self._stopping = True
        os.eventfd_write(self._wakeup, 1)

    def stopping(self) -> bool:
        """Whether the process was asked to stop."""
        return self._stopping

    def wait(self, seconds: float) -> None:
        """Wait for a signal, at most `seconds`."""
        if select.select([self._wakeup], [], [], seconds)[0]:
            os.eventfd_read(self._wakeup)

    def take_reload(self) -> bool:
        """Whether SIGHUP came since the last call."""
        reload, self._reload = self._reload, False
        return reload
