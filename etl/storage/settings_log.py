"""settings.jsonl: which settings govern which lines of the raw log."""

from collections.abc import Iterable
from contextlib import suppress
from math import inf
from typing import NamedTuple

from etl.readings.lines import parse_settings, settings_line
from etl.readings.records import RejectedError, Settings, SettingsEntry
from etl.storage.atomic import append_whole, read_regular
from etl.storage.folder import Folder


class DamagedEntry(NamedTuple):
    """A line of settings.jsonl (counted from 1) that is not an entry, why, and whether it lacks its line feed."""

    line: int
    why: str
    is_torn: bool


class SettingsLog:
    """The entries of settings.jsonl as they are now; `default` governs the lines before the first one.

    Damaged lines are skipped; `damaged` lists them. `appended` are entries that the file does not have yet.
    """

    def __init__(self, folder: Folder, default: Settings, appended: Iterable[SettingsEntry] = ()) -> None:
        self.folder = folder
        self.default = default
        self.entries: list[SettingsEntry] = []
        self.damaged: list[DamagedEntry] = []
        data = b""
        with suppress(FileNotFoundError):
            data = read_regular(folder.settings_path)
        for number, line in enumerate(data.splitlines(keepends=True), start=1):
            try:
                self.entries.append(parse_settings(line))
            except RejectedError as error:
                self.damaged.append(DamagedEntry(number, str(error), not line.endswith(b"\n")))
        self.entries += appended

    def at(self, day: str, line: int) -> Settings:
        """The settings that govern a line (counted from 1) of a day: the newest entry that is not after it."""
        for entry in reversed(self.entries):
            if (entry.day, entry.line) <= (day, line):
                return entry.settings
        return self.default

    def before(self, day: str, line: int) -> Settings:
        """The settings that govern the line before this one, which for the first one is the last of the day before.

        An entry behind the last line of a day governs only the next day.
        """
        previous = max((each for each in self.folder.days("raw") if each < day), default="")
        if line > 1 or not previous:
            return self.at(day, line - 1)
        return self.at(previous, max(1, self.folder.count("raw", previous)))

    def of_day(self, day: str) -> Settings:
        """The settings of a day's last line, which its report uses."""
        has_entry = any(entry.day == day for entry in self.entries)
        return self.at(day, max(1, self.folder.count("raw", day)) if has_entry else 1)

    def segments(self, day: str) -> list[tuple[int, float, Settings]]:
        """A day's lines by settings: first line (counted from 1), line after the last (infinity: open), settings."""
        firsts = sorted({1, *(entry.line for entry in self.entries if entry.day == day and entry.line > 1)})
        ends: list[float] = [*firsts[1:], inf]
        return [(first, end, self.at(day, first)) for first, end in zip(firsts, ends, strict=True)]

    def last_fresh_start(self, day: str, line: int) -> tuple[str, int]:
        """The last change of shape before a line, as (day, line): no earlier line can matter to its windows."""
        start = ("", 1)
        previous = self.default
        for place in sorted({(e.day, e.line) for e in self.entries if (e.day, e.line) < (day, line)}):
            settings = self.at(*place)
            if settings.shape != previous.shape:
                start = place
            previous = settings
        return start

    def entry_for(self, settings: Settings, day: str, line: int) -> SettingsEntry | None:
        """The entry to write before this line of this day, so that `settings` govern it; None if they do already."""
        current = self.at(day, line)
        # An entry for a later line, left by a file that others cut, would come to govern lines it must not.
        is_newest = bool(self.entries) and (self.entries[-1].day, self.entries[-1].line) <= (day, line)
        if is_newest and current == settings and current.shape == settings.shape:
            return None
        return SettingsEntry(day, line, settings)

    def append(self, entry: SettingsEntry) -> None:
        """Write an entry, fsynced."""
        append_whole(self.folder.settings_path, settings_line(entry))
        self.entries.append(entry)
