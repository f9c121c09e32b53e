"""What transports of any kind are opened with."""

from __future__ import annotations

import time
from pathlib import Path

from etl.sources.contract import Context
from etl.sources.intake import Intake
from tests.support.http_sources import PATIENCE


def context(folder: Path, **settings) -> Context:
    """What a transport is opened with; `settings` replace the defaults."""
    return Context(time.time, Intake(), folder, PATIENCE)._replace(**settings)
