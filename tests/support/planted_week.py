"""A week of six machines at 10 s with five planted faults: what the reports should find, with its true times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.folder import Folder

DAYS = [f"2026-11-{day}" for day in range(22, 29)]
SETTINGS = Settings(5, {"temperature": "temperature", "speed": "fan_speed"}, "UTC", 10.0, 0.2,
                    ("telemetry", "status_band"))  # fmt: skip
DAY = 8640
PERIOD = 540
"""Readings in which a fan is STARTED for 75 and IDLE for 15 minutes."""


class Fault(NamedTuple):
    """A planted fault: the days whose reports have it, and its true start and end (seconds since the epoch)."""

    machine: str
    parameter: str
    days: list[str]
    start: float
    end: float


def at(text: str) -> float:
    """A moment such as "24 16:00" of November 2026."""
    return datetime.strptime(f"2026-11-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()


def place(text: str) -> int:
    """The number of the reading at a moment."""
    return round(at(text) - at("22 00:00")) // 10


FAULTS = [
    Fault("oven", "temperature", ["2026-11-24"], at("24 11:20"), at("24 11:20") + 20),
    Fault("dryer", "temperature", ["2026-11-24"], at("24 13:00"), at("24 15:00")),
    Fault("chiller", "temperature", DAYS[2:], at("24 16:00"), at("29 00:00")),
    Fault("mixer", "", ["2026-11-26"], at("26 09:00"), at("26 12:00")),
    Fault("fan", "speed", ["2026-11-26"], at("26 13:55"), at("26 14:35")),
]


def write_week(folder: Folder) -> None:
    """Write the raw logs of the week into a folder."""
    readings = machines()
    for day, name in enumerate(DAYS):
        lines = []
        for number in range(day * DAY, (day + 1) * DAY):
            moment = at("22 00:00") + 10 * number
            for machine, (temperature, speed, status) in readings.items():
                if machine == "mixer" and place("26 09:00") < number < place("26 12:00"):
                    continue
                reading = {"id": 1, "name": machine.title(), "temperature": temperature[number],
                           "fan_speed": speed[number], "status": status[number]}  # fmt: skip
                lines.append(raw_line(reading, machine, moment))
        path = folder.path("raw", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(lines))


def machines() -> dict[str, tuple[list[float], list[float], list[str]]]:
    """Temperature, speed and status of each machine, a value per reading; the same ones at every call."""
    dice = np.random.default_rng(1)
    size = len(DAYS) * DAY
    numbers = np.arange(size)
    hall = np.sin(numbers / DAY * 2 * np.pi)
    started = ["STARTED"] * size

    def steady(level: float, spread: float, wave: float = 0.0) -> np.ndarray:
        return level + wave * hall + dice.normal(0, spread, size)

    oven, dryer = steady(180, 0.8, 2), steady(65, 0.4, 1)
    oven[place("24 11:20") :][:3] += 40
    dryer[place("24 13:00") : place("24 15:00")] = dryer[place("24 13:00")]
    chiller = steady(-18, 0.15, 0.3)
    chiller[place("24 16:00") :] += 6
    running = (numbers + 30) % PERIOD < 450
    fan = np.where(running, steady(900, 6), 0.0)
    fan[place("26 13:55") : place("26 14:35")] = 0.0
    blowing = numbers % 180 < 120
    blower = np.where(blowing, steady(800, 5), 0.0)
    table = {
        "oven": (oven, steady(400, 4), started),
        "dryer": (dryer, steady(600, 5), started),
        "chiller": (chiller, steady(1200, 10), started),
        "mixer": (steady(40, 0.3, 1), steady(150, 2), started),
        "fan": (steady(30, 0.3, 1), fan, np.where(running, "STARTED", "IDLE").tolist()),
        "blower": (steady(28, 0.3, 1), blower, np.where(blowing, "STARTED", "IDLE").tolist()),
    }
    return {name: (np.round(heat, 1).tolist(), np.round(speed).tolist(), status)
            for name, (heat, speed, status) in table.items()}  # fmt: skip
