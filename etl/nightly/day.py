"""A day's raw log analyzed: read in parts, then machine by machine, on as many processes as there are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from itertools import chain, groupby, islice
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from etl.analysis.columns import Columns, Figures, Part, collect, figures
from etl.analysis.past import Judging, Past
from etl.nightly import history
from etl.nightly.column_store import Spill
from etl.nightly.executors import Executing
from etl.nightly.history import History
from etl.readings.blocks import block_decoder
from etl.readings.days import begins, day_after
from etl.readings.lines import raw_decoder, timestamp_of
from etl.readings.records import Machine, Rows, Settings
from etl.storage.folder import DAMAGED_GZIP, READ_BYTES, Folder

if TYPE_CHECKING:
    from etl.analysis.machine_day import Judgement


PART = 16 << 20
"""Bytes of a day's file that are read as one part, or more where there would be more than PARTS."""
PARTS = 64
"""Parts of a day: each machine has a piece in each, and pieces of a few readings cost more than a longer part."""
SHARES = 4
"""Shares for each worker in reading lines back: who is done takes another one."""


class Block(NamedTuple):
    """Where lines stand that were read at once: reading one of them back begins there."""

    line: int
    """The number of its first line in the day, or the part of it, counted from 0."""
    offset: int


class Analyzed(NamedTuple):
    """A machine's day: how many readings, its figures, and where detectors were asked what they say.

    The figures' rows are lines of the day, counted from 0.
    """

    name: Any
    readings: int
    figures: list[Figures]
    judgement: Judgement | None


class Day(NamedTuple):
    """A day analyzed: its machines in the order of their first appearance, and what passes to the next day.

    `columns` gives those of a machine.
    """

    machines: dict[Machine, Analyzed]
    columns: Callable[[Machine], Columns]
    blocks: list[Block]
    history: History | None


def analyze(
    folder: Folder,
    day: str,
    settings: Settings,
    executing: Executing,
    before: History | None = None,
    until: float = inf,
    timed: bool = False,
) -> Day:
    """Analyze a day, and judge it where there is what was known `before`, which is used up.

    Nothing is silent after the moment `until` (seconds). The columns have times if the day is judged, or `timed`.
    """
    blocks: list[Block] = []
    spill = Spill()
    for at, part in _parts(folder, day, settings, executing, timed):
        blocks += [block._replace(line=block.line + spill.length) for block in at]
        spill.add(part)
    machines = spill.machines
    by = _judging(day, settings, until) if before else None
    keys = [history.key(machine) for machine in machines]
    pasts = (before.machines.pop(key, None) if before else None for key in keys)
    # Columns are read back as they are asked for, and forgotten; figures cost less than sending columns to a worker.
    over = executing.map if by else map
    analyzed = over(partial(_analyze, by, settings.threshold), map(spill.columns, machines), pasts)
    found = dict(zip(machines, analyzed, strict=True))
    for machine, one in found.items():
        found[machine] = one._replace(figures=[_placed(said, spill, machine) for said in one.figures])
    if before is None or by is None:
        return Day(found, spill.columns, blocks, None)
    silent = {key: past for key, past in before.machines.items() if past.last >= by.since}
    judged = {key: one.judgement.past for key, one in zip(keys, found.values(), strict=True) if one.judgement}
    passed = msgspec.structs.replace(before, day=day, machines=silent | judged)
    return Day(found, spill.columns, blocks, passed)


def _placed(said: Figures, spill: Spill, machine: Machine) -> Figures:
    """The figures with lines in place of rows."""
    return said._replace(rows=spill.lines(machine, said.rows)) if len(said.rows) else said


def _judging(day: str, settings: Settings, until: float) -> Judging:
    zone = ZoneInfo(settings.timezone)
    since, end = begins(history.reach(day, settings), zone), begins(day_after(day), zone)
    return Judging(settings.detectors, settings.threshold, settings.interval, since, min(end, until))


def _analyze(by: Judging | None, threshold: float, columns: Columns, past: Past | None) -> Analyzed:
    """Analyze one machine's day, in whatever process this runs."""
    judgement = None
    if by:
        from etl.analysis.machine_day import judge  # noqa: PLC0415  only where there are detectors

        judgement = judge(columns, past, by)
    said = [figures(values, threshold) for values in columns.values]
    return Analyzed(columns.name, columns.readings, said, judgement)


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
            with suppress(FileNotFoundError, *DAMAGED_GZIP):
                before = analyze(Folder(folder.root), between, settings, executing, before).history or before
    return before


def _parts(
    folder: Folder, day: str, settings: Settings, executing: Executing, timed: bool
) -> Iterator[tuple[list[Block], Part]]:
    """The parts of a day, and where the blocks of each stand."""
    size = folder.stored_bytes("raw", [day])
    judged = bool(settings.detectors)
    wanted = tuple(settings.parameters.values()), timed or judged, judged
    cuts = folder.parts("raw", day, max(executing.parts, min(size // PART + 1, PARTS)))
    if len(cuts) == 1:
        # A small file, or a compressed one: that is read from its start on, and has about ten times as much in it.
        blocks = Folder(folder.root).blocks("raw", day)
        at_once = max(PART, 10 * size // PARTS) // READ_BYTES
        while (found := _read(islice(blocks, at_once), *wanted))[0]:
            yield found
        folder.progress(size)
        return
    read = partial(read_part, folder.root, day, wanted)
    for (start, end), found in zip(cuts, executing.map(read, *zip(*cuts, strict=True)), strict=True):
        folder.progress((size if end is None else end) - start)
        yield found


def read_part(
    root: Path, day: str, wanted: tuple[tuple[str, ...], bool, bool], start: int, end: int | None
) -> tuple[list[Block], Part]:
    """Read the lines between two offsets of a day's raw log, in whatever process this runs.

    `wanted` are the fields of the parameters, whether times are, and whether statuses are.

    Raises:
        OSError, EOFError: the file is not there, or shorter than the part.

    """
    return _read(Folder(root).blocks("raw", day, start, end), *wanted)


def _read(
    blocks: Iterable[tuple[int, bytes]], fields: tuple[str, ...], times: bool, statuses: bool
) -> tuple[list[Block], Part]:
    decode = block_decoder(fields, times, statuses)
    stand: list[Block] = []
    lines = 0

    def rows() -> Iterator[Rows]:
        nonlocal lines
        for offset, block in blocks:
            found = decode(block)
            stand.append(Block(lines, offset))
            lines += len(found.sources)
            yield found

    part = collect(rows(), len(fields))
    return stand, part


def timestamps(folder: Folder, day: str, found: Day, executing: Executing) -> dict[int, Any]:
    """Read back the timestamps of the anomalies' lines, by line."""
    rows = [column.rows for one in found.machines.values() for column in one.figures]
    lines = np.unique(np.concatenate([np.empty(0, np.intp), *rows]))
    # A compressed file, which has one part, is unpacked for each share.
    parts = len(folder.parts("raw", day, executing.parts))
    shares = np.array_split(lines, SHARES * parts if parts > 1 else 1)
    wanted = [share.tolist() for share in shares if len(share)]
    starts = [block.line for block in found.blocks]
    blocks = (found.blocks[_block_of(starts, share[0]) : _block_of(starts, share[-1]) + 2] for share in wanted)
    read = executing.map(partial(read_timestamps, folder.root, day), blocks, wanted)
    return dict(zip(chain.from_iterable(wanted), chain.from_iterable(read), strict=True))


def read_timestamps(root: Path, day: str, blocks: list[Block], lines: list[int]) -> list[Any]:
    """The timestamps of these lines, in order, in whatever process this runs.

    They stand in these blocks, the last of which is the one behind them, if there is one.

    Raises:
        OSError, EOFError: the file is not there, or shorter than it was.
        RejectedError: a line is damaged since it was read.

    """
    decode, starts = raw_decoder(()), [block.line for block in blocks]
    stamps = []
    with Folder(root).open_anywhere("raw", day) as file:
        for number, of_block in groupby(lines, partial(_block_of, starts)):
            at, offset = blocks[number]
            file.seek(offset)
            text = BytesIO(file.read(blocks[number + 1].offset - offset if number + 1 < len(blocks) else -1))
            for line in of_block:
                raw = next(islice(text, line - at, None), b"")
                if not raw:
                    raise EOFError(f"line {line + 1} of the raw log of {day} is no longer there")
                stamps.append(timestamp_of(decode(raw)))
                at = line + 1
    return stamps


def _block_of(starts: list[int], line: int) -> int:
    """The number of the block, of those that start with these lines, in which a line stands."""
    return bisect_right(starts, line) - 1
