"""The folder checked: every averages line, alarms line and report must follow from the raw log and its settings."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from etl.audit.findings import MAX_SHOWN_CHARS, Finding
from etl.audit.logs import LogCheck
from etl.audit.reports import ReportCheck
from etl.audit.snapshot import take_snapshot
from etl.readings.text import day_range, plural, printable
from etl.storage.lock import is_held
from etl.storage.recovery.repair import torn_files
from etl.storage.settings_log import SettingsLog

MAX_TEXT_CHARS = 10 * MAX_SHOWN_CHARS
"""Characters shown of a finding, which may name several values."""


class Proof:
    """One check of the folder, day by day, as far as it reached when the check began; a process may write meanwhile.

    `unreported` are closed days without a report, `deleted` those whose averages output.keep_days deletes; `is_running`
    tells whether a process holds the folder. `wrong` is the number of wrong lines and figures, final when `findings` is
    exhausted.
    """

    def __init__(
        self,
        settings_log: SettingsLog,
        unreported: list[str],
        is_running: Callable[[Path], bool] = is_held,
        deleted: Collection[str] = (),
    ) -> None:
        self.wrong = 0
        self._snapshot = take_snapshot(settings_log.folder, is_running)
        # Read after the snapshot, so that it has the entries that govern every line in it.
        self._settings_log = SettingsLog(settings_log.folder, settings_log.default)
        self._logs = LogCheck(self._settings_log, self._snapshot, deleted)
        self._reports = ReportCheck(self._settings_log, self._snapshot, unreported)

    def findings(self) -> Iterator[Finding]:
        """Everything that is wrong, and notes, in the order of the days; safe to print."""
        for text, wrong in self._findings():
            self.wrong += wrong
            yield Finding(printable(text[:MAX_TEXT_CHARS]), wrong)

    def summary(self) -> str:
        """The last line: what was checked, and how much of it is wrong."""
        counts = {"day": len(self._snapshot.raw), **self._logs.counts, "report": self._reports.checked}
        checked = ", ".join(plural(number, noun) for noun, number in counts.items())
        return f"{checked} checked: " + (f"{self.wrong:,} wrong" if self.wrong else "sound")

    def _findings(self) -> Iterator[Finding]:
        folder, snapshot = self._settings_log.folder, self._snapshot
        if not snapshot.raw:
            problem = "has no raw log" if folder.root.exists() else "does not exist"
            yield Finding(f"{folder.root}: the folder {problem}; check output.folder")
            return
        for entry in self._settings_log.damaged:
            if not (entry.is_torn and snapshot.is_running):
                yield Finding(f"{folder.settings_path}:{entry.line}: {entry.why}; the entry is ignored")
        yield from self._without_raw_log()
        for day in sorted({*snapshot.raw, *snapshot.reports}):
            if day in snapshot.raw:
                yield from self._logs.check(day)
            yield from self._reports.check(day)
        for path, size in torn_files(folder.root):
            yield Finding(f"{path}: holds {plural(size, 'byte')} of torn lines that were cut off", 0)

    def _without_raw_log(self) -> Iterator[Finding]:
        """Averages, alarms and reports whose raw log is gone, as output.keep_days leaves reports."""
        folder, raw, reports = self._settings_log.folder, self._snapshot.raw, self._snapshot.reports
        for kind, days in (
            ("averages", self._snapshot.averages),
            ("alarms", self._snapshot.alarms),
            ("reports", reports),
        ):
            if orphans := sorted({*days} - {*raw}):
                text = f"{plural(len(orphans), 'day')} without a raw log cannot be checked: {day_range(orphans)}"
                yield Finding(f"{folder.root / kind}: {text}", 0)
        if reports and reports[-1] > max(raw):
            text = "newer than every reading, so `etl run` would write to the day after it; move it out of the folder"
            yield Finding(f"{folder.report_path(reports[-1])}: {text}")
