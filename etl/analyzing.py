"""A day's raw log analyzed: read in parts, then machine by machine, on as many processes as there are."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from etl import history
from etl.analysis import Columns, Figures, collect, figures, join
from etl.days import begins, day_after
from etl.executors import Executing
from etl.folder import BROKEN, Folder
from etl.records import History, Judging, Machine, Past, Rows, Settings
from etl.wire import block_decoder

if TYPE_CHECKING:
    from etl.judging import Judgement


PART = 64 << 20
"""Bytes of a day's file that are read as one part, at most: what was read of it stands twice while parts are joined."""


class Block(NamedTuple):
    """Where lines stand that were read at once."""

    line: int
    """The number of its first line in the day, or the part of it, counted from 0."""
    offset: int
    size: int


class Part(NamedTuple):
    """A part of a day, read: its columns, how many lines it has, and where its blocks stand."""

    machines: dict[Machine, Columns]
    lines: int
    blocks: list[Block]


class Analyzed(NamedTuple):
    """A machine's day without the numbers of its lines, its figures, and where detectors were asked what they say."""

    columns: Columns
    figures: list[Figures]
    judgement: Judgement | None = None


class Day(NamedTuple):
    """A day analyzed: its machines in the order of their first appearance, and what passes to the next day."""

    machines: dict[Machine, Analyzed]
    blocks: list[Block]
    history: History | None


def analyze(
    folder: Folder,
    day: str,
    settings: Settings,
    executing: Executing,
    before: History | None = None,
    until: float = inf,
) -> Day:
    """Analyze a day, and judge it where there is what was known `before`, which is used up.

    Nothing is silent after the moment `until` (seconds).
    """
    blocks: list[Block] = []
    machines = join(_parts(folder, day, settings, executing, blocks))
    found = {}
    for machine in list(machines):
        columns = machines.pop(machine)
        said = [figures(values, columns.lines, settings.threshold) for values in columns.values]
        # Four bytes a line, which nothing needs any more.
        found[machine] = Analyzed(columns._replace(lines=array("I")), said)
    if before is None:
        return Day(found, blocks, None)
    by = _judging(day, settings, until)
    keys = [history.key(machine) for machine in found]
    pasts = (before.machines.pop(key, None) for key in keys)
    judged = list(executing.map(partial(_judge, by), [one.columns for one in found.values()], pasts))
    silent = {key: past for key, past in before.machines.items() if past.last >= by.since}
    known = silent | {key: judgement.past for key, judgement in zip(keys, judged, strict=True)}
    for machine, judgement in zip(found, judged, strict=True):
        found[machine] = found[machine]._replace(judgement=judgement)
    return Day(found, blocks, msgspec.structs.replace(before, day=day, machines=known))


def _judging(day: str, settings: Settings, until: float) -> Judging:
    zone = ZoneInfo(settings.timezone)
    since, end = begins(history.reach(day, settings), zone), begins(day_after(day), zone)
    return Judging(settings.detectors, settings.threshold, settings.interval, since, min(end, until))


def _judge(by: Judging, columns: Columns, past: Past | None) -> Judgement:
    """Judge one machine's day, in whatever process this runs."""
    from etl.judging import judge  # noqa: PLC0415  numpy costs a tenth of a second and 20 MB

    return judge(columns, past, by)


def known_before(
    folder: Folder, day: str, settings: Settings, executing: Executing, known: History | None = None
) -> History:
    """What is known of each machine before a day, from the newest history there is and the raw log since then.

    `known` is one that is at hand, and is used up.
    """
    first = history.reach(day, settings)
    if known is None or not (history.fits(known, settings) and first <= known.day < day):
        known = history.stored(folder, first, day, settings)
    before = known or History("", tuple(settings.parameters.values()), settings.detectors, {})
    for between in folder.days("raw"):
        if before.day < between < day and between >= first:
            # A day that is damaged, or deleted meanwhile, costs what it told, never the report of a later one.
            with suppress(FileNotFoundError, *BROKEN):
                before = analyze(Folder(folder.root), between, settings, executing, before).history or before
    return before


def _parts(
    folder: Folder, day: str, settings: Settings, executing: Executing, blocks: list[Block]
) -> Iterator[tuple[int, dict[Machine, Columns]]]:
    """The columns of each part of a day with the number of its lines; where the blocks stand is noted in `blocks`."""
    size = folder.stored("raw", [day])
    cuts = folder.cuts("raw", day, max(executing.parts, size // PART + 1))
    starts, ends = zip(*cuts, strict=True)
    judged = bool(settings.detectors)
    read = partial(read_part, folder.root, day, tuple(settings.parameters.values()), judged)
    before = 0
    for (start, end), part in zip(cuts, executing.map(read, starts, ends), strict=True):
        folder.watch((size if end is None else end) - start)
        blocks += [block._replace(line=block.line + before) for block in part.blocks]
        before += part.lines
        yield part.lines, part.machines


def read_part(root: Path, day: str, fields: tuple[str, ...], judged: bool, start: int, end: int | None) -> Part:
    """Read the lines between two offsets of a day's raw log, in whatever process this runs.

    With `judged`, what the detectors need is read too.

    Raises:
        OSError, EOFError: the file is not there, or shorter than the part.

    """
    decode = block_decoder(fields, judged)
    blocks: list[Block] = []
    lines = 0

    def rows() -> Iterator[Rows]:
        nonlocal lines
        for offset, block in Folder(root).blocks("raw", day, start, end):
            found = decode(block)
            blocks.append(Block(lines, offset, len(block)))
            lines += len(found.machines)
            yield found

    return Part(collect(rows(), len(fields)), lines, blocks)
