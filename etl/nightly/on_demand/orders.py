"""Orders of pages, which `etl run` sends to a child process as JSON, and the head of its answer. No numpy."""

import msgspec

from etl.readings.records import Settings


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
