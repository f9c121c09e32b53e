"""The windows that a start needs, and what of the raw log it reads for them."""

from __future__ import annotations

import pytest

from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.places import nth_place
from etl.storage.recovery import derivation
from etl.storage.recovery.derivation import Derivation, windows_before
from etl.storage.settings_log import SettingsLog

SETTINGS = Settings(5, {"temperature": "temperature"}, "UTC", 10.0, 0.2)
DAYS = [f"2026-11-{day}" for day in range(20, 26)]
FIRST_S = 1_795_132_800.0
"""2026-11-20T00:00:00Z."""
STEP_S = 1800


@pytest.fixture
def settings_log(tmp_path):
    """Six days in which a new machine sends a reading every half an hour, and machine 0 with each of them."""
    (tmp_path / "raw").mkdir()
    for number, day in enumerate(DAYS):
        moments = [FIRST_S + 86_400 * number + STEP_S * step for step in range(48)]
        ids = [(int(at - FIRST_S) // STEP_S + 1, 0) for at in moments]
        readings = [({"id": n, "temperature": 1}, at) for pair, at in zip(ids, moments, strict=True) for n in pair]
        (tmp_path / "raw" / f"{day}.jsonl").write_bytes(b"".join(raw_line(r, "m", at) for r, at in readings))
    return SettingsLog(Folder(tmp_path), SETTINGS)


def test_a_start_does_not_search_the_log_for_machines_that_start_over(settings_log):
    """Machines that sent a single reading long ago are not searched for in older and older days."""
    windows, oldest = windows_before(settings_log, nth_place(settings_log.folder, DAYS[-1], 97))
    assert oldest >= DAYS[-3]
    assert len(windows) < 1 + 2 * 48
    assert windows["m", 0].readings == 5
    assert {machine_id for _, machine_id in windows} >= {0, 6 * 48, 6 * 48 - 1, 6 * 48 - 2}


def test_where_the_clock_was_set_back_older_windows_are_found(settings_log):
    """A process that starts after the clock was set back finds the windows of the hour before its own time."""
    end = FIRST_S + 86_400 * len(DAYS)
    windows, _ = windows_before(settings_log, nth_place(settings_log.folder, DAYS[-1], 97), now=end - 43_200)
    assert ("m", 5 * 48 + 24) in windows


def test_a_long_fold_forgets_machines_and_derives_the_same(settings_log, monkeypatch):
    """Over many days of ever new machines few windows are kept, and no averages line changes."""
    whole = Derivation(settings_log)
    lines = [line for day in DAYS for line in whole.day(day)]
    assert len(whole.windows) == 1 + 48 * len(DAYS)
    monkeypatch.setattr(derivation, "MAX_WINDOWS", 10)
    bounded = Derivation(settings_log)
    assert [line for day in DAYS for line in bounded.day(day)] == lines
    assert len(bounded.windows) < 1 + 48 * 4
