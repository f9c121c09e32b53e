"""What detectors flag in a day, given the readings before it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.analysis.bands import LAG_READINGS, MAX_DEVIATION, MIN_BASELINE_READINGS, third_lowest
from etl.analysis.detectors import DETECTORS, LEVEL_READINGS, Readings
from etl.analysis.past import BASELINE_READINGS as BASELINE

DAY = 8640
NAMES = sorted(DETECTORS)


def noise(size: int, seed: int = 1) -> np.ndarray:
    """Gaussian noise around 50."""
    return np.round(50 + np.random.default_rng(seed).normal(size=size), 3)


def readings(values, statuses=None, start: float = 1e9) -> Readings:
    """Readings 10 s apart."""
    values = np.array(values, float)
    return Readings(
        start + 10.0 * np.arange(len(values)), values, [None] * len(values) if statuses is None else statuses
    )


def detect(name: str, values, statuses=None, before: int = BASELINE, start: float = 1e9):
    """The detection of the readings after the first `before`."""
    return detect_all(name, readings(values, statuses, start), before)


def detect_all(name: str, whole: Readings, before: int = BASELINE):
    return DETECTORS[name](
        *(Readings(*(column[part] for column in whole)) for part in (np.s_[:before], np.s_[before:]))
    )


def duty(size: int, seed: int = 1) -> tuple[np.ndarray, list[str]]:
    """A fan that alternates between 800 for 20 minutes and 0 for 10; with the status of each reading."""
    on = np.arange(size) % 180 < 120
    values = np.where(on, np.round(800 + 5 * np.random.default_rng(seed).normal(size=size)), 0.0)
    return values, np.where(on, "STARTED", "IDLE").tolist()


series = st.lists(st.floats(-1e300, 1e300) | st.sampled_from([0.0, 20.0, 20.5]), max_size=20)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=40)
@given(
    parts=st.lists(st.tuples(series, st.integers(1, 90)), max_size=8), before=st.integers(0, 800), busy=st.booleans()
)
def test_every_reading_gets_a_finite_deviation_and_an_explanation(name, parts, before, busy):
    """Deviations are finite and at least 0 for any values; flagged readings have a finite range and an explanation."""
    values = [value for run, times in parts for value in run * times]
    statuses = [(i // 50) % 2 if busy else None for i in range(len(values))]
    detection = detect(name, values, statuses, before)
    assert len(detection.deviation) == len(values[before:])
    assert np.all((detection.deviation >= 0) & (detection.deviation <= MAX_DEVIATION))
    for i in np.flatnonzero(detection.deviation > 1)[:20]:
        assert np.isfinite([detection.low[i], detection.high[i]]).all()
        assert detection.low[i] <= detection.high[i]
        assert detection.explain(int(i))


@pytest.mark.parametrize("name", NAMES)
def test_deviations_do_not_depend_on_date_and_unit(name):
    """The same day at another date, or in another unit, has the same deviations."""
    values, statuses = duty(BASELINE + DAY)
    values[BASELINE + 3000 : BASELINE + 3200] += 300
    plain = detect(name, values, statuses)
    later = detect(name, values, statuses, start=1e9 + 40 * 86_400)
    larger = detect(name, 1024 * values, statuses)
    assert np.array_equal(plain.deviation, later.deviation)
    assert np.array_equal(plain.deviation, larger.deviation)
    assert np.array_equal(1024 * plain.low, larger.low, equal_nan=True)


def test_plain_noise_is_no_anomaly():
    """At most 2 readings are flagged in 40 days of Gaussian noise."""
    assert sum(np.sum(detect("telemetry", noise(BASELINE + DAY, seed)).deviation > 1) for seed in range(40)) <= 2


def test_a_coarse_sensor_may_move_by_one_step():
    """A sensor of whole degrees is flagged neither at the next degree nor for a long time at the same one."""
    wave = 20 + 3 * np.sin(np.arange(BASELINE + DAY) / DAY * 2 * np.pi)
    for seed in range(5):
        assert not np.any(detect("telemetry", np.round(wave + 0.1 * (noise(len(wave), seed) - 50))).deviation > 1)
    steps = np.where(np.arange(BASELINE + 100) % 7, 5.0, 5.5)
    steps[-1] = 9.0
    assert np.flatnonzero(detect("history_mad", steps).deviation > 1).tolist() == [99]


@pytest.mark.parametrize("size", [0, 1, 30, MIN_BASELINE_READINGS + LAG_READINGS])
def test_a_new_machine_is_not_flagged(size):
    """The first readings of a machine are not flagged, however much they differ."""
    for name in NAMES:
        assert not np.any(detect(name, 10.0 ** np.arange(size).clip(0, 200), before=0).deviation)


def test_the_third_lowest_value_of_a_baseline():
    """It is that of the BASELINE_READINGS before a reading, without the LAG_READINGS newest ones."""
    size = 3 * BASELINE + 17
    for values in (np.random.default_rng(1).normal(size=size), np.arange(size, 0.0, -1), np.arange(size, dtype=float)):
        found = third_lowest(values)
        for i in [
            *range(40),
            BASELINE - 1,
            BASELINE,
            BASELINE + LAG_READINGS,
            BASELINE + LAG_READINGS + 1,
            2 * BASELINE + 5,
            size - 1,
        ]:
            window = np.sort(values[max(i - LAG_READINGS - BASELINE, 0) : max(i - LAG_READINGS, 0)])
            assert found[i] == (window[2] if len(window) > 2 else np.inf)


def test_a_stuck_sensor_is_a_flatline():
    """The 61st equal reading is flagged although its value is normal, or a later one after longer flatlines."""
    values = noise(BASELINE + 1000)
    values[BASELINE + 500 :] = 50.0
    detection = detect("telemetry", values)
    assert np.flatnonzero(detection.deviation > 1)[0] == 500 + LEVEL_READINGS
    values[BASELINE + 300 : BASELINE + 325] = 51.0
    assert np.flatnonzero(detect("telemetry", values).deviation > 1)[0] == 500 + 3 * 25
    assert detection.explain(500 + LEVEL_READINGS) == (
        "exactly 50 for 61 readings in a row; the longest earlier run of equal values was 1"
    )


def test_a_fan_that_is_off_is_not_stuck():
    """A value at which the machine was constant before may last for any time; another value may not."""
    values, statuses = duty(BASELINE + 2000)
    values[BASELINE + 700 :], statuses[BASELINE + 700 :] = 0.0, ["IDLE"] * 1300
    assert not np.any(detect("telemetry", values, statuses).deviation > 1)
    values[BASELINE + 725 :], statuses[BASELINE + 725 :] = 801.0, ["STARTED"] * 1275
    assert "exactly 801" in detect("telemetry", values, statuses).explain(900)
    noisy = noise(BASELINE + 1000)
    noisy[BASELINE + 500 :] = 0.0
    assert np.flatnonzero(detect("telemetry", noisy).deviation > 1)[-1] < 500 + 2 * LEVEL_READINGS


def test_a_machine_that_is_switched_on_is_no_incident():
    """Readings in a status without a baseline are not flagged; the same values without a status are."""
    values = np.r_[20 + noise(BASELINE + 300) / 50, noise(2000) + 10]
    statuses = ["IDLE"] * (BASELINE + 300) + ["STARTED"] * 2000
    assert not np.any(detect("telemetry", values, statuses).deviation > 1)
    assert np.argmax(detect("telemetry", values).deviation > 1) == 300
    remarks = [f"part {i}" for i in range(len(values))]
    assert np.argmax(detect("telemetry", values, remarks).deviation > 1) == 300


def test_the_wrong_level_for_the_status_is_flagged():
    """Only status_band flags a fan that is at rest while STARTED, or turns while IDLE."""
    values, statuses = duty(BASELINE + 1800)
    standing, turning = values.copy(), values.copy()
    standing[BASELINE + 940 : BASELINE + 960], turning[BASELINE + 1020 : BASELINE + 1060] = 0.0, 800.0
    for wrong, at, why in (
        (
            standing,
            940,
            "0 is far outside 787 to 813, the range of nearly all 851 earlier readings 4 to 17 minutes after",
        ),
        (turning, 1020, "800 is far from 0, the range of nearly all 209 earlier readings 1 to 4 minutes after"),
    ):
        detection = detect("status_band", wrong, statuses)
        assert np.argmax(detection.deviation > 1) == at
        assert detection.explain(at).startswith(why)
        assert not np.any(detect("telemetry", wrong, statuses).deviation > 1)
    assert not np.any(detect("status_band", values, statuses).deviation > 1)
    assert not np.any(detect("status_band", standing, ["STARTED"] * len(values)).deviation)


def test_a_jump_and_a_level_shift_within_the_range_are_flagged():
    """A jump is flagged by its step, unless all steps are large; a level shift by the mean of many readings."""
    size = BASELINE + DAY
    wave = 50 + 10 * np.sin(np.arange(size) / DAY * 2 * np.pi) + 0.05 * noise(size)
    jump, shift = wave.copy(), wave.copy()
    jump[BASELINE + 3000] -= 3
    shift[BASELINE + 3000 :] -= 4
    assert not np.any(detect("telemetry", wave).deviation > 1)
    assert "in one reading; the steps of the 2,000 readings before were within" in detect("telemetry", jump).explain(
        3000
    )
    swing = 10 * np.sin(np.arange(size) / 20 * 2 * np.pi)
    swing[BASELINE + 15] += 14
    assert not np.any(detect("telemetry", swing).deviation > 1)
    noisy = detect("telemetry", shift + 0.3 * noise(size, 2))
    assert "the mean of 60 readings changed from" in noisy.explain(3000 + LEVEL_READINGS - 1)
    assert np.flatnonzero(noisy.deviation > 1)[-1] < 3000 + 3 * LEVEL_READINGS


def test_no_step_is_computed_across_missing_readings():
    """After a hole a slow value may be anywhere within its range."""
    size = BASELINE + DAY
    whole = readings(50 + 10 * np.sin(np.arange(size) / DAY * 2 * np.pi) + 0.05 * noise(size))
    kept = np.r_[: BASELINE + 500, BASELINE + 900 : size]
    holed = Readings(whole.times[kept], whole.values[kept], [None] * len(kept))
    assert not np.any(detect_all("telemetry", holed).deviation > 1)


def test_a_drift_of_a_regulated_value_is_out_of_control():
    """history_mad flags a cold room that warms slowly; a rolling band follows it."""
    values = noise(BASELINE + DAY)
    values[BASELINE:] += np.linspace(0, 15, DAY)
    detection = detect("history_mad", values)
    assert detection.deviation[-1] > 2
    assert detection.explain(DAY - 1).startswith(
        "64.2 is more than 5 robust standard deviations (1.0) from 50.0, the median of the 2,000 readings"
    )
    assert np.max(detect("telemetry", values).deviation) < 1


def test_the_long_lived_process_does_not_import_numpy():
    """Only commands that make reports load numpy, which costs a tenth of a second and 20 MB."""
    script = "import sys, etl.__main__, etl.cli.run; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
