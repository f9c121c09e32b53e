"""The order to report a closed day, its result, and the environment of the processes that work on it. No numpy."""

import os
from typing import Any

import msgspec

from etl.readings.records import Settings


class Job(msgspec.Struct, frozen=True):
    """A closed day to report: its folder, the settings if settings.jsonl has none, the workers, its page's units."""

    folder: str
    day: str
    settings: Settings
    workers: int = 1
    cluster: str | None = None
    units: dict[str, str] = {}


def safe_path() -> dict[str, str]:
    """Variables that keep the current folder out of a child's `sys.path`: a module that lies there is not run."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, entries))}


class Result(msgspec.Struct, frozen=True):
    """The path of a written report and its summary; or `failure`, why it cannot be made from this raw log."""

    path: str = ""
    summary: dict[str, Any] = {}
    failure: str | None = None
