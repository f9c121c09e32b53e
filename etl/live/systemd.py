"""The service manager, if one started this process: told over its socket (sd_notify) what it is to know."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

PATIENCE = 1.0
"""Seconds a manager gets to take a message; one that does not is not waited for."""
INTERVALS = 4
"""Intervals without a finished tick that the watchdog waits, at least, whatever it was told to wait."""


class Service:
    """What a manager named in the environment is told; without one, nobody is."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        self._watchdog = int(usec) if meant and usec.isdecimal() else 0
        self._fed = 0

    def ready(self, interval: float) -> None:
        """Polling has begun, every `interval` seconds."""
        if self._watchdog:
            self._tell(f"WATCHDOG_USEC={max(self._watchdog, int(INTERVALS * interval * 1e6))}")
        self._tell("READY=1")

    def reloading(self) -> None:
        """The config is read anew; `reloaded` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """The config was taken over, or is not."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """The process is ending."""
        self._tell("STOPPING=1")

    def feed(self, finished: int) -> None:
        """Feed the watchdog if ticks have finished since the last time; `finished` counts them all."""
        if self._watchdog and finished > self._fed:
            self._tell("WATCHDOG=1")
            self._fed = finished

    def _tell(self, message: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.settimeout(PATIENCE)
                manager.sendto(message.encode(), self._address)
