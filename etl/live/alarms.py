"""The alarms of the writer: changes follow from the readings that were just written, and are appended to their log."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence

from etl.readings.alarms.conditions import Change
from etl.readings.alarms.fold import AlarmFold, alarm_line
from etl.readings.averages.fold import Update
from etl.readings.records import Machine, Settings
from etl.storage.appender import Appender


class AlarmLog:
    """Derives alarms lines and appends them, each fsynced with its write: they are few."""

    def __init__(self, appender: Appender, settings: Settings) -> None:
        self.appender = appender
        self._fold = AlarmFold(settings)
        self._day = ""
        self._changes: deque[Sequence[Change]] = deque()

    def adopt(self, fold: AlarmFold, day: str) -> None:
        """Go on with what recovery derived; it has derived and written what still waited here, too."""
        self._fold = fold
        self._day = ""
        self._changes.clear()
        self.appender.drain()
        self.appender.adopt(day)

    def add(self, day: str, settings: Settings, updates: Sequence[Update]) -> None:
        """Queue the changes that readings of a day cause; with alarms, each day with readings gets a file."""
        if not updates or not (settings.alarms or self._fold.states):
            return
        changes = [change for update in updates for change in self._fold.add_update(day, settings, update)]
        if changes or (settings.alarms and day != self._day):
            self._day = day
            self._changes.append(changes)
            self.appender.put(day, [alarm_line(change) for change in changes])

    def flush(self) -> Iterator[tuple[list[bytes], Sequence[Change]]]:
        """Write what waits; yield the lines of each batch and their changes once they are durable.

        Raises:
            OSError, DisturbedError: as those of the appender.

        """
        for _, lines in self.appender.flush():
            changes = self._changes.popleft()
            if changes:
                yield lines, changes

    def raised(self) -> list[Change]:
        """What is raised now."""
        return self._fold.raised()

    def keep(self, machines: Collection[Machine]) -> None:
        """Forget conditions of other machines, which start over with their next reading."""
        self._fold.forget(machines)
