"""Messages to the service manager that started this process, over its socket (sd_notify), and its watchdog."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

SEND_TIMEOUT_S = 1.0
"""Seconds a manager has to accept a message; a slow one must not delay the process."""
WATCHDOG_INTERVALS = 4
"""The watchdog waits at least this many intervals for a finished tick, however short WatchdogSec is."""


class Service:
    """The manager named in the environment; without one, nothing is sent."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "")
        self._watchdog_usec = int(usec) if is_ours and usec.isdecimal() else 0
        self._fed_ticks = 0

    def ready(self, interval: float) -> None:
        """Polling has started, every `interval` seconds."""
        if self._watchdog_usec:
            self._send(f"WATCHDOG_USEC={max(self._watchdog_usec, int(WATCHDOG_INTERVALS * interval * 1e6))}")
        self._send("READY=1")

    def reloading(self) -> None:
        """The config is being reloaded; `reloaded` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """The reload has ended, whether or not the config was applied."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The process is stopping."""
        self._send("STOPPING=1")

    def feed(self, finished_ticks: int) -> None:
        """Feed the watchdog if ticks have finished since the last time; `finished_ticks` counts all of them."""
        if self._watchdog_usec and finished_ticks > self._fed_ticks:
            self._send("WATCHDOG=1")
            self._fed_ticks = finished_ticks

    def _send(self, message: str) -> None:
        if self._address:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.settimeout(SEND_TIMEOUT_S)
                manager.sendto(message.encode(), self._address)
