"""The averages and alarms of each day checked against its raw log, line by line."""

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain, zip_longest
from math import inf
from pathlib import Path

from etl.audit.differences import line_difference
from etl.audit.findings import Finding, Findings
from etl.audit.snapshot import Snapshot
from etl.readings.alarms.fold import AlarmFold, alarm_line
from etl.readings.lines import raw_decoder
from etl.readings.records import RejectedError
from etl.readings.text import plural
from etl.readings.times import SILENT_AFTER_INTERVALS, rfc3339
from etl.storage.folder import DAMAGED_GZIP
from etl.storage.recovery.alarms import continue_alarms
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog


class _DayFindings:
    def __init__(self) -> None:
        self.damaged, self.differing, self.file_ends, self.gaps, self.alarms = (Findings() for _ in range(5))


class LogCheck:
    """Checks the logs of one day after the other, oldest first; `counts` has the lines checked.

    `deleted` are the days whose averages and alarms output.keep_days deletes.
    """

    def __init__(self, settings_log: SettingsLog, snapshot: Snapshot, deleted: Collection[str]) -> None:
        self.counts = Counter({"raw line": 0, "averages line": 0})
        if snapshot.alarms:
            self.counts["alarms line"] = 0
        self._settings_log = settings_log
        self._snapshot = snapshot
        self._deleted = deleted
        self._derivation = Derivation(settings_log)
        self._derivation.alarms = AlarmFold(settings_log.at(min(snapshot.raw, default=""), 0))
        settings = [settings_log.default, *(entry.settings for entry in settings_log.entries)]
        self._decode = raw_decoder(sorted({field for each in settings for field in each.parameters.values()}))
        self._last_reading_at = inf  # no gap before the first reading

    def check(self, day: str) -> Iterator[Finding]:
        """The findings about a day: damaged raw lines, differing averages and alarms, the ends of the files, gaps."""
        findings = _DayFindings()
        if self._derivation.alarms:
            continue_alarms(self._settings_log, day, self._derivation.alarms, self._deleted)
        path = self._settings_log.folder.path("averages", day)
        stored = self._lines("averages", day, self._snapshot.averages.get(day, 0), findings.file_ends)
        derived = self._derivation.fold(day, self._raw(day, findings))
        missing = surplus = 0
        for number, (line, expected) in enumerate(zip_longest(stored, derived), start=1):
            self.counts["averages line"] += line is not None
            if line == expected:
                continue
            if expected is None:
                surplus += 1
            elif line is None or not line.endswith(b"\n"):
                missing += 1
            else:
                findings.differing.add(f"{path}:{number}: {line_difference(line, expected)}")
        if not any(findings.file_ends):  # a file that cannot be read to its end has no end to compare
            self._check_end(day, path, missing, surplus, findings.file_ends)
        self._check_alarms(day, findings.alarms)
        return chain(findings.damaged, findings.differing, findings.file_ends, findings.alarms, findings.gaps)

    def _check_alarms(self, day: str, findings: Findings) -> None:
        """Compare the alarms lines of a day that was just folded; a day with lines under alarms has a file."""
        path, derivation = self._settings_log.folder.path("alarms", day), self._derivation
        stored = list(self._lines("alarms", day, self._snapshot.alarms.get(day, 0), findings))
        expected = [alarm_line(change) for change in derivation.changes]
        if self._snapshot.alarms:
            self.counts["alarms line"] += len(stored)
        if any(findings):
            return
        if stored and not stored[-1].endswith(b"\n"):
            stored.pop()
        for number, (line, derived) in enumerate(zip(stored, expected, strict=False), start=1):
            if line != derived:
                findings.add(f"{path}:{number}: {line_difference(line, derived)}")
        is_lost = derivation.has_alarms and day not in self._snapshot.alarms
        missing = max(len(expected) - len(stored), int(is_lost))
        self._check_end(day, path, missing, max(0, len(stored) - len(expected)), findings)

    def _check_end(self, day: str, path: Path, missing: int, surplus: int, findings: Findings) -> None:
        kind = path.parent.name
        sizes = self._snapshot.alarms if kind == "alarms" else self._snapshot.averages
        if day in self._deleted and day not in sizes:
            if missing:
                findings.add(f"{path}: does not exist; output.keep_days deletes {kind} before the raw log", 0)
            missing = 0
        elif self._snapshot.is_running and not any(
            size for later, size in self._snapshot.averages.items() if later > day
        ):
            missing = 0  # the process may not have appended them yet
        for count, noun in ((surplus, "surplus line"), (missing, "missing or torn line")):
            if count:
                text = f"{plural(count, noun)} at the end; `etl rebuild` derives the day again"
                findings.add(f"{path}: {text}", count)

    def _raw(self, day: str, findings: _DayFindings) -> Iterator[bytes]:
        """The complete raw lines of a day; adds those that are damaged and the gaps between them to `findings`."""
        path, snapshot = self._settings_log.folder.path("raw", day), self._snapshot
        for number, line in enumerate(self._lines("raw", day, snapshot.raw[day], findings.file_ends), start=1):
            if not line.endswith(b"\n"):
                if not (snapshot.is_running and day == max(snapshot.raw)):
                    text = f"the line is torn; `etl rebuild` moves it to {path.name}.torn"
                    findings.damaged.add(f"{path}:{number}: {text}")
                return
            self.counts["raw line"] += 1
            try:
                line.decode()
                polled_at = self._decode(line).polled_at
            except RejectedError as error:
                findings.damaged.add(f"{path}:{number}: {error}")
            except UnicodeDecodeError as error:
                findings.damaged.add(f"{path}:{number}: the line is damaged: {error}")
            else:
                gap_s = polled_at - self._last_reading_at
                if gap_s > SILENT_AFTER_INTERVALS * self._settings_log.at(day, number).interval:
                    text = f"no reading of any source for {gap_s:,.1f} s, since {rfc3339(self._last_reading_at)}"
                    findings.gaps.add(f"{path}:{number}: {text}", 0)
                self._last_reading_at = polled_at
            yield line

    def _lines(self, kind: str, day: str, size: int, findings: Findings) -> Iterator[bytes]:
        """The lines in the first `size` bytes of a day's file; the last one may be torn."""
        if not size:
            return
        try:
            with self._settings_log.folder.open(kind, day) as file:
                for line in file:
                    yield line[:size]
                    size -= len(line)
                    if size <= 0:
                        return
        except (OSError, *DAMAGED_GZIP) as error:
            path = self._settings_log.folder.path(kind, day)
            findings.add(*unreadable(path, "cannot be read", error, self._snapshot.is_running))


def unreadable(path: Path, problem: str, error: Exception, is_running: bool) -> Finding:
    """The finding for a file that cannot be read: a note if a running process may have deleted it during the check."""
    if isinstance(error, FileNotFoundError) and is_running:
        return Finding(f"{path}: deleted during the check, as output.keep_days does", 0)
    return Finding(f"{path}: {problem}: {error}")
