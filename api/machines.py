"""The simulated machines and their status. No Flask."""

import math
import random
import threading
from datetime import datetime
from typing import Any

STATUSES = ("STARTED", "ERROR", "IDLE", "COMPLETED")


class Machines:
    """Machines numbered from 1, each with a status that stays until it is set again; IDLE at first. Thread-safe."""

    def __init__(self, count: int = 1, generator: random.Random | None = None) -> None:
        self._statuses = ["IDLE"] * count
        self._random = generator or random.Random()  # noqa: S311  a simulation, not a secret
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._statuses)

    def set_status(self, number: int, status: str) -> None:
        """Set the status of a machine, one of STATUSES."""
        self._statuses[number - 1] = status

    def reading(self, number: int, now: datetime) -> dict[str, Any]:
        """The reading of a machine at `now`: 20 to 100 °C, 0 to 1000 rpm.

        Both follow a daily wave with noise. One reading in a hundred jumps, so that a report has anomalies to show.
        """
        wave = math.sin(2 * math.pi * (now.timestamp() / 86_400 + number / 7))
        with self._lock:
            jump = self._random.random() < 0.01
            temperature_noise, speed_noise = self._random.gauss(0, 0.6), self._random.gauss(0, 12)
        temperature = 45 + 4 * wave + temperature_noise + (25 if jump else 0)
        fan_speed = 650 + 60 * wave + speed_noise + (250 if jump else 0)
        return {
            "description": "Machine for processing ",
            "fan_speed": round(min(1000.0, max(0.0, fan_speed)), 2),
            "id": number,
            "name": "DELL G450",
            "status": self._statuses[number - 1],
            "temperature": round(min(100.0, max(20.0, temperature)), 2),
            "timestamp": now.isoformat(timespec="microseconds"),
        }
