"""When to poll: the APScheduler jobs and their policies. The only import of APScheduler.

Everything is scheduled in UTC on a fixed grid. APScheduler's own triggers skip nights at daylight-saving changes and
list every run that a clock step missed; `GridTrigger` does neither.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zlib import crc32

from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

MAX_SLICES = 10
"""Slices the sources are spread over, at most: each polls its share at its own offset in the interval."""
FIRST_ROUND_INTERVALS, FIRST_POLL_S = 0.2, 0.005
"""The first polls of new sources are spread over this share of the interval, or over FIRST_POLL_S for each if that is
less: thousands at once would wait for one another and for their connections, and a few are to be seen at once."""
NIGHTLY_INTERVAL_S = 60.0
"""Seconds between two checks for a day to report."""
NIGHTLY = "nightly"


class GridTrigger(IntervalTrigger):  # type: ignore[misc]
    """Fires `offset` seconds after each multiple of `interval` seconds since the epoch; missed runs are skipped."""

    def __init__(self, interval: float, offset: float = 0.0) -> None:
        start = datetime.fromtimestamp(offset, UTC)
        super().__init__(seconds=interval, start_date=start, timezone=UTC)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first moment of the grid after both the previous run and now."""
        after = max(now, previous_fire_time + timedelta(milliseconds=1)) if previous_fire_time else now
        moment: datetime | None = super().get_next_fire_time(None, after)
        return moment


def slices(names: Iterable[str]) -> dict[int, list[str]]:
    """Spread sources over slices by a hash of their names, so that a source keeps its slice whatever the others are."""
    members: dict[int, list[str]] = {}
    for name in names:
        members.setdefault(crc32(name.encode()) % MAX_SLICES, []).append(name)
    return dict(sorted(members.items()))


def first_polls(members: Mapping[int, Sequence[str]], interval: float) -> dict[int, float]:
    """Seconds until each new slice is first polled: none for the first, then evenly."""
    span_s = min(FIRST_ROUND_INTERVALS * interval, FIRST_POLL_S * sum(map(len, members.values())))
    return {number: turn * span_s / len(members) for turn, number in enumerate(members)}


class Schedule:
    """The running jobs: each slice at its offset in the interval, and the nightly job's check for due days.

    `poll` starts the polls of a slice's sources, due at a moment (seconds since the epoch).
    """

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
        self._started: set[int] = set()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            # Polls are only started, which takes no thread of its own.
            executors={"poll": DebugExecutor(), NIGHTLY: ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        trigger = GridTrigger(NIGHTLY_INTERVAL_S)
        self._scheduler.add_job(nightly, trigger, executor=NIGHTLY, id=NIGHTLY, next_run_time=self._now())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def set_sources(self, names: Iterable[str]) -> None:
        """Poll these sources from now on: a new slice soon and then at its offset, an existing one at its offset."""
        members = slices(names)
        jobs = {int(job.id): job for job in self._scheduler.get_jobs() if job.id != NIGHTLY}
        for number in jobs.keys() - members.keys():
            jobs[number].remove()
            self._started.discard(number)
        for number in members.keys() & jobs.keys():
            jobs[number].modify(args=[number, members[number]])
        now = self._now()
        new = {number: sources for number, sources in members.items() if number not in jobs}
        for number, seconds in first_polls(new, self._interval).items():
            trigger = GridTrigger(self._interval, number * self._interval / MAX_SLICES)
            args, first = [number, new[number]], now + timedelta(seconds=seconds)
            self._scheduler.add_job(
                self._run_slice, trigger, args, executor="poll", id=str(number), next_run_time=first
            )

    def _run_slice(self, number: int, sources: list[str]) -> None:
        """Poll a slice; it was due at its offset, except for its first run, which is due when it runs."""
        now = self._clock()
        offset = number * self._interval / MAX_SLICES
        late = (now - offset) % self._interval if number in self._started else 0.0
        self._started.add(number)
        self._poll(sources, now - late)

    def start(self) -> None:
        """Start the jobs."""
        self._scheduler.start()

    def resume(self) -> None:
        """Run every job now: the clock was set back, and the scheduler would wait until it shows the old time again."""
        now = self._now()
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=now)

    def stop(self) -> None:
        """Start no further run, and wait for the running ones."""
        self._scheduler.shutdown(wait=True)
