"""Modbus TCP: the server of pymodbus in a process of its own, and gateways of ours."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from tests.support.http_sources import unused_port
from tests.support.process import HANG_S, until
from tests.support.servers import Connection, Talk

REGISTERS = {
    "temperature": {"holding": 100, "type": "int16", "scale": 0.1},
    "fan_speed": {"input": 4, "type": "float32"},
    "status": {"holding": 10, "values": {0: "IDLE", 1: "STARTED"}},
    "door": {"coil": 3},
    "pump": {"discrete": 7},
}
"""What each unit of the server has; it has units 1 to 3."""
READING = {"temperature": 23.1, "fan_speed": 1200.5, "status": "STARTED", "door": 1, "pump": 0}
ROOT = Path(__file__).parent.parent.parent

Behave = Callable[[int, int, int, int], "Iterable[int] | int | None"]
"""Registers that a unit answers for unit, function, address and count; or the code of an exception, or no answer."""


class ModbusServer:
    """A server with three units in a process of its own."""

    def __init__(self, **keys) -> None:
        self.port = unused_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.keys = {"modbus": f"tcp://127.0.0.1:{self.port}", "registers": REGISTERS, **keys}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.modbus_server", str(self.port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, HANG_S)

    def stop(self) -> None:
        """Kill the process."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    close = stop

    def _listens(self) -> bool:
        assert self._process
        assert self._process.poll() is None, "the server has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


def gateway(behave: Behave) -> Talk:
    """Answers one request after the other, as the units behind a serial line do."""

    def talk(connection: Connection) -> None:
        while len(request := connection.sock.recv(12, socket.MSG_WAITALL)) == 12:
            connection.server.requests.append(request)
            transaction, _, _, unit, function, address, count = struct.unpack(">HHHBBHH", request)
            answer = behave(unit, function, address, count)
            if answer is not None:
                connection.send(frame(transaction, unit, function, answer))

    return talk


def frame(transaction: int, unit: int, function: int, answer: Iterable[int] | int) -> bytes:
    """An answer with registers, or with the code of an exception."""
    if isinstance(answer, int):
        data = bytes([unit, function | 0x80, answer])
    else:
        words = [*answer]
        data = struct.pack(f">BBB{len(words)}H", unit, function, 2 * len(words), *words)
    return struct.pack(">HHH", transaction, 0, len(data)) + data
