"""Pages on demand for the API: made by child processes, one for reports and one for machines at a time."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from etl.live.children.child import StoppedError, Stopping, run_child
from etl.live.children.child_queue import RETRY_S, BusyError, ChildQueue
from etl.live.children.content import Content
from etl.live.pipeline import Pipeline
from etl.nightly.on_demand.orders import AnyPageOrder, DayOrder, MachineDayOrder, MachineHoursOrder, SummariesOrder
from etl.readings.days import day_finder, days_before
from etl.readings.records import Settings
from etl.storage.folder import Folder

MAX_REPORT_S = 900.0
"""The report of the largest day takes two minutes of CPU, at low priority on a busy machine some times longer."""
MAX_MACHINE_S = 120.0
"""The files of the largest days are read in 5 s, compressed ones in 30 s."""
INCIDENT_DAYS = 7
"""The summaries list the incidents of the reports of so many days before today."""
KEPT_PAGES = 16
"""Pages of machines that are kept, about 100 kB each; of the day's report, which may have 100 MB, only the last one."""
MAX_DATED = 1000
"""Newest reports whose change is noticed: those that the summaries may have read."""

MakeContent = Callable[[AnyPageOrder, Stopping, float], Content]


class RefusedError(Exception):
    """A page that is not made; the message says why. `status` is that of HTTP, `retry_s` when to ask again, if ever."""

    def __init__(self, status: int, why: str, retry_s: int | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.retry_s = retry_s


class Pages:
    """Makes pages and their data; every method may raise RefusedError, and is called from several threads at once.

    `clock` gives seconds on any scale. A report may take minutes, so machines have a child of their own.
    """

    def __init__(self, pipeline: Pipeline, stopping: Stopping, clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._stopping = stopping
        self._reports, self._machines = ChildQueue(clock, 1), ChildQueue(clock, KEPT_PAGES)
        self.make: MakeContent = in_child

    def day_so_far(self) -> Content:
        """The report of the day that is not over: its JSON and its page."""
        day = self._today()
        order = DayOrder(*self._common(), day)
        return self._get(self._reports, ("day", day), order, MAX_REPORT_S)

    def machine_day(self, source: str, machine_id: str, day: str) -> Content:
        """The page of a machine, whose `id` is JSON, and a day: its date, or "today"."""
        folder = self._pipeline.folder
        if day == "today":
            day = self._today()
        elif day not in folder.days("raw"):
            raise RefusedError(404, _missing(folder, day))
        order = MachineDayOrder(*self._common(), day, source, machine_id)
        return self._get(self._machines, ("machine", source, machine_id, day), order, MAX_MACHINE_S)

    def machine_hours(self, source: str, machine_id: str, hours: int) -> Content:
        """The charts of a machine's last hours: a JSON object of HTML by parameter."""
        order = MachineHoursOrder(*self._common(), source, machine_id, hours)
        return self._get(self._machines, ("hours", source, machine_id, hours), order, MAX_MACHINE_S)

    def summaries(self) -> Content:
        """The summaries of the stored reports as JSON, kept until a report is added, changed or deleted."""
        folder, today = self._pipeline.folder, self._day_of_now()
        reports = folder.reports()
        version = today, tuple(reports), tuple(map(_stamp, map(folder.report_path, reports[-MAX_DATED:])))
        order = SummariesOrder(*self._common(), days_before(today, INCIDENT_DAYS))
        return self._get(self._machines, "summaries", order, MAX_MACHINE_S, version)

    def _common(self) -> tuple[str, Settings, dict[str, str], float]:
        loaded = self._pipeline.loaded
        return str(self._pipeline.folder.root), loaded.settings, loaded.config.units, self._pipeline.clock()

    def _day_of_now(self) -> str:
        return day_finder(self._pipeline.loaded.zone)(self._pipeline.clock())

    def _today(self) -> str:
        """The day that readings go to: never one before the newest of the raw log."""
        days = self._pipeline.folder.days("raw")
        today = max([self._day_of_now(), *days[-1:]])
        if today not in days:
            newest = f"; the newest day is {days[-1]}, see /reports/{days[-1]}" if days else ""
            raise RefusedError(404, f"There is no reading of today, {today}, yet{newest}")
        return today

    def _get(
        self, queue: ChildQueue, key: object, order: AnyPageOrder, limit_s: float, version: object = None
    ) -> Content:
        try:
            content = queue.get(key, lambda: self.make(order, self._stopping, limit_s), version)
        except BusyError:
            raise RefusedError(503, "This is still being made; ask again in a few seconds", RETRY_S) from None
        except StoppedError:
            raise RefusedError(503, "The process is stopping") from None
        except ChildProcessError as error:
            raise RefusedError(503, str(error)) from None
        except OSError as error:
            raise RefusedError(503, f"This cannot be made now: {error}") from None
        if content.head.error:
            raise RefusedError(content.head.status, content.head.error)
        return content


def _missing(folder: Folder, day: str) -> str:
    """Why there is no page of a day without a raw log."""
    if day in folder.reports():
        return f"The raw log of {day} was deleted, as output.keep_days says; its report is /reports/{day}"
    days = folder.days("raw")
    return f"There is no raw log of {day}" + (f"; there are {days[0]} to {days[-1]}" if days else "")


def in_child(order: AnyPageOrder, stopping: Stopping, limit_s: float) -> Content:
    """Make a page in a child process.

    Raises:
        StoppedError: `stopping` became true; the child is killed.
        ChildProcessError: the child took longer than `limit_s` seconds, or failed; its log says why.

    """
    content = Content()
    code = run_child(["--html"], msgspec.json.encode(order), content.append, stopping, limit_s)
    if code < 0:
        raise ChildProcessError(f"This took longer than {limit_s:.0f} s at low priority, or was killed")
    try:
        return content.finish()
    except (ValueError, msgspec.DecodeError):
        raise ChildProcessError("This could not be made; the log of the process has the cause") from None


def _stamp(path: Path) -> tuple[int, int]:
    """When a file was last changed (nanoseconds) and its size: what differs after it was replaced."""
    with suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size
    return 0, 0
