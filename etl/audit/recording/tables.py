"""CSV with a header: each row as the JSON object that it says."""

import csv
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator

import orjson

from etl.readings.records import RejectedError

MAX_ROW_LINES = 20
"""Lines of a row whose quoted fields have line feeds. If a quote is not closed within them, the next line is a row."""
_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_OTHER_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)\.?|(0|[1-9]\d*)?\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""Numbers that other programs write, such as `.5`, `5.` and `+5`. A serial number such as 007 is text."""

Row = tuple[int, bytes | RejectedError]
"""The number of its first line, and the row as a JSON object, or why it is none."""


def rows(lines: Iterable[tuple[int, bytes]], needs_time: bool) -> Iterator[Row]:
    """The rows below the header. An empty cell has no key, a number is a number, anything else is text.

    Without a header that has a `timestamp`, if the file `needs_time`, the only row is a RejectedError.
    """
    header: list[bytes] | None = None
    for line, cells in _split(lines):
        row: bytes | RejectedError | None = None
        try:
            if isinstance(cells, RejectedError):
                row = cells
            elif header is None:
                header = _header(cells, needs_time)
            else:
                row = _object(header, cells)
        except RejectedError as error:
            row = error
        if row is not None:
            yield line, row
        if header is None:
            return


def _split(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, list[str] | RejectedError]]:
    """The cells of each row, or why it has none."""
    remaining, put_back = iter(lines), deque[tuple[int, bytes]]()

    def next_line() -> tuple[int, bytes] | None:
        return put_back.popleft() if put_back else next(remaining, None)

    while first := next_line():
        number, row = first
        if not row.strip():
            continue
        cells = _cells(row)
        added: list[tuple[int, bytes]] = []
        while isinstance(cells, RejectedError) and len(added) < MAX_ROW_LINES and (following := next_line()):
            added.append(following)
            row += following[1]
            if row.count(b'"') % 2 == 0:
                cells = _cells(row)
                break
        if isinstance(cells, RejectedError):
            put_back.extendleft(reversed(added))
        yield number, cells


def _cells(row: bytes) -> list[str] | RejectedError:
    try:
        return next(csv.reader([row.decode("utf-8-sig", "surrogateescape")], strict=True))
    except csv.Error as error:
        return RejectedError("not_csv", f"the row is not CSV: {error}")


def _header(cells: list[str], needs_time: bool) -> list[bytes]:
    """The keys as JSON; RejectedError if rows below them could not be read."""
    names = [cell.strip() for cell in cells]
    shown = ", ".join(names)[:200]
    for mark, marks in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and mark in names[0]:
            raise RejectedError("not_csv", f"the cells are separated by {marks}: use commas, and points in numbers")
    if needs_time and "timestamp" not in names and not {"_source", "_polled_at"} <= {*names}:
        raise RejectedError("no_time", f"the header has no `timestamp`: {shown}. Name the column with the time so")
    repeated = {name for name in names if name and names.count(name) > 1}
    if repeated:
        raise RejectedError("not_csv", f"the header names {', '.join(sorted(repeated))} twice")
    return [_text(name) for name in names]


def _object(header: list[bytes], cells: list[str]) -> bytes:
    if len(cells) != len(header):
        raise RejectedError("not_csv", f"the row has {len(cells)} cells, the header {len(header)}")
    pairs = zip(header, map(str.strip, cells), strict=True)
    return b"{" + b",".join(key + b":" + _value(cell) for key, cell in pairs if cell and key != b'""') + b"}"


def _value(cell: str) -> bytes:
    """A cell as JSON: its digits as they are if it is a number, so that none is lost."""
    if _OTHER_NUMBER.fullmatch(cell) and math.isfinite(float(cell)):
        return cell.encode() if _JSON_NUMBER.fullmatch(cell) else orjson.dumps(float(cell))
    return _text(cell)


def _text(cell: str) -> bytes:
    try:
        return orjson.dumps(cell)
    except orjson.JSONEncodeError:
        raise RejectedError("not_text", "the row is not UTF-8 text") from None
