"""The order to report a closed day, and its result, as `etl run` exchanges them with its child. Loads no numpy."""

from typing import Any

import msgspec

from etl.readings.records import Settings


class Job(msgspec.Struct, frozen=True):
    """A closed day to report: its folder, the settings if settings.jsonl has none, and the workers."""

    folder: str
    day: str
    settings: Settings
    workers: int = 1
    cluster: str | None = None


class Result(msgspec.Struct, frozen=True):
    """The path of a written report and its summary; or `failure`, why it cannot be made from this raw log."""

    path: str = ""
    summary: dict[str, Any] = {}
    failure: str | None = None
