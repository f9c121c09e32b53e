"""Orders to the child processes of `etl run`, their answers, and the environment they work in. No numpy."""

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


class PageOrder(msgspec.Struct, frozen=True, tag_field="page"):
    """A page to make on demand: the folder, the settings if settings.jsonl has none, `now` (seconds since the epoch).

    `units` has the unit of each parameter that has one.
    """

    folder: str
    settings: Settings
    units: dict[str, str]
    now: float


class DayOrder(PageOrder, frozen=True, tag="day"):
    """The report of a day that is not over: its JSON, then its page."""

    day: str


class MachineDayOrder(PageOrder, frozen=True, tag="machine_day"):
    """The page of one machine and day. `id` is JSON: a number keeps all its digits."""

    day: str
    source: str
    id: str


class MachineHoursOrder(PageOrder, frozen=True, tag="machine_hours"):
    """The charts of a machine's last hours: a JSON object of HTML by parameter."""

    source: str
    id: str
    hours: int


class SummariesOrder(PageOrder, frozen=True, tag="summaries"):
    """The summaries of the stored reports as JSON; the incidents are those of reports from `since` on."""

    since: str


AnyPageOrder = DayOrder | MachineDayOrder | MachineHoursOrder | SummariesOrder


class PageHead(msgspec.Struct, frozen=True):
    """The first line of the answer to a PageOrder: the size of each part that follows; or an error and its status."""

    sizes: tuple[int, ...] = ()
    status: int = 200
    error: str = ""
