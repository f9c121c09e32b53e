"""A day's columns on the disk: however long the day, a night takes the memory of one part of it and one machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any, NamedTuple, cast
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from etl.analysis.columns import Codes, Columns, Lines, Part
from etl.readings.records import Machine


class _Stored(NamedTuple):
    """A part on the disk: the number of its first line in the day, and where its columns stand."""

    line: int
    lines: int
    times: int | None
    values: list[int]
    codes: int | None


class _Piece(NamedTuple):
    """A machine's rows in one part: where they begin in its columns, and how many there are."""

    part: _Stored
    start: int
    rows: int


class Spill:
    """The parts of a day, set aside in the system's directory for temporary files and read back machine by machine.

    The file has no name, and is gone with this object or its process.
    """

    def __init__(self) -> None:
        self._file = cast(IO[bytes], TemporaryFile(buffering=0))  # noqa: SIM115  it is closed with this object
        finalize(self, self._file.close)
        self._end = 0
        self._length = 0
        self._pieces: dict[Machine, list[_Piece]] = {}
        self._names: dict[Machine, Any] = {}
        self._statuses: dict[Machine, Codes] = {}

    @property
    def length(self) -> int:
        """How many lines the parts have."""
        return self._length

    @property
    def machines(self) -> list[Machine]:
        """The machines, in order of their first appearance."""
        return list(self._pieces)

    def add(self, part: Part) -> None:
        """Set the next part of the day aside.

        Raises:
            OSError: it cannot be written; the disk may be full.

        """
        stored = _Stored(
            self._length,
            self._write(part.lines),
            self._write(part.times) if len(part.times) else None,
            [self._write(column) for column in part.values],
            self._write(self._recoded(part)) if len(part.codes) else None,
        )
        start = 0
        for machine, name, rows in zip(part.machines, part.names, part.counts, strict=True):
            self._pieces.setdefault(machine, []).append(_Piece(stored, start, rows))
            if name is not None:
                self._names[machine] = name
            start += rows
        self._length += part.length

    def _recoded(self, part: Part) -> NDArray[np.uint8]:
        """The codes of a part as those of the day, in whose order OTHER begins."""
        codes = []
        split = np.split(part.codes, np.cumsum(part.counts))[:-1]
        for machine, statuses, its in zip(part.machines, part.statuses, split, strict=True):
            known = self._statuses.setdefault(machine, Codes())
            codes.append(np.array([known[status] for status in statuses], np.uint8)[its])
        return np.concatenate(codes)

    def _write(self, column: NDArray[Any]) -> int:
        """Where a column now stands."""
        at, left = self._end, column.data.cast("B")
        self._end += len(left)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            # A file without a name: what is full may be another disk than that of the output folder.
            raise OSError(error.errno, error.strerror, f"{gettempdir()} (TMPDIR)") from error
        return at

    def columns(self, machine: Machine) -> Columns:
        """A machine's day, read back."""
        pieces = self._pieces[machine]
        parts = [piece.part for piece in pieces]
        values = zip(*(part.values for part in parts), strict=True)
        return Columns(
            self._names.get(machine),
            sum(piece.rows for piece in pieces),
            self._read(np.float64, pieces, [part.times for part in parts]),
            [self._read(np.float64, pieces, offsets) for offsets in values],
            self._read(np.uint8, pieces, [part.codes for part in parts]),
            self._statuses.get(machine, Codes()),
        )

    def lines(self, machine: Machine, rows: Lines) -> Lines:
        """The numbers of the lines, counted from 0 in the day, of some rows of a machine."""
        pieces = self._pieces[machine]
        lines = self._read(np.uint32, pieces, [piece.part.lines for piece in pieces]).astype(np.intp)
        lines += np.repeat([piece.part.line for piece in pieces], [piece.rows for piece in pieces])
        return lines[rows]

    def _read(self, kind: type[np.generic], pieces: list[_Piece], offsets: Iterable[int | None]) -> NDArray[Any]:
        """One column of a machine, from where it stands in each part; empty where it was not asked for."""
        size, file = np.dtype(kind).itemsize, self._file.fileno()
        found = [
            os.pread(file, size * piece.rows, offset + size * piece.start)
            for piece, offset in zip(pieces, offsets, strict=True)
            if offset is not None
        ]
        return np.frombuffer(b"".join(found), kind)
