"""The averages of each day checked against its raw log, line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, zip_longest
from math import inf
from pathlib import Path
from typing import NamedTuple

from etl.audit.differences import line_difference
from etl.audit.findings import Finding, Findings
from etl.audit.snapshot import Snapshot
from etl.readings.lines import raw_decoder
from etl.readings.records import RejectedError
from etl.readings.text import plural
from etl.readings.times import rfc3339
from etl.storage.derivation import Derivation
from etl.storage.folder import DAMAGED_GZIP
from etl.storage.settings_log import SettingsLog

GAP_AFTER_INTERVALS = 3
"""Intervals without a reading of any source that are reported as a gap."""


class _DayFindings(NamedTuple):
    """The findings about a day's logs, in the order they are reported."""

    damaged: Findings
    differing: Findings
    file_ends: Findings
    gaps: Findings


class LogCheck:
    """Checks the logs of one day after the other, oldest first; `counts` has the lines checked."""

    def __init__(self, settings_log: SettingsLog, snapshot: Snapshot) -> None:
        self.counts: Counter[str] = Counter()
        self._settings_log = settings_log
        self._snapshot = snapshot
        self._derivation = Derivation(settings_log)
        settings = [settings_log.default, *(entry.settings for entry in settings_log.entries)]
        self._decode = raw_decoder(sorted({field for each in settings for field in each.parameters.values()}))
        self._last_reading_at = inf  # no gap before the first reading

    def check(self, day: str) -> Iterator[Finding]:
        """The findings about a day: damaged raw lines, differing averages, the ends of both files, gaps."""
        findings = _DayFindings(Findings(), Findings(), Findings(), Findings())
        self._compare(day, findings)
        return chain(*findings)

    def _compare(self, day: str, findings: _DayFindings) -> None:
        """Compare a day's averages with the ones derived from its raw log."""
        path = self._settings_log.folder.path("averages", day)
        stored = self._lines("averages", day, self._snapshot.averages.get(day, 0), findings)
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
        if any(findings.file_ends):
            return  # a file that cannot be read to its end has no end to compare
        if surplus:
            text = f"{plural(surplus, 'surplus line')} at the end; `etl rebuild` derives the day again"
            findings.file_ends.add(f"{path}: {text}", surplus)
        if self._snapshot.averages and day < min(self._snapshot.averages):
            findings.file_ends.add(f"{path}: does not exist; output.keep_days deletes averages before the raw log", 0)
        elif missing and not self._may_be_unfinished(day):
            text = f"{plural(missing, 'missing or torn line')} at the end; `etl rebuild` derives the day again"
            findings.file_ends.add(f"{path}: {text}", missing)

    def _may_be_unfinished(self, day: str) -> bool:
        """Whether a running process may still append averages to a day: no later day has any."""
        later = [size for later_day, size in self._snapshot.averages.items() if later_day > day]
        return self._snapshot.is_running and not any(later)

    def _raw(self, day: str, findings: _DayFindings) -> Iterator[bytes]:
        """The complete raw lines of a day; adds those that are damaged and the gaps between them to `findings`."""
        path, snapshot = self._settings_log.folder.path("raw", day), self._snapshot
        for number, line in enumerate(self._lines("raw", day, snapshot.raw[day], findings), start=1):
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
                if gap_s > GAP_AFTER_INTERVALS * self._settings_log.at(day, number).interval:
                    text = f"no reading of any source for {gap_s:,.1f} s, since {rfc3339(self._last_reading_at)}"
                    findings.gaps.add(f"{path}:{number}: {text}", 0)
                self._last_reading_at = polled_at
            yield line

    def _lines(self, kind: str, day: str, size: int, findings: _DayFindings) -> Iterator[bytes]:
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
            findings.file_ends.add(*unreadable(path, "cannot be read", error, self._snapshot.is_running))


def unreadable(path: Path, problem: str, error: Exception, is_running: bool) -> Finding:
    """The finding for a file that cannot be read: a note if a running process may have deleted it during the check."""
    if isinstance(error, FileNotFoundError) and is_running:
        return Finding(f"{path}: deleted during the check, as output.keep_days does", 0)
    return Finding(f"{path}: {problem}: {error}")
