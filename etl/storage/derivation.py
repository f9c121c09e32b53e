"""Averages derived from the raw log, over days and changes of settings, and the windows to start from."""

from collections.abc import Iterator
from itertools import islice
from math import inf

from etl.readings.blocks import block_decoder
from etl.readings.fold import Windows, derive, fold_of
from etl.readings.rewind import Rewind
from etl.readings.window import silence_s
from etl.storage.places import Place, blocks_before
from etl.storage.settings_log import SettingsLog, shape


class Derivation:
    """The fold over days of the raw log, from `start` on, each line under the settings that govern it."""

    def __init__(self, settings_log: SettingsLog, start: Place | None = None) -> None:
        self.windows: Windows = windows_before(settings_log, start)[0] if start else {}
        self._settings_log = settings_log
        self._shape = shape(settings_log.at(start.day, start.line - 1)) if start else None

    def day(self, day: str, line: int = 1, offset: int = 0) -> Iterator[bytes]:
        """The averages lines of a day from its line `line`, which starts at `offset`."""
        return self.fold(day, (raw for _, raw in self._settings_log.folder.lines("raw", day, offset)), line)

    def fold(self, day: str, lines: Iterator[bytes], line: int = 1) -> Iterator[bytes]:
        """The averages lines of a day's raw lines, the first of which is its line `line`."""
        for first, end, settings in self._settings_log.segments(day):
            if end <= line:
                continue
            if self._shape not in (None, shape(settings)):
                self.windows.clear()
            self._shape = shape(settings)
            segment = lines if end == inf else islice(lines, int(end) - max(first, line))
            for update in derive(self.windows, segment, fold_of(settings)):
                yield update.averages


def windows_before(settings_log: SettingsLog, place: Place) -> tuple[Windows, str]:
    """The windows just before a line of the raw log, and the oldest day they depend on."""
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
        times = rows.times or []
        for i in reversed(range(len(times))):
            source = rows.sources[i]
            if source is None:
                continue
            at = times[i]
            since = at if since is None else since
            rewind.add((source, rows.ids[i]), at, [column[i] for column in rows.values])
        if at is not None and since is not None and at < since - silence and at < rewind.needs(since):
            break
    return rewind.windows(), oldest
