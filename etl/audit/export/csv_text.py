"""A table as CSV, by RFC 4180: UTF-8, a header, rows that end with CR and LF.

A null and a missing key are empty cells. Numbers have all their digits, lists and objects are JSON.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from etl.audit.export.rows import Cells, Columns, ColumnType

FORMULA_STARTS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""A spreadsheet takes a text that begins with one of these (the last four: full-width = + - @) for a formula, which
could run programs: OWASP, CSV injection. Such a text gets an apostrophe before it. Numbers are no formulas."""
DELIMITERS = {".": ",", ",": ";"}
"""What separates cells, by the decimal sign: spreadsheets of countries with a decimal comma expect semicolons."""


def csv_pieces(columns: Columns, blocks: Iterable[Cells], decimal: str = ".") -> Iterator[bytes]:
    """The header, then the rows of each block, as CSV."""
    delimiter = DELIMITERS[decimal]
    yield (delimiter.join(_texts([*columns])) + "\r\n").encode()
    for cells in blocks:
        shown = [_shown(each, column, decimal) for each, column in zip(cells, columns.values(), strict=True)]
        rows = "\r\n".join(map(delimiter.join, zip(*shown, strict=True)))
        if rows:
            yield (rows + "\r\n").encode()


def _shown(cells: list[Any], column: ColumnType, decimal: str) -> list[str]:
    """The cells of a column as they stand in the file."""
    match column:
        case ColumnType.NAME | ColumnType.TIME | ColumnType.TEXT:
            return _texts(cells)
        case ColumnType.BOOLEAN:
            return ["" if cell is None else str(cell).lower() for cell in cells]
        case ColumnType.MIXED:
            types = {*map(type, cells)} - {type(None)}
            if types <= {str}:
                return _texts(cells)
            if types != {int}:
                shown = {cell: _mixed(cell, decimal) for cell in {*cells}}  # most repeat, as an id and a status do
                return [shown[cell] for cell in cells]
    return _numbers(cells, decimal)


def _texts(cells: list[Any]) -> list[str]:
    """Texts and nulls. Most need neither quotes nor an apostrophe, which is found out for all of them at once."""
    texts = {*cells}
    has_null = None in texts
    texts.discard(None)
    joined = "".join(texts)
    if not _needs_quotes(joined) and FORMULA_STARTS.isdisjoint({text[:1] for text in texts}):
        return [cell or "" for cell in cells] if has_null else cells
    shown = {text: _text(text) for text in texts} | {None: ""}
    return [shown[cell] for cell in cells]


def _text(text: str) -> str:
    return _quoted(f"'{text}" if text[:1] in FORMULA_STARTS else text)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _needs_quotes(text) else text


def _needs_quotes(text: str) -> bool:
    """Whether a text has a delimiter of either form, a quote or a line ending."""
    return any(mark in text for mark in ',;"\r\n')


def _numbers(cells: list[Any], decimal: str) -> list[str]:
    """Numbers and nulls: floats by their repr. Mostly that is their JSON, which is made at once."""
    text = msgspec.json.encode(cells)[1:-1].decode()
    if "e" in text or "0.0000" in text:  # with an exponent, or perhaps by repr alone
        return ["" if cell is None else repr(cell).replace(".", decimal) for cell in cells]
    return text.replace("null", "").replace(",", "\n").replace(".", decimal).split("\n")


def _mixed(value: Any, decimal: str) -> str:
    """A cell of a column with values of several types."""
    match value:
        case None:
            return ""
        case str():
            return _text(value)
        case bytes():
            return _quoted(_json(value, decimal))
    return str(value)


def _json(value: bytes, decimal: str) -> str:
    """A list, object, boolean or number as its JSON, but floats by their repr."""
    text = value.decode()
    if text[0] in "[{tf" or text.lstrip("-").isdigit():
        return text
    with suppress(msgspec.ValidationError):  # a number that no double holds stays as it was sent
        text = repr(msgspec.json.decode(value, type=float))
    return text.replace(".", decimal)
