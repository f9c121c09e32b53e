"""When: the jobs and their policy. The only import of APScheduler.

Everything is scheduled in UTC on a grid of moments that never moves. APScheduler's own triggers skip nights at
daylight-saving changes and list every fire a clock step missed; `Slot` does neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from zlib import crc32

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

SLICES = 10
"""Into how many scheduled slices the sources are spread, at most."""
NIGHTLY = 60.0
"""Seconds between two looks for a day to report."""


class Slot(IntervalTrigger):  # type: ignore[misc]
    """Fires every `interval` seconds, at `offset` in the epoch's grid; what was missed is skipped, not listed."""

    def __init__(self, interval: float, offset: float = 0.0) -> None:
        start = datetime.fromtimestamp(offset, UTC)
        super().__init__(seconds=interval, start_date=start, timezone=UTC)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first moment of the grid after both the previous fire and now."""
        after = max(now, previous_fire_time + timedelta(milliseconds=1)) if previous_fire_time else now
        moment: datetime | None = super().get_next_fire_time(None, after)
        return moment


def slices(names: Iterable[str]) -> dict[int, list[str]]:
    """Spread sources by name: a source keeps its slice whatever the others are."""
    spread: dict[int, list[str]] = {}
    for name in names:
        spread.setdefault(crc32(name.encode()) % SLICES, []).append(name)
    return dict(sorted(spread.items()))


class Schedule:
    """The running jobs: every slice at its offset in the interval, and the nightly look for days to report."""

    def __init__(
        self,
        interval: float,
        poll: Callable[[list[str], float], None],
        nightly: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._interval = interval
        self._poll = poll
        self._clock = clock
        self._begun: set[int] = set()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"poll": ThreadPoolExecutor(SLICES), "nightly": ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_job(nightly, Slot(NIGHTLY), executor="nightly", id="nightly", next_run_time=self._now())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def set_sources(self, names: Iterable[str]) -> None:
        """Poll these sources from now on; a new slice at once and then at its own slot, one that stays at its slot."""
        wanted = slices(names)
        there = {int(job.id): job for job in self._scheduler.get_jobs() if job.id != "nightly"}
        for number in there.keys() - wanted.keys():
            there[number].remove()
            self._begun.discard(number)
        for number, members in wanted.items():
            if number in there:
                there[number].modify(args=[number, members])
            else:
                slot = Slot(self._interval, number * self._interval / SLICES)
                self._scheduler.add_job(
                    self._run_slice, slot, [number, members], executor="poll", id=str(number), next_run_time=self._now()
                )

    def _run_slice(self, number: int, members: list[str]) -> None:
        """Poll a slice; it is due at its slot, but for the first time, which comes at once."""
        now = self._clock()
        late = (now - number * self._interval / SLICES) % self._interval if number in self._begun else 0.0
        self._begun.add(number)
        self._poll(members, now - late)

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def resume(self) -> None:
        """Run every job now: the clock was set back, and the scheduler would wait for the time it had before."""
        now = self._now()
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=now)

    def stop(self) -> None:
        """Begin no further job and wait for the running ones."""
        self._scheduler.shutdown(wait=True)
