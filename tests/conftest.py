"""Options of the test run, the clock as commands see it, and a pipeline over a folder of its own."""

from __future__ import annotations

import freezegun
import pytest
from freezegun.config import DEFAULT_IGNORE_LIST

from tests.support.plant import Plant

# Commands poll on threads, where freezegun shows the real time by default. `etl.readings` never reads the clock, and
# msgspec, which decodes there, refuses freezegun's subclass of datetime.
FREEZEGUN_IGNORES = [*(module for module in DEFAULT_IGNORE_LIST if module != "threading"), "etl.readings"]
freezegun.configure(default_ignore_list=FREEZEGUN_IGNORES)


def pytest_addoption(parser):
    parser.addoption(
        "--kills",
        type=int,
        default=50,
        metavar="N",
        help="kills in tests/faults/test_kill.py (default 50; 1000 by hand)",
    )
    parser.addoption(
        "--soak", type=float, default=1, metavar="DAYS",
        help="simulated days of tests/faults/test_soak.py (default 1; 30 by hand)",
    )  # fmt: skip
    parser.addoption(
        "--examples", type=int, default=60, metavar="N",
        help="histories of tests/faults/test_model.py (default 60; 1000 by hand), and a fifth of the requests of "
        "tests/api/test_docs.py to each route",
    )  # fmt: skip
    parser.addoption(
        "--reloads", type=int, default=50, metavar="N",
        help="SIGHUPs in tests/live/test_reload.py (default 50; 1000 by hand)",
    )  # fmt: skip
    parser.addoption(
        "--images", type=int, default=210, metavar="N",
        help="images of a power cut in tests/faults/test_power_cut.py (default 210; 2000 by hand)",
    )  # fmt: skip
    parser.addoption(
        "--refresh-golden", action="store_true",
        help="write the golden files of tests/faults/test_end_to_end.py again, instead of comparing with them",
    )  # fmt: skip


@pytest.fixture
def plant(tmp_path):
    """Build plants; each is closed when the test ends."""
    plants = []

    def build(start: float = 1_795_341_600.0, **settings) -> Plant:
        root = tmp_path / str(len(plants))
        root.mkdir()
        plants.append(Plant(root, start, **settings))
        return plants[-1]

    yield build
    for built in plants:
        built.close()
