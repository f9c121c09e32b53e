"""A folder with a past."""

from __future__ import annotations

import shutil

import pytest

from tests.support.folders import MIDNIGHT, Past
from tests.support.plant import Plant


@pytest.fixture(scope="session")
def lived(tmp_path_factory):
    """The folder that a process wrote in the four days of `Past`."""
    here = Plant(tmp_path_factory.mktemp("lived"), MIDNIGHT - 50)
    here.tick(8)
    here.config["window"] = 3
    here.open()
    here.tick(4)
    here.clock.now = MIDNIGHT + 86_400 - 30
    here.config["report"] = {"threshold": 0.02}
    here.open()
    here.tick(5)
    here.config["parameters"] = {"speed": "fan_speed", "temperature": "temperature"}
    here.open()
    here.tick(2)
    here.clock.now = MIDNIGHT + 2 * 86_400 + 400
    here.night()
    here.tick(3)
    here.config["parameters"] = {"speed": "fan_speed", "heat": "temperature"}
    here.open()
    here.tick(3)
    here.close()
    assert here.folder.reports() == here.folder.days("averages")[:3] == ["2026-11-22", "2026-11-23", "2026-11-24"]
    return here.root


@pytest.fixture
def past(lived, tmp_path_factory):
    """Build copies of that folder."""
    return lambda: Past(shutil.copytree(lived, tmp_path_factory.mktemp("past") / "copy", symlinks=True))
