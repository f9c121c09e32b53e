"""A day's raw log is read in parts and analyzed machine by machine, in one process or in several."""

from bisect import bisect
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from io import BytesIO
from itertools import chain, groupby, islice
from math import inf
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from etl.analysis.columns import Columns, Figures, Part, collect, figures
from etl.analysis.machine_day import MachineDay, analyze_machine
from etl.analysis.past import Past
from etl.nightly.column_store import ColumnStore
from etl.nightly.executors import Mapper
from etl.nightly.history import History, first_baseline_day, inputs_of, newest_stored
from etl.readings.blocks import block_decoder
from etl.readings.days import begins, day_after
from etl.readings.lines import raw_decoder, timestamp_of
from etl.readings.records import Machine, Rows, Settings
from etl.storage.folder import DAMAGED_GZIP, READ_BYTES, Folder

PART_BYTES = 16 << 20
"""The size of a part of a day's file; larger if the day would have more than MAX_PARTS."""
MAX_PARTS = 64
"""A machine has a piece in each part, and reading pieces of a few readings costs more than a longer part."""
SHARES_PER_WORKER = 4
"""Lines are read back in this many shares per worker, so that one that is done takes another share."""

Selection = tuple[tuple[str, ...], bool, bool]
"""The arguments of block_decoder: the fields to decode, whether times, and whether statuses."""


class DayTask(NamedTuple):
    """The day to analyze, its settings, and where the analysis runs."""

    folder: Folder
    day: str
    settings: Settings
    mapper: Mapper


class Block(NamedTuple):
    """The start of a block of lines that was decoded at once: line number (from 0) and byte offset."""

    line: int
    offset: int


class AnalyzedMachine(NamedTuple):
    """A machine's day. The rows of its figures are line numbers of the day, counted from 0."""

    name: Any
    readings: int
    figures: list[Figures]
    detection: MachineDay | None


class AnalyzedDay(NamedTuple):
    """A day's machines in order of first appearance, their columns, and the history for the next day."""

    machines: dict[Machine, AnalyzedMachine]
    store: ColumnStore
    blocks: list[Block]
    history: History | None


def analyze(
    task: DayTask, previous: History | None = None, until: float = inf, with_times: bool = False
) -> AnalyzedDay:
    """Analyze a day; the detectors run only with the history of the days before, `previous`.

    No machine is silent after `until` (seconds since the epoch). The columns have times if the settings have detectors
    or `with_times`.
    """
    store, blocks = _read_day(task, with_times)
    machines, settings = store.machines, task.settings
    period = detection_period(task.day, settings, until) if previous else None
    keys = [msgspec.json.encode(machine).decode() for machine in machines]
    pasts = (previous.machines.get(key) if previous else None for key in keys)
    # Columns are read when a call needs them and not kept. Figures alone cost less than sending columns to a worker.
    mapping = task.mapper.map if period else map
    results = mapping(partial(_analyze_machine, settings, period), map(store.columns, machines), pasts)
    analyzed = {
        machine: result._replace(
            figures=[column._replace(rows=store.lines(machine, column.rows)) for column in result.figures]
        )
        for machine, result in zip(machines, results, strict=True)
    }
    history = None
    if previous and period:
        results_by_key = zip(keys, analyzed.values(), strict=True)
        current = {key: result.detection.past for key, result in results_by_key if result.detection}
        absent = ((key, previous.machines[key]) for key in previous.machines if key not in current)
        recent = {key: past for key, past in absent if past.last >= period[0]}
        history = History(task.day, previous.inputs, recent | current)
    return AnalyzedDay(analyzed, store, blocks, history)


def detection_period(day: str, settings: Settings, until: float) -> tuple[float, float]:
    """The start of the first day that matters to a day, and the end of the day or `until` (seconds since the epoch)."""
    zone = ZoneInfo(settings.timezone)
    return begins(first_baseline_day(day, settings), zone), min(begins(day_after(day), zone), until)


def _analyze_machine(
    settings: Settings, period: tuple[float, float] | None, columns: Columns, past: Past | None
) -> AnalyzedMachine:
    """Analyze one machine's day; runs in a worker."""
    machine_day = analyze_machine(columns, past, settings, *period) if period else None
    column_figures = [figures(values, settings.threshold) for values in columns.values]
    return AnalyzedMachine(columns.name, columns.readings, column_figures, machine_day)


def history_before(task: DayTask, candidate: History | None = None) -> History:
    """The newest history of a day before, continued with the raw logs since then.

    `candidate` is used instead of the stored ones if it is of an earlier day and has the inputs of the settings.
    """
    folder, day, settings, mapper = task
    first = first_baseline_day(day, settings)
    if candidate is None or candidate.inputs != inputs_of(settings) or not first <= candidate.day < day:
        candidate = newest_stored(folder, first, day, settings)
    history = candidate or History("", inputs_of(settings), {})
    for raw_day in folder.days("raw"):
        if history.day < raw_day < day and raw_day >= first:
            # A day that is damaged, or deleted meanwhile, is left out of the history; the report is made anyway.
            with suppress(FileNotFoundError, *DAMAGED_GZIP):
                earlier = DayTask(Folder(folder.root), raw_day, settings, mapper)
                history = analyze(earlier, history).history or history
    return history


def _read_day(task: DayTask, with_times: bool) -> tuple[ColumnStore, list[Block]]:
    """Read a day's raw log into a column store; also the blocks it was read in."""
    detectors = bool(task.settings.detectors)
    selection = tuple(task.settings.parameters.values()), with_times or detectors, detectors
    store, blocks = ColumnStore(), list[Block]()
    for part_blocks, part in _parts(task, selection):
        blocks += [block._replace(line=block.line + store.length) for block in part_blocks]
        store.add(part)
    return store, blocks


def _parts(task: DayTask, selection: Selection) -> Iterator[tuple[list[Block], Part]]:
    """The parts of a day, each with its blocks."""
    folder, day, _, mapper = task
    size = folder.stored_bytes("raw", [day])
    offsets = folder.parts("raw", day, max(mapper.parts, min(size // PART_BYTES + 1, MAX_PARTS)))
    if len(offsets) == 1:
        # A small file, or a compressed one, which can only be read from its start and unpacks to about ten times.
        blocks = Folder(folder.root).blocks("raw", day)
        part_blocks = max(PART_BYTES, 10 * size // MAX_PARTS) // READ_BYTES
        while (part := _read(islice(blocks, part_blocks), selection))[0]:
            yield part
        folder.progress(size)
        return
    read = partial(_read_part, folder.root, day, selection)
    for (start, end), part in zip(offsets, mapper.map(read, *zip(*offsets, strict=True)), strict=True):
        folder.progress((size if end is None else end) - start)
        yield part


def _read_part(root: Path, day: str, selection: Selection, start: int, end: int | None) -> tuple[list[Block], Part]:
    """Read the lines between two byte offsets of a day's raw log; runs in a worker."""
    return _read(Folder(root).blocks("raw", day, start, end), selection)


def _read(blocks: Iterable[tuple[int, bytes]], selection: Selection) -> tuple[list[Block], Part]:
    decode = block_decoder(*selection)
    starts: list[Block] = []
    lines = 0

    def decoded() -> Iterator[Rows]:
        nonlocal lines
        for offset, block in blocks:
            rows = decode(block)
            starts.append(Block(lines, offset))
            lines += len(rows.sources)
            yield rows

    return starts, collect(decoded(), len(selection[0]))


def timestamps(task: DayTask, analyzed: AnalyzedDay) -> dict[int, Any]:
    """The timestamp of each anomaly by its line number, read back from the raw log."""
    rows = [column.rows for machine in analyzed.machines.values() for column in machine.figures]
    lines = np.unique(np.concatenate([np.empty(0, np.intp), *rows]))
    # A compressed file, which has one part, would be unpacked again for each share.
    parts = len(task.folder.parts("raw", task.day, task.mapper.parts))
    split = np.array_split(lines, SHARES_PER_WORKER * parts if parts > 1 else 1)
    shares = [share.tolist() for share in split if len(share)]
    starts = [block.line for block in analyzed.blocks]
    blocks = (analyzed.blocks[bisect(starts, share[0]) - 1 : bisect(starts, share[-1]) + 1] for share in shares)
    results = task.mapper.map(partial(read_timestamps, task.folder.root, task.day), blocks, shares)
    return dict(zip(chain.from_iterable(shares), chain.from_iterable(results), strict=True))


def read_timestamps(root: Path, day: str, blocks: list[Block], lines: list[int]) -> list[Any]:
    """The timestamps of these lines, which are in ascending order; runs in a worker.

    `blocks` are those that hold the lines, and the one after them if there is one.

    Raises:
        OSError, EOFError: the file does not exist, or is shorter than before.
        RejectedError: a line was damaged since it was read.

    """
    decode, starts = raw_decoder(()), [block.line for block in blocks]
    stamps = []
    with Folder(root).open_anywhere("raw", day) as file:
        for number, block_lines in groupby(lines, partial(bisect, starts)):
            next_line, offset = blocks[number - 1]
            file.seek(offset)
            text = BytesIO(file.read(blocks[number].offset - offset if number < len(blocks) else -1))
            for line in block_lines:
                raw = next(islice(text, line - next_line, None), b"")
                if not raw:
                    raise EOFError(f"line {line + 1} of the raw log of {day} no longer exists")
                stamps.append(timestamp_of(decode(raw)))
                next_line = line + 1
    return stamps
