"""A process in simulated time."""

from __future__ import annotations

import pytest

from tests.support.world import World, answer


@pytest.fixture
def world(plant, monkeypatch):
    """Build a process with one source that answers always, in simulated time."""

    def build(start: float, **settings) -> World:
        here = plant(start, sources=[{"name": "a", "file": "a.json"}], **settings)
        answer(here)
        return World(here, monkeypatch)

    return build
