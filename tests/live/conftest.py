"""A folder in which `etl run` reads every 100 ms."""

from __future__ import annotations

import pytest

from tests.support.numbered import numbered


@pytest.fixture
def site(tmp_path):
    """A folder with one source of numbered readings, read every 100 ms."""
    return numbered(tmp_path)
