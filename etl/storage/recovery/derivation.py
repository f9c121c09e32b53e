"""Averages derived from the raw log, over days and changes of settings, and the windows to start from."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from math import inf

from etl.readings.alarms.conditions import Change
from etl.readings.alarms.fold import AlarmFold
from etl.readings.averages.fold import Windows, derive, fold_of, forget
from etl.readings.averages.rewind import Rewind
from etl.readings.averages.window import silence_s
from etl.readings.blocks import block_decoder
from etl.storage.places import Place, blocks_before
from etl.storage.settings_log import SettingsLog

MAX_SET_BACK_S = 86_400.0
"""Windows are kept this much longer than they can matter, for lines from after the clock was set back; where it was set
back by more than a day, a machine that had been silent too long starts over."""
MAX_WINDOWS = 100_000
"""Windows beyond which those that cannot matter any more are removed as the fold reaches a new day."""


class Derivation:
    """The fold over days of the raw log, from `start` on, each line under the settings that govern it.

    No reading before `now` (seconds since the epoch) follows the log. With `alarms`, the fold of alarms up to `start`,
    `changes` are those of the day folded last, as far as it was folded; `has_alarms` tells whether a line of it was
    governed by settings with alarms.
    """

    def __init__(self, settings_log: SettingsLog, start: Place | None = None, now: float = inf) -> None:
        self.alarms: AlarmFold | None = None
        self.changes: list[Change] = []
        self.has_alarms = False
        self.windows: Windows = windows_before(settings_log, start, now)[0] if start else {}
        self._settings_log = settings_log
        self._shape = settings_log.at(start.day, start.line - 1).shape if start else None

    def day(self, day: str, line: int = 1, offset: int = 0) -> Iterator[bytes]:
        """The averages lines of a day from its line `line`, which starts at `offset`."""
        return self.fold(day, (raw for _, raw in self._settings_log.folder.lines("raw", day, offset)), line)

    def fold(self, day: str, lines: Iterator[bytes], line: int = 1) -> Iterator[bytes]:
        """The averages lines of a day's raw lines, the first of which is its line `line`."""
        self.changes, self.has_alarms = [], False
        if len(self.windows) > MAX_WINDOWS:
            silence = silence_s(self._settings_log.at(day, line).interval)
            # A local day may begin 14 hours before that day of UTC; the clock may have been set back within it.
            begins = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
            forget(self.windows, begins - 2 * MAX_SET_BACK_S - silence)
        for first, end, settings in self._settings_log.segments(day):
            if end <= line:
                continue
            if self._shape not in (None, settings.shape):
                self.windows.clear()
            self._shape = settings.shape
            segment = lines if end == inf else islice(lines, int(end) - max(first, line))
            alarms = self.alarms if settings.alarms or (self.alarms and self.alarms.states) else None
            for update in derive(self.windows, segment, fold_of(settings)):
                if alarms:
                    self.has_alarms |= bool(settings.alarms)
                    self.changes += alarms.add_update(day, settings, update)
                yield update.averages


def windows_before(settings_log: SettingsLog, place: Place, now: float = inf) -> tuple[Windows, str]:
    """The windows just before a line of the raw log, and the oldest day they depend on.

    Machines are left out whose windows start over with their next reading, which comes at `now` (seconds) or later.
    """
    settings = settings_log.at(place.day, place.line - 1)
    silence = silence_s(settings.interval)
    decode = block_decoder(tuple(settings.parameters.values()), times=True)
    rewind = Rewind(len(settings.parameters), settings.window, silence)
    since: float | None = None
    oldest = place.day
    first = settings_log.last_fresh_start(place.day, place.line)
    for day, lines in blocks_before(settings_log.folder, place, first):
        oldest, at = day, None
        rows = decode(b"".join([line + b"\n" for line in lines]))
        times = list(rows.times or ())
        for i in reversed(range(len(times))):
            source = rows.sources[i]
            if source is None:
                continue
            at = times[i]
            since = max(min(at, now), at - MAX_SET_BACK_S) if since is None else since
            machine = (source, rows.ids[i])
            if machine in rewind or since - at <= silence + MAX_SET_BACK_S:
                rewind.add(machine, at, [column[i] for column in rows.values])
        if at is not None and since is not None and at < since - silence and at < rewind.needs(since):
            break
    return rewind.windows(), oldest
