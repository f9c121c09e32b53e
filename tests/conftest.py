"""What many tests share: a clock to set, and a pipeline over a folder of its own."""

from __future__ import annotations

import pytest

from tests.support.plant import Plant


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=50, metavar="N", help="how often tests/test_kill.py kills (1000)")
    parser.addoption("--soak", type=float, default=1, metavar="DAYS", help="simulated days of tests/test_soak.py (30)")
    parser.addoption(
        "--examples",
        type=int,
        default=60,
        metavar="N",
        help="histories tests/test_model.py tries (1000); test_api_document.py posts five bodies for each (2000)",
    )
    parser.addoption("--reloads", type=int, default=50, metavar="N", help="SIGHUPs tests/test_signals.py sends (1000)")


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
