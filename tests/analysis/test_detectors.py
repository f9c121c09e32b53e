"""What detectors say of a day, from what the machine did before."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.analysis.bands import KNOWN, LAG, MOST, third_lowest
from etl.analysis.detectors import DETECTORS, SPAN, Readings
from etl.analysis.past import MEMORY

DAY = 8640
NAMES = sorted(DETECTORS)


def noise(size: int, seed: int = 1) -> np.ndarray:
    """Plain noise around 50."""
    return np.round(50 + np.random.default_rng(seed).normal(size=size), 3)


def readings(values, statuses=None, start: float = 1e9) -> Readings:
    """Readings 10 s apart."""
    values = np.array(values, float)
    return Readings(
        start + 10.0 * np.arange(len(values)), values, [None] * len(values) if statuses is None else statuses
    )


def judge(name: str, values, statuses=None, before: int = MEMORY, start: float = 1e9):
    """What a detector says of the readings after the first `before`."""
    return judge_all(name, readings(values, statuses, start), before)


def judge_all(name: str, whole: Readings, before: int = MEMORY):
    return DETECTORS[name](
        *(Readings(*(column[part] for column in whole)) for part in (np.s_[:before], np.s_[before:]))
    )


def duty(size: int, seed: int = 1) -> tuple[np.ndarray, list[str]]:
    """A fan that runs at 800 for 20 minutes and stands still for 10, in turn; with the status of each reading."""
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
    """Whatever the values are, deviations are numbers from 0 up, and where one counts, so are the expected values."""
    values = [value for run, times in parts for value in run * times]
    statuses = [(i // 50) % 2 if busy else None for i in range(len(values))]
    judged = judge(name, values, statuses, before)
    assert len(judged.deviation) == len(values[before:])
    assert np.all((judged.deviation >= 0) & (judged.deviation <= MOST))
    for i in np.flatnonzero(judged.deviation > 1)[:20]:
        assert np.isfinite([judged.low[i], judged.high[i]]).all()
        assert judged.low[i] <= judged.high[i]
        assert judged.why(int(i))


@pytest.mark.parametrize("name", NAMES)
def test_neither_the_date_nor_the_unit_matters(name):
    """The same day at another time, and in a unit of another size, has the same deviations."""
    values, statuses = duty(MEMORY + DAY)
    values[MEMORY + 3000 : MEMORY + 3200] += 300
    plain = judge(name, values, statuses)
    later = judge(name, values, statuses, start=1e9 + 40 * 86_400)
    larger = judge(name, 1024 * values, statuses)
    assert np.array_equal(plain.deviation, later.deviation)
    assert np.array_equal(plain.deviation, larger.deviation)
    assert np.array_equal(1024 * plain.low, larger.low, equal_nan=True)


def test_plain_noise_is_no_anomaly():
    """Of 40 days of noise, at most 2 readings are flagged."""
    assert sum(np.sum(judge("telemetry", noise(MEMORY + DAY, seed)).deviation > 1) for seed in range(40)) <= 2


def test_a_coarse_sensor_may_go_a_step_further():
    """Of a sensor of whole degrees neither the next degree nor a long rest at one is flagged."""
    wave = 20 + 3 * np.sin(np.arange(MEMORY + DAY) / DAY * 2 * np.pi)
    for seed in range(5):
        assert not np.any(judge("telemetry", np.round(wave + 0.1 * (noise(len(wave), seed) - 50))).deviation > 1)
    steps = np.where(np.arange(MEMORY + 100) % 7, 5.0, 5.5)
    steps[-1] = 9.0
    assert np.flatnonzero(judge("history_mad", steps).deviation > 1).tolist() == [99]


@pytest.mark.parametrize("size", [0, 1, 30, KNOWN + LAG])
def test_nothing_is_said_of_a_machine_hardly_known(size):
    """A new machine's first readings are not judged, however far they lie apart."""
    for name in NAMES:
        assert not np.any(judge(name, 10.0 ** np.arange(size).clip(0, 200), before=0).deviation)


def test_the_band_spans_the_third_extremes_of_the_readings_before():
    """The band's ends follow from the third lowest and highest of MEMORY readings, those of the LAG newest left out."""
    size = 3 * MEMORY + 17
    for values in (np.random.default_rng(1).normal(size=size), np.arange(size, 0.0, -1), np.arange(size, dtype=float)):
        found = third_lowest(values)
        for i in [*range(40), MEMORY - 1, MEMORY, MEMORY + LAG, MEMORY + LAG + 1, 2 * MEMORY + 5, size - 1]:
            window = np.sort(values[max(i - LAG - MEMORY, 0) : max(i - LAG, 0)])
            assert found[i] == (window[2] if len(window) > 2 else np.inf)


def test_a_stuck_sensor_is_a_flatline():
    """From the 61st reading of the same value on a sensor is stuck, although the value itself is normal."""
    values = noise(MEMORY + 1000)
    values[MEMORY + 500 :] = 50.0
    judged = judge("telemetry", values)
    assert np.flatnonzero(judged.deviation > 1)[0] == 500 + SPAN
    values[MEMORY + 300 : MEMORY + 325] = 51.0
    assert np.flatnonzero(judge("telemetry", values).deviation > 1)[0] == 500 + 3 * 25
    assert judged.why(500 + SPAN) == "exactly 50 for 61 readings in a row; before, it never stood still for more than 1"


def test_a_fan_that_is_off_is_not_stuck():
    """A value the machine rested at before may be held for any time; another may not."""
    values, statuses = duty(MEMORY + 2000)
    values[MEMORY + 700 :], statuses[MEMORY + 700 :] = 0.0, ["IDLE"] * 1300
    assert not np.any(judge("telemetry", values, statuses).deviation > 1)
    values[MEMORY + 725 :], statuses[MEMORY + 725 :] = 801.0, ["STARTED"] * 1275
    assert "exactly 801" in judge("telemetry", values, statuses).why(900)
    noisy = noise(MEMORY + 1000)
    noisy[MEMORY + 500 :] = 0.0
    assert np.flatnonzero(judge("telemetry", noisy).deviation > 1)[-1] < 500 + 2 * SPAN


def test_a_machine_that_is_switched_on_is_no_incident():
    """A status not seen for MEMORY readings is not judged until it is known; without a status the same values are."""
    values = np.r_[20 + noise(MEMORY + 300) / 50, noise(2000) + 10]
    statuses = ["IDLE"] * (MEMORY + 300) + ["STARTED"] * 2000
    assert not np.any(judge("telemetry", values, statuses).deviation > 1)
    assert np.argmax(judge("telemetry", values).deviation > 1) == 300
    remarks = [f"part {i}" for i in range(len(values))]
    assert np.argmax(judge("telemetry", values, remarks).deviation > 1) == 300


def test_the_wrong_level_for_the_status_is_found():
    """A fan that stands though STARTED, or turns though IDLE, is found by the band of its status alone."""
    values, statuses = duty(MEMORY + 1800)
    standing, turning = values.copy(), values.copy()
    standing[MEMORY + 940 : MEMORY + 960], turning[MEMORY + 1020 : MEMORY + 1060] = 0.0, 800.0
    for wrong, at, why in (
        (
            standing,
            940,
            "0 is far outside 787 to 813, where nearly all of 851 earlier readings were 4 to 17 minutes after",
        ),
        (turning, 1020, "800 is far from 0, where nearly all of 209 earlier readings were 1 to 4 minutes after"),
    ):
        judged = judge("status_band", wrong, statuses)
        assert np.argmax(judged.deviation > 1) == at
        assert judged.why(at).startswith(why)
        assert not np.any(judge("telemetry", wrong, statuses).deviation > 1)
    assert not np.any(judge("status_band", values, statuses).deviation > 1)
    assert not np.any(judge("status_band", standing, ["STARTED"] * len(values)).deviation)


def test_a_jump_of_a_slow_value_and_a_shift_within_its_range_are_found():
    """What a day's wave hides is seen in one step, unless all steps are large, and in the level of many readings."""
    size = MEMORY + DAY
    wave = 50 + 10 * np.sin(np.arange(size) / DAY * 2 * np.pi) + 0.05 * noise(size)
    jump, shift = wave.copy(), wave.copy()
    jump[MEMORY + 3000] -= 3
    shift[MEMORY + 3000 :] -= 4
    assert not np.any(judge("telemetry", wave).deviation > 1)
    assert "in one reading; the steps of the 2,000 readings before were within" in judge("telemetry", jump).why(3000)
    swing = 10 * np.sin(np.arange(size) / 20 * 2 * np.pi)
    swing[MEMORY + 15] += 14
    assert not np.any(judge("telemetry", swing).deviation > 1)
    noisy = judge("telemetry", shift + 0.3 * noise(size, 2))
    assert "the mean of 60 readings went from" in noisy.why(3000 + SPAN - 1)
    assert np.flatnonzero(noisy.deviation > 1)[-1] < 3000 + 3 * SPAN


def test_a_step_over_missing_readings_is_none():
    """After a hole a slow value may be anywhere within its range."""
    size = MEMORY + DAY
    whole = readings(50 + 10 * np.sin(np.arange(size) / DAY * 2 * np.pi) + 0.05 * noise(size))
    kept = np.r_[: MEMORY + 500, MEMORY + 900 : size]
    holed = Readings(whole.times[kept], whole.values[kept], [None] * len(kept))
    assert not np.any(judge_all("telemetry", holed).deviation > 1)


def test_a_drift_of_a_regulated_value_is_out_of_control():
    """A cold room that warms slowly is told by the readings before the day, where a rolling band follows it."""
    values = noise(MEMORY + DAY)
    values[MEMORY:] += np.linspace(0, 15, DAY)
    judged = judge("history_mad", values)
    assert judged.deviation[-1] > 2
    assert judged.why(DAY - 1).startswith(
        "64.2 is more than 5 times the usual spread of 1.0 away from 50.0, the middle"
    )
    assert np.max(judge("telemetry", values).deviation) < 1


def test_the_long_lived_process_does_not_import_numpy():
    """Only the nightly report pays for numpy: a tenth of a second and 20 MB."""
    script = "import sys, etl.__main__, etl.cli.run; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
