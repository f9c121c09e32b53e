"""The end of the folder put right: torn lines cut, windows rebuilt, averages made to follow from the raw log again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import orjson

from etl.readings.fold import Windows, derive, rules
from etl.readings.records import Governed, Settings
from etl.readings.rewind import Rewind
from etl.readings.window import silence
from etl.readings.wire import RejectedError, block_decoder, raw_decoder, settings_line
from etl.storage.folder import KINDS, Folder, governing
from etl.storage.log import append_whole, is_object, repair, sync_folder

TAIL = 1 << 20
"""Bytes of the raw log's end whose averages are derived again at every start."""
BLOCK = 64 << 10
"""Bytes read at once: larger ones, at each start and disturbance, leave a heap that grows for weeks."""

Tell = Callable[..., None]
"""Tells an event: tell("repaired", reason="torn", file=...)."""


class Place(NamedTuple):
    """A line of the raw log: its day, its number in the day (counted from 1), its offset in the day's file."""

    day: str
    line: int
    offset: int


class Derivation:
    """The fold over days of the raw log, from `start` on, each line under the settings that govern it.

    `coming` are entries that settings.jsonl does not have yet.
    """

    def __init__(
        self, folder: Folder, otherwise: Settings, start: Place | None = None, coming: Sequence[Governed] = ()
    ) -> None:
        self.windows: Windows = windows_before(folder, start, otherwise) if start else {}
        self._folder = folder
        self._otherwise = otherwise
        self._entries = [*folder.settings(), *coming]
        before = governing(self._entries, start.day, start.line - 1, otherwise) if start else None
        self._shape = shape(before) if before else None

    def day(self, day: str, line: int = 1, offset: int = 0) -> Iterator[bytes]:
        """The averages lines of a day, from its line `line` (which starts at `offset`) on."""
        return self.fold(day, (raw for _, raw in self._folder.lines("raw", day, offset)), line)

    def fold(self, day: str, lines: Iterator[bytes], line: int = 1) -> Iterator[bytes]:
        """The averages lines of a day's raw lines; the first one given is its line `line`."""
        for first, end, settings in segments(self._entries, day, self._otherwise):
            if end <= line:
                continue
            if self._shape not in (None, shape(settings)):
                self.windows.clear()
            self._shape = shape(settings)
            run = lines if end == float("inf") else islice(lines, int(end) - max(first, line))
            for _, averages in derive(self.windows, run, rules(settings)):
                yield averages


def shape(settings: Settings) -> tuple[int, tuple[tuple[str, str], ...]]:
    """What makes every window start anew where it changes; the order of the parameters is that of the averages."""
    return settings.window, tuple(settings.parameters.items())


def segments(entries: list[Governed], day: str, otherwise: Settings) -> list[tuple[int, float, Settings]]:
    """The settings of a day's lines: from which line (counted from 1), before which line, the settings."""
    firsts = sorted({1, *(entry.line for entry in entries if entry.day == day and entry.line > 1)})
    ends: list[float] = [*firsts[1:], float("inf")]
    return [(first, end, governing(entries, day, first, otherwise)) for first, end in zip(firsts, ends, strict=True)]


def is_raw(line: bytes) -> bool:
    """Whether a line is a raw line of ours."""
    try:
        raw_decoder(())(line)
    except RejectedError:
        return False
    return True


def recover(folder: Folder, settings: Settings, today: str, tell: Tell) -> Windows:
    """Put the end of the folder right and write the settings down; the windows to go on with from day `today` on.

    Raises:
        OSError: the folder cannot be written now; it is safe to try again later.

    """
    repair_ends(folder, tell, 2)
    settle(folder, settings, today, tell)
    days = folder.days("raw")
    for day in folder.days("averages"):
        if day >= max([today, *days[-1:]]) and day not in days:
            _mend(folder, day, 1, iter(()), tell)
    if not days:
        return {}
    windows = _put_right(folder, settings, _tail(folder, days), tell)
    last = governing(folder.settings(), days[-1], folder.count("raw", days[-1]), settings)
    return windows if shape(last) == shape(settings) else {}


def repair_ends(folder: Folder, tell: Tell, newest: int | None = None) -> None:
    """Cut what a crash left torn off the files, or off the `newest` ones of each kind, and keep it in `*.torn`."""
    paths = [(folder.path(kind, day), kind) for kind in KINDS for day in folder.days(kind)[-(newest or 0) :]]
    for path, kind in [*paths, (folder.settings_path, "settings")]:
        cut = repair(path, is_raw if kind == "raw" else is_object)
        if cut:
            tell("repaired", reason="torn", file=str(path.relative_to(folder.root)), bytes=cut)


def settle(folder: Folder, settings: Settings, today: str, tell: Tell) -> None:
    """Write the settings down, where they changed, before the first line they govern: the next one of `today`."""
    day = max([today, *folder.days("raw")[-1:]])
    entries = folder.settings()
    entry = entry_needed(entries, settings, day, folder.count("raw", day) + 1)
    if entry:
        append_whole(folder.settings_path, settings_line(entry))
        if entries:
            tell("settings", reason="changed", day=day, line=entry.line)


def entry_needed(entries: list[Governed], settings: Settings, day: str, line: int) -> Governed | None:
    """What settings.jsonl must say before this line of this day is written; None where it says so already."""
    now = governing(entries, day, line, settings)
    # An entry for a later line, which a file cut by others no longer has, would come to govern lines it must not.
    last = entries and (entries[-1].day, entries[-1].line) <= (day, line)
    if last and now == settings and shape(now) == shape(settings):
        return None
    return Governed(day, line, settings)


def _tail(folder: Folder, days: list[str]) -> Place:
    """Where the raw log's last TAIL bytes start, or its first line without an averages line if that is earlier.

    Days before the oldest averages were deleted on purpose, and stay so.
    """
    left = TAIL
    place = Place(days[-1], 1, 0)
    for back, day in enumerate(reversed(days)):
        path = folder.path("raw", day)
        if not path.exists():
            break
        if left > 0:
            place = _line_at(folder, day, max(0, path.stat().st_size - left))
        have, wanted = folder.count("averages", day), folder.count("raw", day)
        if have < wanted and (day < place.day or have + 1 < place.line):
            place = _nth_line(folder, day, have + 1)
        left -= path.stat().st_size
        if left <= 0 and back:
            break
    averaged = [day for day in folder.days("averages") if day in days]
    lacking = [i for i, day in enumerate(days) if day > min(averaged, default="") and day not in averaged]
    # A start that was killed while it derived them may have left the day before unfinished.
    return min(place, Place(days[max(0, lacking[0] - 1)], 1, 0)) if lacking else place


def _line_at(folder: Folder, day: str, offset: int) -> Place:
    """The first line that starts at or after an offset, which is best not far from the file's end."""
    with folder.open_anywhere("raw", day) as file:
        file.seek(max(0, offset - 1))
        rest = file.readline() if offset else b""
        start = offset if not rest or rest == b"\n" else offset - 1 + len(rest)
        file.seek(start)
        after = sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
    return Place(day, folder.count("raw", day) - after + 1, start)


def _nth_line(folder: Folder, day: str, number: int, kind: str = "raw") -> Place:
    """A day's line by its number; the end of its last complete line where it has fewer. Quick towards both ends."""
    lines = folder.count(kind, day)
    if number <= 1:
        return Place(day, 1, 0)
    with folder.open_anywhere(kind, day) as file:
        end = file.seek(0, os.SEEK_END)
        left = lines - min(number, lines + 1) + 2
        while True:
            start = max(0, end - BLOCK)
            file.seek(start)
            block = file.read(end - start)
            feeds = block.count(b"\n")
            if feeds >= left or not start:
                break
            left -= feeds
            end = start
    at = len(block)
    for _ in range(left):
        at = block.rindex(b"\n", 0, at)
    return Place(day, min(number, lines + 1), start + at + 1)


def _put_right(folder: Folder, settings: Settings, start: Place, tell: Tell) -> Windows:
    """Derive the averages from `start` on and make the files equal to that."""
    derivation = Derivation(folder, settings, start)
    for day in [day for day in folder.days("raw") if day >= start.day]:
        line, offset = (start.line, start.offset) if day == start.day else (1, 0)
        kept = _mend(folder, day, line, derivation.day(day, line, offset), tell)
        if not kept and line > 1:
            # Not even the first line agrees: lines may be damaged further up, so the numbers do not match.
            return _put_right(folder, settings, Place(day, 1, 0), tell)
    return derivation.windows


def _mend(folder: Folder, day: str, line: int, derived: Iterator[bytes], tell: Tell) -> bool:
    """Make a day's averages from line `line` on equal to `derived`.

    False, with nothing changed, where the file's very first line to compare differs. A compressed file stays as it is.
    """
    path = folder.path("averages", day)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    if fresh and folder.packed_path("averages", day).exists():
        deque(derived, 0)  # for the windows alone: what was compressed was whole
        return True
    with path.open("ab+") as file:
        start = end = _nth_line(folder, day, line, "averages").offset
        file.seek(start)
        rest: list[bytes] = []
        for averages in derived:
            there = file.readline()
            if there != averages:
                if there and end == start and line > 1:
                    return False
                rest = [averages]
                break
            end += len(averages)
        size = path.stat().st_size
        if not rest and end == size:
            return True
        file.truncate(end)
        written = sum(file.write(averages) for averages in chain(rest, derived))
        file.flush()
        os.fsync(file.fileno())
    if fresh:
        sync_folder(path.parent)
    tell("repaired", reason="averages", file=str(path.relative_to(folder.root)), cut=size - end, written=written)
    return True


def windows_before(folder: Folder, place: Place, settings: Settings) -> Windows:
    """The windows just before a line of the raw log, from as few lines before it as can matter."""
    return _rewind(folder, place, settings)[0]


def oldest_needed(folder: Folder, day: str, settings: Settings) -> str:
    """The oldest day of the raw log that the averages of `day` and later ones still depend on."""
    return _rewind(folder, Place(day, 1, 0), settings)[1]


def _rewind(folder: Folder, place: Place, settings: Settings) -> tuple[Windows, str]:
    """The windows just before a line, and the oldest day that was read for them."""
    entries = folder.settings()
    now = governing(entries, place.day, place.line - 1, settings)
    decode, still = block_decoder(tuple(now.parameters.values()), times=True), silence(now.interval)
    rewind = Rewind(len(now.parameters), now.window, still)
    start = _shape_start(entries, place)
    since: float | None = None
    oldest = place.day
    for day, block in _backwards(folder, place, start):
        oldest, at = day, None
        rows = decode(b"".join([line + b"\n" for line in block]))
        times = rows.times or []
        for i in reversed(range(len(times))):
            source = rows.sources[i]
            if source is None:
                continue
            machine = source, rows.ids[i]
            at = times[i]
            since = at if since is None else since
            if not rewind.is_done(machine):
                rewind.add(machine, at, [column[i] for column in rows.values])
        if at is not None and since is not None and at < since - still and at < rewind.needs(since):
            break
    return rewind.windows(), oldest


def _shape_start(entries: list[Governed], place: Place) -> tuple[str, int]:
    """The first line (day, number) before which no line can matter: there the windows started anew."""
    start = ("", 1)
    before: Settings | None = None
    for entry in sorted({(e.day, e.line) for e in entries if (e.day, e.line) < (place.day, place.line)}):
        here = governing(entries, *entry, entries[0].settings)
        if before is not None and shape(here) != shape(before):
            start = entry
        before = here
    return start


def _backwards(folder: Folder, place: Place, start: tuple[str, int]) -> Iterator[tuple[str, list[bytes]]]:
    """Blocks of lines of a day before a place, the newest block first, not beyond the line `start`."""
    for day in reversed([day for day in folder.days("raw") if start[0] <= day <= place.day]):
        first = _nth_line(folder, day, start[1]).offset if day == start[0] else 0
        with folder.open_anywhere("raw", day) as file:
            end = place.offset if day == place.day else file.seek(0, os.SEEK_END)
            torn = b""
            while end > first:
                begin = max(first, end - BLOCK)
                file.seek(begin)
                lines = (file.read(end - begin) + torn).split(b"\n")[:-1]
                torn = lines.pop(0) + b"\n" if begin > first and lines else b""
                yield day, lines
                end = begin


def last_reading(folder: Folder) -> float | None:
    """When the last reading in the raw log was polled (seconds since the epoch), if there is one."""
    decode = raw_decoder(())
    for line in reversed(folder.last_lines("raw")):
        try:
            return decode(line).polled_at
        except RejectedError:
            continue
    return None


def ended_cleanly(folder: Folder) -> bool:
    """Whether the process before said that it stopped; true where nothing says otherwise."""
    for line in reversed(folder.last_lines("events")):
        if b'"event":"start"' in line:
            return False
        if b'"event":"stop"' in line:
            return True
    return True


def positions(folder: Folder, names: set[str]) -> dict[str, int]:
    """Where following each named file resumes: `_position` of the last raw line of that source."""
    found: dict[str, int] = {}
    for day in reversed(folder.days("raw")):
        end = folder.count("raw", day) + 1
        for _, block in _backwards(folder, _nth_line(folder, day, end), (day, 1)):
            if len(found) == len(names):
                return found
            for line in reversed(block):
                if b',"_position":' in line and (told := _position(line)) and told[0] in names:
                    found.setdefault(*told)
    return found


def _position(line: bytes) -> tuple[str, int] | None:
    """The source of a followed file's line, and the offset behind it."""
    try:
        raw = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    source, position = raw.get("_source"), raw.get("_position")
    return (source, position) if type(source) is str and type(position) is int else None
