"""The report of each day checked against the one computed again from the raw log."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from etl.analysis.past import RULES
from etl.audit.differences import differences
from etl.audit.findings import Finding, Findings
from etl.audit.logs import unreadable
from etl.audit.snapshot import Snapshot
from etl.nightly.due import REPORT_ERRORS
from etl.nightly.history import History
from etl.nightly.report import contract, encode, make
from etl.readings.lines import UNREADABLE
from etl.storage.settings_log import SettingsLog


class ReportCheck:
    """Checks the report of one day after the other, oldest first; `checked` counts them."""

    def __init__(self, settings_log: SettingsLog, snapshot: Snapshot, unreported: list[str]) -> None:
        self.checked = 0
        self._settings_log = settings_log
        self._snapshot = snapshot
        self._unreported = unreported
        self._history: History | None = None

    def check(self, day: str) -> Iterator[Finding]:
        """The findings about the report of a day."""
        findings = Findings()
        if day in self._snapshot.reports:
            for finding in self._compare(day):
                findings.add(*finding)
        elif day in self._unreported:
            path = self._settings_log.folder.report_path(day)
            findings.add(f"{path}: the day is closed and has no report yet; `etl report` writes it", 0)
        return iter(findings)

    def _compare(self, day: str) -> Iterator[Finding]:
        path = self._settings_log.folder.report_path(day)
        try:
            stored = self._settings_log.folder.read(path) or b""
            report = msgspec.json.decode(stored)
        except (OSError, *UNREADABLE) as error:
            yield Finding(f"{path}: cannot be read: {error}")
            return
        if day not in self._snapshot.raw:
            return
        self.checked += 1
        # Not kept while `make` runs: two histories at once take memory.
        history, self._history = self._history, None
        try:
            computed = make(self._settings_log, day, previous=history)
        except (OSError, *REPORT_ERRORS) as error:
            yield unreadable(path, "cannot be computed again", error, self._snapshot.is_running)
            return
        self._history = computed.history
        if stored == encode(computed.report):
            return
        wrong = list(differences(report, _decoded(contract(computed.report))))
        yield from (Finding(f"{path}: {text}") for text in wrong)
        if wrong or contract(report) == report:
            return
        if report.get("rules") != RULES:
            # Version 0.1 wrote no rules.
            rules = report.get("rules", 0)
            yield Finding(f"{path}: its incidents follow rules {rules}, not today's {RULES}; they are not compared", 0)
        elif computed.provable:
            # If a value lies on a limit, the last bit of numpy's result decides, which depends on the processor.
            for text in islice(differences(report, _decoded(computed.report)), 1):
                yield Finding(f"{path}: {text}; `etl rebuild` computes the incidents again", 0)


def _decoded(report: dict[str, Any]) -> Any:
    return msgspec.json.decode(encode(report))  # as it reads from its file
