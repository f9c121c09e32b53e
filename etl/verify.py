"""The folder proved: every averages line and every report follows from the raw log and its settings."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from etl.claims import Claims, Report, read_report
from etl.compare import Difference, described, differences
from etl.derive import Rules, rules
from etl.folder import KINDS, Folder
from etl.records import Reading, Settings
from etl.recover import Derivation
from etl.report import day_settings
from etl.wire import RejectedError, parse_settings, rfc3339

FIRST = 5
"""Findings of one kind that are told one by one for each day; the others are counted."""
GAP = 3
"""Intervals without a reading of any source that are a gap."""
WHOLE = float("inf")


class Finding(NamedTuple):
    """One line of what was found; `wrong` is how many lines or figures are wrong, 0 where the reader is only told."""

    text: str
    wrong: int = 1


class UnreadableError(Exception):
    """A file of the folder cannot be read to its end."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
        self.path = path
        self.gone = isinstance(error, FileNotFoundError)


class Standing(NamedTuple):
    """What stood in the folder at one moment. A process that writes goes on; what it adds later is not looked at.

    `averages` and `raw` hold the size of each day's file. What is derived was looked at before what it is derived
    from, and newer days before older ones: nothing can seem to stand there without its reason.
    """

    running: bool
    reports: list[str]
    averages: dict[str, float]
    raw: dict[str, float]


def look(folder: Folder, running: Callable[[Path], bool]) -> Standing:
    """See what stands in the folder now, and whether a process is writing to it."""
    before = running(folder.root)
    reports = folder.reports()
    averages, raw = _sizes(folder, "averages"), _sizes(folder, "raw")
    return Standing(before or running(folder.root), reports, averages, raw)


def _sizes(folder: Folder, kind: str) -> dict[str, float]:
    sizes: dict[str, float] = {}
    for day in reversed(folder.days(kind)):
        sizes[day] = WHOLE  # a compressed file is whole
        with suppress(FileNotFoundError):
            sizes[day] = folder.path(kind, day).stat().st_size
    return dict(sorted(sizes.items()))


def is_held(root: Path) -> bool:
    """Whether a process holds the folder. To see it the lock is shared for an instant, which a start waits out."""
    try:
        fd = os.open(root / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


class Few:
    """Findings of one kind: the first few are kept, the others counted."""

    def __init__(self, kind: str, most: int = FIRST) -> None:
        self._kind = kind
        self._most = most
        self._kept: list[Finding] = []
        self._more = 0
        self._wrong = 0

    def add(self, text: str, wrong: int = 1) -> None:
        """Take another finding."""
        if len(self._kept) < self._most:
            self._kept.append(Finding(text, wrong))
        else:
            self._more += 1
            self._wrong += wrong

    def __iter__(self) -> Iterator[Finding]:
        """Give the first ones, and how many more there are."""
        yield from self._kept
        if self._more:
            yield Finding(f"... and {self._more} more {self._kind}", self._wrong)


class Lines:
    """The complete lines of a day's file as far as it stood; `count` of them were given so far."""

    def __init__(self, folder: Folder, kind: str, day: str, size: float) -> None:
        plain, packed = folder.path(kind, day), folder.packed_path(kind, day)
        self.path = packed if packed.exists() and not plain.exists() else plain
        self.count = 0
        self.torn = False
        self._folder, self._kind, self._day, self._left = folder, kind, day, size

    def __iter__(self) -> Iterator[bytes]:
        """Give the lines.

        Raises:
            UnreadableError: the file cannot be read to its end.

        """
        left = self._left
        try:
            with self._folder.open(self._kind, self._day) as file:
                for line in file:
                    if len(line) > left or line[-1] != 10:
                        self.torn = left > 0
                        return
                    left -= len(line)
                    self.count += 1
                    yield line
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableError(self.path, error) from error

    @property
    def here(self) -> str:
        """The place of the line that was given last."""
        return f"{self.path}:{self.count}"


class Proof:
    """One walk over the folder, day by day; `counts` are whole when `findings` was read to its end.

    `otherwise` governs the lines before the first entry of settings.jsonl; `unreported` are the closed days that have
    no report yet; `running` says whether a process writes to the folder.
    """

    def __init__(
        self, folder: Folder, otherwise: Settings, unreported: list[str], running: Callable[[Path], bool] = is_held
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._folder = folder
        self._otherwise = otherwise
        self._unreported = unreported
        self._standing = look(folder, running)
        self._derivation = Derivation(folder, otherwise, prepare=self._watched)
        self._gaps = Few("gaps", 10)
        self._last: float | None = None

    def findings(self) -> Iterator[Finding]:
        """Find everything that is wrong, and what else a reader should know, in the order of the days."""
        for finding in self._findings():
            self.counts["wrong"] += finding.wrong
            yield finding

    def summary(self) -> str:
        """One line for the end."""
        counts = self.counts
        kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("days", "raw lines", "averages lines", "reports"))
        return f"{kinds} checked: " + (f"{counts['wrong']:,} wrong" if counts["wrong"] else "sound")

    def _findings(self) -> Iterator[Finding]:
        standing, root = self._standing, self._folder.root
        if not standing.raw:
            yield Finding(f"{root}: there is no {'raw log' if root.exists() else 'such folder'}; is it output.folder?")
            return
        yield from self._settings()
        yield from self._averages_alone()
        yield from self._reports_alone()
        for day in standing.raw:
            self.counts["days"] += 1
            yield from self._day(day)
        yield from self._gaps
        yield from self._torn_files()

    def _settings(self) -> Iterator[Finding]:
        path = self._folder.settings_path
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                parse_settings(line)
            except RejectedError as error:
                if line.endswith(b"\n") or not self._standing.running:
                    yield Finding(f"{path}:{number}: {error}; everything is derived as if it were not there")

    def _day(self, day: str) -> Iterator[Finding]:
        self._raw = Lines(self._folder, "raw", day, self._standing.raw[day])
        self._damaged = Few("damaged lines")
        self._claims: Claims | None = None
        try:
            yield from self._report(day)
            derived = self._derivation.fold(day, iter(self._raw))
            yield from self._averages(day, derived)
            deque(derived, maxlen=0)  # later days and the report need the rest of this one, whatever its averages are
        except UnreadableError as error:
            yield self._unreadable(error)
        else:
            yield from self._read(day)
        self.counts["raw lines"] += self._raw.count

    def _read(self, day: str) -> Iterator[Finding]:
        """What reading a day's raw log to its end has shown."""
        yield from self._damaged
        if self._raw.torn and not (self._standing.running and day == max(self._standing.raw)):
            yield Finding(
                f"{self._raw.here} is the last whole line, the rest is torn; "
                "`etl run`, at its start, or `etl rebuild` cuts it off and keeps it in *.torn"
            )
        if self._claims:
            few = Few("differences")
            for what in self._claims.finish():
                few.add(f"{self._folder.report_path(day)}: {what}")
            yield from few

    def _unreadable(self, error: UnreadableError) -> Finding:
        if error.gone and self._standing.running:
            return Finding(f"{error.path}: was deleted meanwhile, as output.keep_days does", 0)
        return Finding(str(error))

    def _averages(self, day: str, derived: Iterator[bytes]) -> Iterator[Finding]:
        """Hold the averages of a day against what its raw log gives."""
        there = self._standing.averages
        if day not in there and there and day < min(there):
            yield Finding(f"{self._folder.path('averages', day)}: is gone, as output.keep_days deletes it first", 0)
            return
        found = Lines(self._folder, "averages", day, there.get(day, 0))
        few = Few("differences")
        ended = False
        broken: UnreadableError | None = None
        try:
            for difference in differences(derived, found if day in there else ()):
                if difference.end and difference.expected:
                    ended = True
                    yield from self._missing_end(day, found, difference)
                else:
                    few.add(f"{found.path}:{difference.line}: {described(difference)}", difference.lines)
        except UnreadableError as error:
            broken = error
        else:
            if found.torn and not ended:
                few.add(f"{found.here} is the last whole line, the rest is torn and belongs to no raw line")
        self.counts["averages lines"] += found.count
        yield from few
        if broken and broken.path == self._raw.path:
            raise broken
        if broken:
            yield self._unreadable(broken)

    def _missing_end(self, day: str, found: Lines, missing: Difference) -> Iterator[Finding]:
        """Say that averages end too early, unless they are being written now."""
        there = self._standing.averages
        if self._standing.running and not any(size for later, size in there.items() if later > day):
            return
        if day not in there:
            what = f"is missing, {missing.lines} lines"
        else:
            torn = f", line {missing.line} is torn" if found.torn else ""
            lines = "line is" if missing.lines == 1 else f"{missing.lines} lines are"
            what = f"the last {lines} missing{torn}"
        yield Finding(
            f"{found.path}: {what}; `etl run`, at its start, or `etl rebuild` derives them from the raw log",
            missing.lines,
        )

    def _report(self, day: str) -> Iterator[Finding]:
        """Read what the report of a day claims, to hold it against the readings."""
        path = self._folder.report_path(day)
        if day in self._unreported:
            yield Finding(f"{path}: the day is closed and has no report yet; `etl report` makes it", 0)
        if day in self._standing.reports:
            self.counts["reports"] += 1
            try:
                report = _claimed(path)
                # A raw log that cannot be read is found when it is folded.
                with suppress(OSError, EOFError, zlib.error):
                    self._claims = Claims(report, day, day_settings(self._folder, day, self._otherwise))
            except ValueError as error:
                yield Finding(f"{path}: {error}")

    def _averages_alone(self) -> Iterator[Finding]:
        few = Few("averages whose raw log is gone")
        for day in sorted(self._standing.averages.keys() - self._standing.raw.keys()):
            few.add(f"{Lines(self._folder, 'averages', day, 0).path}: its raw log is gone, so nothing proves it", 0)
        yield from few

    def _reports_alone(self) -> Iterator[Finding]:
        """Read the reports whose raw log is gone, as output.keep_days leaves them."""
        few = Few("reports whose raw log is gone")
        for day in sorted(set(self._standing.reports) - self._standing.raw.keys()):
            path = self._folder.report_path(day)
            try:
                _claimed(path)
            except ValueError as error:
                yield Finding(f"{path}: {error}")
            if day < max(self._standing.raw):
                few.add(f"{path}: its raw log is gone, so nothing proves it", 0)
            else:
                yield Finding(
                    f"{path}: there is no reading as new; `etl run` would write to the day after it. Move it away"
                )
        yield from few

    def _torn_files(self) -> Iterator[Finding]:
        few = Few("files of torn lines")
        for path in sorted(path for kind in (".", *KINDS) for path in (self._folder.root / kind).glob("*.torn")):
            few.add(f"{path}: keeps torn lines that were cut off, {path.stat().st_size} bytes", 0)
        yield from few

    def _watched(self, settings: Settings) -> Rules:
        """The rules of the fold, with everything else that is to be seen of each raw line."""
        by, claims, longest = rules(settings), self._claims, GAP * settings.interval
        decode = by.decode
        apart = claims and claims.fields != tuple(settings.parameters.values())

        def watched(line: bytes) -> Reading:
            if claims and apart:
                with suppress(RejectedError):
                    claims.see(claims.decode(line))
            try:
                reading = decode(line)
                if not line.isascii():
                    line.decode()
            except RejectedError as error:
                self._damaged.add(f"{self._raw.here}: {error}; nothing follows from it")
                raise
            except UnicodeDecodeError as error:
                self._damaged.add(f"{self._raw.here}: the line is damaged: {error}")
            if claims and not apart:
                claims.see(reading)
            at = reading.polled_at
            if self._last is not None and at - self._last > longest:
                self._gap(self._last, at)
            self._last = at
            return reading

        return by._replace(decode=watched)

    def _gap(self, since: float, at: float) -> None:
        what = f"no reading of any source for {at - since:,.1f} s, since {rfc3339(since)}"
        self._gaps.add(f"{self._raw.here}: {what}", 0)


def _claimed(path: Path) -> Report:
    """What a report file claims.

    Raises:
        ValueError: it cannot be read, or is no report; the message says why.

    """
    try:
        return read_report(path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
