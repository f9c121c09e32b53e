"""What the tests poll: numbered readings in a real process, or sources that answer by script in this one."""

from __future__ import annotations

import pytest

from tests.support.numbered import numbered
from tests.support.transport import Script


@pytest.fixture
def site(tmp_path):
    """A folder with one source of numbered readings, read every 100 ms."""
    return numbered(tmp_path)


@pytest.fixture
def scripted(plant):
    """A plant whose sources a, b and c answer by script."""

    def build(**more):
        names = ["a", "b", "c"]
        here = plant(sources=[{"name": name, "url": "http://127.0.0.1:1/"} for name in names], **more)
        here.script = Script(here.clock)
        here.pipeline.poller.use(dict.fromkeys(names, here.script))
        return here

    return build
