"""The events log: what a reader of the folder must know, recorded from any thread and written by one."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from etl.readings.lines import event_line
from etl.storage.appender import Appender, DisturbedError
from etl.storage.recovery.repair import repair

NAMES = (
    "start",
    "stop",
    "settings",
    "gap",
    "source_down",
    "source_up",
    "rejected",
    "no_number",
    "repaired",
    "clock_step",
    "truncated",
    "dropped",
    "report",
)
"""The events there are; output/README.md lists their reasons and fields."""
MAX_PENDING_BYTES = 1 << 20
"""Bytes of events that wait while the disk rejects writes: some 5,000 events; newer ones are lost."""
LATEST = 200
"""Events that `latest` keeps for `GET /events`."""

Record = Callable[..., Mapping[str, object]]
"""Records an event, as `Events.record` does."""


class Events:
    """The events log from `day` on; `latest` holds the newest lines, `counts` how many events were recorded by name."""

    def __init__(
        self, appender: Appender, day_of: Callable[[float], str], clock: Callable[[], float], day: str = ""
    ) -> None:
        self.appender = appender
        self._day_of = day_of
        self._clock = clock
        self._recorded: deque[tuple[float, bytes]] = deque()
        self._day = day
        self.latest: deque[bytes] = deque(maxlen=LATEST)
        self.counts: Counter[str] = Counter()

    def record(
        self, event: str, *, source: str | None = None, reason: str | None = None, **fields: Any
    ) -> Mapping[str, object]:
        """Queue an event to be written by the next `flush`; from any thread.

        Returns its codes, the `extra` of the log line that says the same.
        """
        at = self._clock()
        line = event_line(at, event, source, reason, fields)
        self.latest.append(line)
        self.counts[event] += 1
        self._recorded.append((at, line))
        return {"event": event, "source": source, "reason": reason}

    def flush(self) -> None:
        """Write the queued events. After an OSError they wait; beyond MAX_PENDING_BYTES the newest are lost."""
        try:
            self._write()
        except DisturbedError as error:
            repair(error.path)
            self.appender.reset()
            self.record("truncated", reason=error.reason, file=f"events/{error.path.name}")
            self._write()

    def _write(self) -> None:
        while self._recorded:
            at, line = self._recorded.popleft()
            self._day = max(self._day, self._day_of(at))
            if self.appender.waiting_bytes < MAX_PENDING_BYTES:
                self.appender.put(self._day, [line])
        for _ in self.appender.flush():
            pass
