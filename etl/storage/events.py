"""What a reader of the folder must know, told from any thread and written by one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from etl.readings.wire import event_line
from etl.storage.log import Appender, DisturbedError, repair

NAMES = (
    "start", "stop", "settings", "gap", "source_down", "source_up", "rejected", "repaired", "clock_step", "truncated",
    "dropped", "report",
)  # fmt: skip
"""What is told."""
HELD = 1 << 20
"""Bytes of events that wait for a disk that does not take them, at most."""


class Events:
    """The events log, from `day` on; `latest` holds the newest lines for the API, `counts` how many were told."""

    def __init__(
        self, appender: Appender, day_of: Callable[[float], str], clock: Callable[[], float], day: str = ""
    ) -> None:
        self._appender = appender
        self._day_of = day_of
        self._clock = clock
        self._told: deque[tuple[float, bytes]] = deque()
        self._day = day
        self.latest: deque[bytes] = deque(maxlen=200)
        self.counts: Counter[str] = Counter()

    def tell(self, event: str, *, source: str | None = None, reason: str | None = None, **more: Any) -> None:
        """Let an event wait to be written; from any thread."""
        at = self._clock()
        line = event_line(at, event, source, reason, more)
        self.latest.append(line)
        self.counts[event] += 1
        self._told.append((at, line))

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: the folder cannot be written now; the events wait on, the newest are lost beyond HELD bytes.

        """
        self._put()
        try:
            self._write()
        except DisturbedError as error:
            repair(error.path)
            self._appender.forget()
            self.tell("truncated", reason=error.reason, file=f"events/{error.path.name}")
            self._put()
            self._write()

    def reopen(self) -> None:
        """Take the file, at the next flush, as it stands then."""
        self._appender.forget()

    def _put(self) -> None:
        while self._told:
            at, line = self._told.popleft()
            self._day = max(self._day, self._day_of(at))
            if self._appender.waiting < HELD:
                self._appender.put(self._day, [line])

    def _write(self) -> None:
        for _ in self._appender.flush():
            pass
