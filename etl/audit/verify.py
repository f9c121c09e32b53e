"""The folder proved: every averages line and every report follows from the raw log and its settings."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice, zip_longest
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from etl.analysis.past import RULES
from etl.nightly.due import REPORT_ERRORS
from etl.nightly.history import History
from etl.nightly.report import contract, encode, make
from etl.readings.lines import parse_settings, raw_decoder
from etl.readings.records import RejectedError, Settings
from etl.readings.times import rfc3339
from etl.storage.derivation import Derivation
from etl.storage.folder import DAMAGED_GZIP, KINDS, Folder
from etl.storage.lock import is_held
from etl.storage.settings_log import SettingsLog

FIRST = 5
"""Findings of one kind that are told one by one for each day; the others are counted."""
GAP = 3
"""Intervals without a reading of any source that are a gap."""
LONGEST = 200
"""Characters of a value or a line that are shown, at most."""


class Finding(NamedTuple):
    """One line of what was found; `wrong` is how many lines or figures are wrong, 0 where the reader is only told."""

    text: str
    wrong: int = 1


class Proof:
    """One walk over the folder, day by day, as far as it stood when the walk began, whoever writes to it meanwhile.

    `counts` are whole when `findings` was read to its end. `default` governs the lines before the first entry of
    settings.jsonl; `unreported` are closed days without a report; `running` says whether a process holds the folder.
    """

    def __init__(
        self, folder: Folder, default: Settings, unreported: list[str], running: Callable[[Path], bool] = is_held
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._folder, self._unreported = folder, unreported
        before = running(folder.root)
        # What is derived is looked at before what it is derived from: nothing can seem to stand without its reason.
        self._reports = folder.reports()
        self._sizes = {kind: _sizes(folder, kind) for kind in ("averages", "raw")}
        self._running = before or running(folder.root)
        self._settings_log = SettingsLog(folder, default)
        self._derivation = Derivation(self._settings_log)
        fields = {
            field
            for by in [default, *(entry.settings for entry in self._settings_log.entries)]
            for field in by.parameters.values()
        }
        self._decode = raw_decoder(sorted(fields))
        self._last = inf
        self._known: History | None = None

    def findings(self) -> Iterator[Finding]:
        """Find everything that is wrong, and what else a reader should know, in the order of the days."""
        for text, wrong in self._findings():
            self.counts["wrong"] += wrong
            yield Finding(_printable(text[: 10 * LONGEST]), wrong)

    def summary(self) -> str:
        """One line for the end."""
        counts = self.counts
        kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("days", "raw lines", "averages lines", "reports"))
        return f"{kinds} checked: " + (f"{counts['wrong']:,} wrong" if counts["wrong"] else "sound")

    def _findings(self) -> Iterator[Finding]:
        root, raw = self._folder.root, self._sizes["raw"]
        if not raw:
            yield Finding(f"{root}: there is no {'raw log' if root.exists() else 'such folder'}; is it output.folder?")
            return
        yield from self._settings()
        yield from self._alone()
        for day in sorted({*raw, *self._reports}):
            if day in raw:
                yield from self._lines_of(day)
            yield from _few(self._report(day))
        for path in sorted(path for kind in (".", *KINDS) for path in (root / kind).glob("*.torn")):
            yield Finding(f"{path}: keeps torn lines that were cut off, {path.stat().st_size} bytes", 0)

    def _settings(self) -> Iterator[Finding]:
        path = self._folder.settings_path
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                parse_settings(line)
            except RejectedError as error:
                if line.endswith(b"\n") or not self._running:
                    yield Finding(f"{path}:{number}: {error}; everything is derived as if it were not there")

    def _alone(self) -> Iterator[Finding]:
        """Tell of averages and reports whose raw log is gone, as output.keep_days leaves reports."""
        raw, reports = self._sizes["raw"], self._folder.reports_path
        for path, there in ((self._folder.root / "averages", self._sizes["averages"]), (reports, self._reports)):
            if days := sorted(set(there) - raw.keys()):
                what = f"{len(days)} days from {days[0]} to {days[-1]} have no raw log, so nothing proves them"
                yield Finding(f"{path}: {what}", 0)
        if self._reports and (newest := self._reports[-1]) > max(raw):
            what = "no reading is as new; `etl run` would write to the day after it. Move it away"
            yield Finding(f"{self._folder.report_path(newest)}: {what}")

    def _lines_of(self, day: str) -> Iterator[Finding]:
        self.counts["days"] += 1
        seen: list[Finding] = []
        ends: list[Finding] = []
        differing = list(_few(self._averages(day, seen, ends)))
        damaged, gaps = _few(f for f in seen if f.wrong), _few(f for f in seen if not f.wrong)
        yield from (*damaged, *differing, *ends, *gaps)

    def _averages(self, day: str, seen: list[Finding], ends: list[Finding]) -> Iterator[Finding]:
        """Hold a day's averages, line by line, against what its raw log gives.

        `seen` takes what is found in the raw log, `ends` what is found at the end of both files.
        """
        path, there = self._folder.path("averages", day), self._sizes["averages"]
        derived = self._derivation.fold(day, self._raw(day, seen, ends))
        missing = surplus = 0
        for number, (line, expected) in enumerate(zip_longest(self._lines("averages", day, ends), derived), start=1):
            self.counts["averages lines"] += line is not None
            if line == expected:
                continue
            if expected is None:
                surplus += 1
            elif line is None or not line.endswith(b"\n"):
                missing += 1
            else:
                yield Finding(f"{path}:{number}: {_apart(line, expected)}")
        if ends:
            return  # one of them cannot be read to its end
        if surplus:
            ends.append(Finding(f"{path}: {surplus} lines at the end are surplus", surplus))
        if there and day < min(there):
            ends.append(Finding(f"{path}: is gone, as output.keep_days deletes it first", 0))
        elif missing and not (self._running and not any(there[later] for later in there if later > day)):
            what = f"{missing} lines at the end are missing or torn; `etl rebuild` derives them anew"
            ends.append(Finding(f"{path}: {what}", missing))

    def _raw(self, day: str, seen: list[Finding], ends: list[Finding]) -> Iterator[bytes]:
        """Give the whole raw lines of a day, and see which are damaged and where gaps are."""
        path = self._folder.path("raw", day)
        for number, line in enumerate(self._lines("raw", day, ends), start=1):
            if not line.endswith(b"\n"):
                if not (self._running and day == max(self._sizes["raw"])):
                    seen.append(Finding(f"{path}:{number}: the line is torn; `etl rebuild` keeps it in *.torn"))
                return
            self.counts["raw lines"] += 1
            try:
                line.decode()
                at = self._decode(line).polled_at
            except ValueError as error:
                seen.append(Finding(f"{path}:{number}: {error}"))
            else:
                silent = at - self._last
                if silent > GAP * self._settings_log.at(day, number).interval:
                    what = f"no reading of any source for {silent:,.1f} s, since {rfc3339(self._last)}"
                    seen.append(Finding(f"{path}:{number}: {what}", 0))
                self._last = at
            yield line

    def _lines(self, kind: str, day: str, ends: list[Finding]) -> Iterator[bytes]:
        """The lines of a day's file as far as it stood; the last one may be torn, and a missing file has none."""
        left = self._sizes[kind].get(day, 0)
        if not left:
            return
        try:
            with self._folder.open(kind, day) as file:
                for line in file:
                    yield line[:left]
                    left -= len(line)
                    if left <= 0:
                        return
        except (OSError, *DAMAGED_GZIP) as error:
            ends.append(self._unread(self._folder.path(kind, day), "cannot be read", error))

    def _report(self, day: str) -> Iterator[Finding]:
        """Hold the report of a day against one that is made anew."""
        path = self._folder.report_path(day)
        if day not in self._reports:
            if day in self._unreported:
                yield Finding(f"{path}: the day is closed and has no report yet; `etl report` makes it", 0)
            return
        try:
            report = path.read_bytes()
            there = orjson.loads(report)
        except (OSError, ValueError) as error:
            yield Finding(f"{path}: cannot be read: {error}")
            return
        if day not in self._sizes["raw"]:
            return
        self.counts["reports"] += 1
        try:
            known, self._known = self._known, None
            made = make(self._settings_log, day, known=known)
        except (OSError, *REPORT_ERRORS) as error:
            yield self._unread(path, "cannot be made anew", error)
            return
        self._known = made.history
        if report == encode(made.report):
            return
        wrong = list(differences(there, _plain(contract(made.report))))
        yield from (Finding(f"{path}: {what}") for what in wrong)
        if wrong or contract(there) == there:
            return
        if there.get("rules") != RULES:
            # Version 0.1 wrote no rules.
            rules = there.get("rules", 0)
            yield Finding(f"{path}: its incidents follow rules {rules}, not today's {RULES}; they are not compared", 0)
        elif made.sure:
            # Where a value lies on a limit, the last bit of numpy's result, which depends on the processor, decides.
            for what in islice(differences(there, _plain(made.report)), 1):
                yield Finding(f"{path}: {what}; `etl rebuild` makes the incidents anew", 0)

    def _unread(self, path: Path, what: str, error: Exception) -> Finding:
        if isinstance(error, FileNotFoundError) and self._running:
            return Finding(f"{path}: its day was deleted meanwhile, as output.keep_days does", 0)
        return Finding(f"{path}: {what}: {error}")


def differences(found: Any, expected: Any, path: str = "", *, strict: bool = False) -> Iterator[str]:
    """Say where a JSON value is not the expected one; further keys are fine, but not if `strict` or in an anomaly."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key, value in expected.items():
            below = f"{path}.{key}".lstrip(".")
            if key in found:
                items = key == "anomalies" and isinstance(value, list)
                yield from differences(found[key], value, below, strict=strict or items)
            else:
                yield f"{below} is missing"
        if strict:
            yield from (f"{path}.{key} is surplus".lstrip(".") for key in found if key not in expected)
    elif isinstance(found, list) and isinstance(expected, list):
        for i, (item, value) in enumerate(zip(found, expected, strict=False)):
            yield from differences(item, value, f"{path}[{i}]", strict=strict)
        if len(found) != len(expected):
            yield f"{path} has {len(found)} items, expected {len(expected)}"
    elif found != expected or isinstance(found, bool) != isinstance(expected, bool):
        yield f"{path or 'it'} is {_shown(found)}, expected {_shown(expected)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return json.dumps(value)[:LONGEST]


def _plain(report: dict[str, Any]) -> Any:
    """A report as it is read from its file."""
    return orjson.loads(encode(report))


def _apart(found: bytes, expected: bytes) -> str:
    with suppress(orjson.JSONDecodeError):
        if keys := list(differences(orjson.loads(found), orjson.loads(expected), strict=True)):
            return ", ".join(keys)
    return f"it is {found[:LONGEST]!r}, expected {expected[:LONGEST]!r}"


def _few(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The first few of these findings, and how many more there are."""
    findings = iter(findings)
    yield from islice(findings, FIRST)
    if more := [finding.wrong for finding in findings]:
        yield Finding(f"... and {len(more)} more", sum(more))


def _printable(text: str) -> str:
    """Make text safe for a terminal, whatever stood in the files."""
    return "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)


def _sizes(folder: Folder, kind: str) -> dict[str, int]:
    """The size of each day's file, looked at from the newest day on: an older one is then as new or newer."""
    sizes: dict[str, int] = {}
    for day in reversed(folder.days(kind)):
        sizes[day] = sys.maxsize  # a compressed file is whole
        with suppress(FileNotFoundError):
            sizes[day] = folder.path(kind, day).stat().st_size
    return sizes
