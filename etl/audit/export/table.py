"""The lines of some days as a table."""

from collections.abc import Callable, Iterator
from typing import Literal

from etl.audit.export.columns import Survey, averages_columns
from etl.audit.export.rows import Cells, Columns, LineDecoder, sound_lines, stored_blocks, stored_path
from etl.storage.folder import Progress
from etl.storage.settings_log import SettingsLog

Kind = Literal["averages", "raw", "alarms"]
Skip = Callable[[str, int, str], None]
"""Called with the file of a damaged line, its number, counted from 1, and what is wrong with it."""


def passes(kind: Kind) -> int:
    """How many times the files are read: the keys of averages lines are known from the settings."""
    return 1 if kind == "averages" else 2


class Table:
    """The lines of a kind on some days. The columns are known before the rows are read; `lines` counts these.

    `progress` is called with the bytes, as stored, that were read since its last call. Lines that a running process
    appends after their keys were read are left out.
    """

    def __init__(self, settings_log: SettingsLog, kind: Kind, days: list[str], progress: Progress) -> None:
        self._folder = settings_log.folder
        self._kind = kind
        self._days = days
        self._progress = progress
        self._ends: dict[str, int] = {}
        self.lines = 0
        self.columns: Columns = averages_columns(settings_log, days) if kind == "averages" else self._surveyed()

    def rows(self, skip: Skip, *, times_as_text: bool = False) -> Iterator[Iterator[Cells]]:
        """The cells of each day, in blocks; `times_as_text` keeps times as they are written."""
        decoder = LineDecoder(self.columns, times_as_text=times_as_text)
        return (self._of_day(day, decoder, skip) for day in self._days)

    def _of_day(self, day: str, decoder: LineDecoder, skip: Skip) -> Iterator[Cells]:
        path = str(stored_path(self._folder, self._kind, day))
        for lines in sound_lines(decoder, self._blocks(day), lambda number, why: skip(path, number, why)):
            self.lines += len(lines)
            yield decoder.cells(lines)

    def _surveyed(self) -> Columns:
        survey = Survey(self._kind)
        for day in self._days:
            end = 0
            for block in self._blocks(day):
                survey.add(block)
                end += len(block)
            self._ends[day] = end
        return survey.columns

    def _blocks(self, day: str) -> Iterator[bytes]:
        path, reported = stored_path(self._folder, self._kind, day), 0
        stored = path.stat().st_size
        for block in stored_blocks(self._folder, self._kind, day, self._ends.get(day)):
            yield block
            if path.suffix != ".gz":
                self._progress(len(block))
                reported += len(block)
        self._progress(max(0, stored - reported))
