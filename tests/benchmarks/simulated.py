"""Simulated machines at 10 s with planted faults, for tests.benchmarks.anomalies."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.labelled import DAY_S, Series

INTERVAL = 10
SETTLING = 900
"""Seconds after a fault in which the way back to normal still belongs to it."""


def fleet(machines: int, days: int, seed: int) -> list[Series]:
    """A temperature and a speed of each machine, with a fault in every other day but the first, which is not scored.

    A machine is STARTED for 5 to 60 minutes and IDLE for 3 to 45, in turn. Its temperature follows within minutes, with
    noise and the daily wave of the hall; its fan follows within seconds, and is exactly 0 while IDLE.
    """
    dice = np.random.default_rng(seed)
    size = days * DAY_S // INTERVAL
    series = []
    for machine in range(machines):
        on = switching(dice, size)
        times = np.round(np.arange(size) * float(INTERVAL) + dice.uniform(0, 0.2, size), 3)
        cold, hot, fast = dice.uniform(25, 40), dice.uniform(55, 80), dice.uniform(500, 900)
        wave = dice.uniform(0.5, 2) * np.sin(2 * np.pi * (times / DAY_S + dice.uniform()))
        heat = ramps(np.where(on, hot, cold), dice.uniform(60, 400)) + wave
        heat += dice.normal(0, dice.uniform(0.1, 0.8), size)
        spin = ramps(np.where(on, fast, 0.0), dice.uniform(5, 15))
        spin = np.where(spin > 5, spin + dice.normal(0, dice.uniform(2, 15), size), 0.0)
        for name, values, low, high, digits in (("temperature", heat, cold, hot, 2), ("speed", spin, 0.0, fast, 1)):
            ill = [day for day in range(1, days) if dice.random() < 0.5]
            windows = [fault(dice, times, values, on, day * DAY_S // INTERVAL, low, high) for day in ill]
            statuses = np.where(on, "STARTED", "IDLE").tolist()
            machine_name = f"switching-{machine}"
            series.append(Series(machine_name, machine_name, name, times, np.round(values, digits), statuses,
                                 windows, [], float(DAY_S)))  # fmt: skip
    return series


def steady(machines: int, days: int, seed: int) -> list[Series]:
    """A temperature and a speed of each machine, without any fault, scored from the first reading on.

    Noise around a level with the daily wave of the hall; the noise of every other machine is correlated over minutes.
    """
    dice = np.random.default_rng(seed)
    size = days * DAY_S // INTERVAL
    series = []
    for machine in range(machines):
        times = np.round(np.arange(size) * float(INTERVAL) + dice.uniform(0, 0.2, size), 3)
        for name, level, spread, digits in (("temperature", 60.0, 0.5, 2), ("speed", 800.0, 8.0, 1)):
            wave = spread * dice.uniform(0, 4) * np.sin(2 * np.pi * (times / DAY_S + dice.uniform()))
            noise = dice.normal(0, spread, size)
            if machine % 2:
                noise = ramps(noise, dice.uniform(20, 120)) * 3
            values = np.round(level + wave + noise, digits)
            machine_name = f"steady-{machine}"
            series.append(Series(machine_name, machine_name, name, times, values, ["STARTED"] * size, [], [], 0.0))
    return series


def switching(dice: np.random.Generator, size: int) -> np.ndarray:
    """Whether a machine is STARTED, for each reading."""
    stays = np.stack([dice.integers(30, 360, size // 48), dice.integers(18, 270, size // 48)], axis=1).ravel()
    return np.repeat(np.arange(len(stays)) % 2 == 0, stays)[:size]


def ramps(targets: np.ndarray, constant: float) -> np.ndarray:
    """Follow the targets exponentially, with this time constant in seconds."""
    share, at, followed = 1 - np.exp(-INTERVAL / constant), targets[0], []
    for target in targets:
        at += share * (target - at)
        followed.append(at)
    return np.array(followed)


def fault(
    dice: np.random.Generator,
    times: np.ndarray,
    values: np.ndarray,
    on: np.ndarray,
    start: int,
    low: float,
    high: float,
) -> tuple[float, float]:
    """Put a fault somewhere into the day that begins at `start`; its window, and its kind."""
    kind = dice.choice(("stuck", "drift", "spike", "wrong level"))
    begin = start + int(dice.integers(0, DAY_S // INTERVAL - 1000))
    end = begin + int(dice.integers(1, 4) if kind == "spike" else dice.integers(180, 720))
    size, sign = dice.uniform(0.3, 0.8) * (high - low), dice.choice((-1, 1))
    if kind == "stuck":
        values[begin:end] = values[begin]
    elif kind == "drift":
        values[begin:end] += sign * np.linspace(0, size, end - begin)
    elif kind == "spike":
        values[begin:end] += sign * size
    else:
        # The value fits the other status: a fan that does not turn although STARTED, or turns although IDLE.
        values[begin:end] = np.where(on[begin:end], low, high) + 0.01 * (high - low) * dice.normal(size=end - begin)
    return float(times[begin]) - 0.001, float(times[end - 1]) + SETTLING
