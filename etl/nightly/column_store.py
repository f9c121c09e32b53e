"""A day's columns in a temporary file, so that a night needs the memory of one part of the day and one machine."""

import os
from collections.abc import Iterable
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any, NamedTuple, cast
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from etl.analysis.columns import Codes, Columns, Lines, Part
from etl.readings.records import Machine


class _StoredPart(NamedTuple):
    """A part in the file: the number of its first line in the day, and the byte offset of each column."""

    first_line: int
    lines: int
    times: int | None
    values: list[int]
    codes: int | None


class _Piece(NamedTuple):
    """A machine's rows in one part: the first row and the number of rows."""

    part: _StoredPart
    start: int
    rows: int


class ColumnStore:
    """The parts of a day in a file of the system's directory for temporary files, read back by machine.

    The file has no name; it disappears with this object or its process. `length` is the number of lines in all parts.
    """

    def __init__(self) -> None:
        self._file = cast(IO[bytes], TemporaryFile(buffering=0))  # noqa: SIM115  closed by the finalizer
        finalize(self, self._file.close)
        self.length = 0
        self._pieces: dict[Machine, list[_Piece]] = {}
        self._names: dict[Machine, Any] = {}
        self._statuses: dict[Machine, Codes] = {}

    @property
    def machines(self) -> list[Machine]:
        """The machines, in order of first appearance."""
        return list(self._pieces)

    def add(self, part: Part) -> None:
        """Write the next part of the day to the file; an OSError names the directory for temporary files."""
        stored = _StoredPart(
            self.length,
            self._write(part.lines),
            self._write(part.times) if len(part.times) else None,
            [self._write(column) for column in part.values],
            self._write(self._day_codes(part)) if len(part.codes) else None,
        )
        start = 0
        for machine, name, rows in zip(part.machines, part.names, part.counts, strict=True):
            self._pieces.setdefault(machine, []).append(_Piece(stored, start, rows))
            if name is not None:
                self._names[machine] = name
            start += rows
        self.length += part.length

    def _day_codes(self, part: Part) -> NDArray[np.uint8]:
        """The status codes of a part, translated to those of the day."""
        codes, table = [], np.zeros(len(part.statuses), np.uint8)
        split = np.split(part.codes, np.cumsum(part.counts))[:-1]
        for machine, part_codes in zip(part.machines, split, strict=True):
            day_codes = self._statuses.setdefault(machine, Codes())
            for code in dict.fromkeys(part_codes.tolist()):  # in order of first appearance
                table[code] = day_codes[part.statuses[code]]
            codes.append(table[part_codes])
        return np.concatenate(codes)

    def _write(self, column: NDArray[Any]) -> int:
        """Append a column to the file; its byte offset."""
        offset, rest = self._file.tell(), column.data.cast("B")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            # The file has no name, and the full disk may be another one than that of the output folder.
            raise OSError(error.errno, error.strerror, f"{gettempdir()} (TMPDIR)") from error
        return offset

    def columns(self, machine: Machine) -> Columns:
        """Read the day of a machine."""
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
        """The line numbers, counted from 0 in the day, of these rows of a machine."""
        if not len(rows):
            return rows
        pieces = self._pieces[machine]
        lines = self._read(np.uint32, pieces, [piece.part.lines for piece in pieces]).astype(np.intp)
        lines += np.repeat([piece.part.first_line for piece in pieces], [piece.rows for piece in pieces])
        return lines[rows]

    def _read(self, kind: type[np.generic], pieces: list[_Piece], offsets: Iterable[int | None]) -> NDArray[Any]:
        """Read one column of a machine from its offset in each part; empty if the parts do not have it."""
        size, file = np.dtype(kind).itemsize, self._file.fileno()
        data = [
            os.pread(file, size * piece.rows, offset + size * piece.start)
            for piece, offset in zip(pieces, offsets, strict=True)
            if offset is not None
        ]
        return np.frombuffer(b"".join(data), kind)
