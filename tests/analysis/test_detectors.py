"""What detectors flag in a day, given the readings before it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.analysis.bands import MAX_DEVIATION, MIN_READINGS, band_of, needed_readings
from etl.analysis.detectors import DETECTORS, FLATLINE_READINGS, Detection, Series
from etl.analysis.past import BASELINE_READINGS, BLOCK_READINGS, TAIL_READINGS

DAY = 8640
NAMES = sorted(DETECTORS)


def noise(size: int, seed: int = 1) -> np.ndarray:
    """Gaussian noise around 50."""
    return np.round(50 + np.random.default_rng(seed).normal(size=size), 3)


def series_of(values, statuses=None, start: float = 1e9) -> Series:
    """Readings 10 s apart, of which a day begins after TAIL_READINGS."""
    values = np.array(values, float)
    texts = sorted(set(statuses)) if statuses is not None else [None]
    codes = np.array([texts.index(status) for status in statuses] if statuses is not None else [0] * len(values))
    times = start + 10.0 * np.arange(len(values))
    return Series(times, values, codes.astype(np.int64), texts, TAIL_READINGS, 10.0)


def detect(name: str, values, statuses=None, start: float = 1e9) -> Detection:
    return DETECTORS[name](series_of(values, statuses, start))[0]


def flagged(name: str, values, statuses=None) -> list[int]:
    """The flagged readings, counted from the first one of the day."""
    return (np.flatnonzero(detect(name, values, statuses).deviation > 1) - TAIL_READINGS).tolist()


def duty(size: int, seed: int = 1) -> tuple[np.ndarray, list[str]]:
    """A fan that alternates between 800 for 20 minutes and 0 for 10; with the status of each reading."""
    on = np.arange(size) % 180 < 120
    values = np.where(on, np.round(800 + 5 * np.random.default_rng(seed).normal(size=size)), 0.0)
    return values, np.where(on, "STARTED", "IDLE").tolist()


runs = st.lists(st.floats(-1e300, 1e300) | st.sampled_from([0.0, 20.0, 20.5]), min_size=1, max_size=20)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=40)
@given(parts=st.lists(st.tuples(runs, st.integers(1, 90)), min_size=1, max_size=8), busy=st.booleans())
def test_every_reading_gets_a_finite_deviation_and_an_explanation(name, parts, busy):
    """Deviations are finite and at least 0 for any values; flagged readings have a finite range and an explanation."""
    values = [value for run, times in parts for value in run * times]
    statuses = [("IDLE", "STARTED")[(i // 50) % 2] for i in range(len(values))] if busy else None
    detection, bands = DETECTORS[name](series_of(values, statuses))
    assert len(detection.deviation) == len(values)
    assert np.all((detection.deviation >= 0) & (detection.deviation <= MAX_DEVIATION))
    for i in np.flatnonzero(detection.deviation > 1)[:20]:
        assert np.isfinite([detection.low[i], detection.high[i]]).all()
        assert detection.low[i] <= detection.high[i]
        assert detection.explain(int(i))
        assert detection.first(int(i)) <= i
        assert set(bands.freeze(int(i))) <= set(bands.keys)


@pytest.mark.parametrize("name", NAMES)
def test_deviations_do_not_depend_on_date_and_unit(name):
    """The same day at another date, or in another unit, has the same deviations."""
    values, statuses = duty(TAIL_READINGS + DAY)
    values[TAIL_READINGS + 3000 : TAIL_READINGS + 3200] += 300
    plain = detect(name, values, statuses)
    later = detect(name, values, statuses, start=1e9 + 40 * 86_400)
    larger = detect(name, 1024 * values, statuses)
    assert np.array_equal(plain.deviation, later.deviation)
    assert np.array_equal(plain.deviation, larger.deviation)
    assert np.array_equal(1024 * plain.low, larger.low, equal_nan=True)


def test_plain_noise_is_no_anomaly():
    """At most 4 readings are flagged in 40 days of Gaussian noise, by the bands of values and of steps."""
    assert sum(len(flagged("telemetry", noise(TAIL_READINGS + DAY, seed))) for seed in range(40)) <= 4


def test_a_coarse_sensor_may_move_by_one_step():
    """A sensor of whole degrees is flagged neither at the next degree nor for a long time at the same one."""
    wave = 20 + 3 * np.sin(np.arange(TAIL_READINGS + DAY) / DAY * 2 * np.pi)
    for seed in range(5):
        assert not flagged("telemetry", np.round(wave + 0.1 * (noise(len(wave), seed) - 50)))


@pytest.mark.parametrize(("interval", "needed"), [(0.1, 720), (10, 720), (30, 240), (60, 120), (300, 120), (3600, 120)])
def test_a_machine_is_judged_after_two_hours(interval, needed):
    """Two hours of readings, at least 120 and at most 720 of them."""
    assert needed_readings(interval) == needed


@pytest.mark.parametrize("size", [1, 30, needed_readings(10) + BLOCK_READINGS])
def test_a_new_machine_is_not_flagged(size):
    """The first readings of a machine are not flagged, however much they differ."""
    for name in NAMES:
        assert not np.any(detect(name, 10.0 ** np.arange(size).clip(0, 200)).deviation)


def test_the_band_of_a_block():
    """It is centred between the extremes of the baseline, without the block before, and 5 sigma wide if Gaussian."""
    size = 3 * BASELINE_READINGS + 17
    for values in (noise(size), np.arange(size, 0.0, -1), np.arange(size, dtype=float)):
        band = band_of(values, 0.0)
        for block in [4, 5, 66, 67, 68, 69, 135, len(band.low) - 1]:
            end = (block - 1) * BLOCK_READINGS
            baseline = np.sort(values[max(end - BASELINE_READINGS, 0) : end])
            if len(baseline) < MIN_READINGS:
                assert np.isnan(band.low[block])
            else:
                assert (band.least[block], band.most[block]) == (baseline[2], baseline[-3])
                assert band.readings[block] == len(baseline)
                assert (band.low[block] + band.high[block]) / 2 == pytest.approx((baseline[2] + baseline[-3]) / 2)
    assert (band_of(noise(size), 0.0).high[-1] - 50) == pytest.approx(5.0, rel=0.2)
    coarse = band_of(np.resize([20.0, 21.0], 500), 1.0)
    assert (coarse.low[-1], coarse.high[-1]) == (18.5, 22.5)


def test_a_stuck_sensor_is_a_flatline():
    """The 61st equal reading is flagged although its value is normal, or a later one after longer flatlines."""
    values = noise(TAIL_READINGS + 1000)
    values[TAIL_READINGS + 500 :] = 50.0
    assert flagged("telemetry", values)[0] == 500 + FLATLINE_READINGS
    values[TAIL_READINGS + 300 : TAIL_READINGS + 325] = 51.0
    assert next(i for i in flagged("telemetry", values) if i >= 500) == 500 + 3 * 25
    values[TAIL_READINGS + 300 : TAIL_READINGS + 325] = noise(25, 2)
    detection, place = detect("telemetry", values), TAIL_READINGS + 500 + FLATLINE_READINGS
    assert detection.explain(place) == (
        "exactly 50.000 for 61 readings in a row; the longest earlier run of equal values was 1"
    )
    assert detection.first(place) == TAIL_READINGS + 500


def test_a_fan_that_is_off_is_not_stuck():
    """A value at which the machine was constant before may last for any time; another value may not."""
    values, statuses = duty(TAIL_READINGS + 2000)
    values[TAIL_READINGS + 700 :], statuses[TAIL_READINGS + 700 :] = 0.0, ["IDLE"] * 1300
    assert not flagged("telemetry", values, statuses)
    values[TAIL_READINGS + 725 :], statuses[TAIL_READINGS + 725 :] = 801.0, ["STARTED"] * 1275
    assert "exactly 801" in detect("telemetry", values, statuses).explain(TAIL_READINGS + 900)
    noisy = noise(TAIL_READINGS + 1000)
    noisy[TAIL_READINGS + 500 :] = 0.0
    assert flagged("telemetry", noisy)[-1] < 500 + 2 * BLOCK_READINGS


def test_a_machine_that_is_switched_on_is_no_incident():
    """Readings in a status without a baseline make no incident; the same values without a status do."""
    values = np.r_[20 + noise(TAIL_READINGS + 300) / 50, noise(2000) + 10]
    statuses = ["IDLE"] * (TAIL_READINGS + 300) + ["STARTED"] * 2000
    assert len(flagged("telemetry", values, statuses)) <= 1
    assert flagged("telemetry", values)[:60] == [*range(300, 360)]


def test_the_wrong_level_for_the_status_is_flagged():
    """Only status_band flags a fan that is at rest while STARTED, or turns while IDLE."""
    values, statuses = duty(TAIL_READINGS + 1800)
    standing, turning = values.copy(), values.copy()
    first = -TAIL_READINGS % 180
    standing[TAIL_READINGS + first + 940 : TAIL_READINGS + first + 960] = 0.0
    turning[TAIL_READINGS + first + 1040 : TAIL_READINGS + first + 1060] = 800.0
    for wrong, at, why in (
        (
            standing,
            first + 940,
            "0 is outside 787 to 814, the range of nearly all 847 earlier readings 4 to 17 minutes",
        ),
        (turning, first + 1040, "800 is far from 0, the range of nearly all 209 earlier readings 1 to 4 minutes after"),
    ):
        assert flagged("status_band", wrong, statuses)[0] == at
        assert detect("status_band", wrong, statuses).explain(TAIL_READINGS + at).startswith(why)
        assert not flagged("telemetry", wrong, statuses)
    assert not flagged("status_band", values, statuses)
    assert not flagged("status_band", standing, ["STARTED"] * len(values))


def test_a_jump_within_the_range_is_flagged_by_its_step():
    """A jump there and back is flagged twice, unless all steps are large."""
    size = TAIL_READINGS + DAY
    wave = 50 + 10 * np.sin(np.arange(size) / DAY * 2 * np.pi) + 0.05 * noise(size)
    assert not flagged("telemetry", wave)
    jump = wave.copy()
    jump[TAIL_READINGS + 3000] -= 3
    assert flagged("telemetry", jump) == [3000, 3001]
    assert "in one reading; nearly all 2,010 steps before it were within" in detect("telemetry", jump).explain(
        TAIL_READINGS + 3000
    )
    swing = 10 * np.sin(np.arange(size) / 20 * 2 * np.pi)
    swing[TAIL_READINGS + 15] += 3
    assert not flagged("telemetry", swing)


def test_no_step_is_computed_across_missing_readings():
    """After a hole a slow value may be anywhere within its range."""
    size = TAIL_READINGS + DAY
    whole = series_of(50 + 10 * np.sin(np.arange(size) / DAY * 2 * np.pi) + 0.05 * noise(size))
    kept = np.r_[: TAIL_READINGS + 500, TAIL_READINGS + 900 : size]
    with_hole = whole._replace(times=whole.times[kept], values=whole.values[kept], codes=whole.codes[kept])
    assert not np.any(DETECTORS["telemetry"](with_hole)[0].deviation > 1)


def test_the_long_lived_process_does_not_import_numpy():
    """Only commands that make reports load numpy, which costs a tenth of a second and 20 MB."""
    script = "import sys, etl.__main__, etl.cli.run; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
