"""Lines as columns: blocks of them are decoded at once, and what is damaged is skipped line by line."""

import errno
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import Enum, auto
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec

from etl.readings.lines import UNREADABLE
from etl.storage.folder import DAMAGED_GZIP, Folder


class ColumnType(Enum):
    """What the cells of a column are. Beside NAME and TIME, any may be null, which a missing key is too."""

    NAME = auto()
    """The name of a source; a line without it is damaged."""
    TIME = auto()
    """A time that this program wrote; a line without it is damaged."""
    TEXT = auto()
    DOUBLE = auto()
    INTEGER = auto()
    """Integers of 64 bits."""
    BOOLEAN = auto()
    NULL = auto()
    """Nothing but nulls."""
    MIXED = auto()
    """Any JSON: a str, an int of 64 bits or None, or the JSON of another value as bytes."""


Columns = dict[str, ColumnType]
"""The columns of a table by their keys, in order."""
Cells = list[list[Any]]
"""The cells of some lines: a list for each column."""

_INT64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_EXACT_INT = Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)]
_TYPES: dict[ColumnType, Any] = {
    ColumnType.NAME: str,
    ColumnType.TIME: Annotated[datetime, msgspec.Meta(tz=True)],
    ColumnType.TEXT: str | None,
    ColumnType.DOUBLE: _EXACT_INT | float | None,
    ColumnType.INTEGER: _INT64 | None,
    ColumnType.BOOLEAN: bool | None,
    ColumnType.NULL: None,
    ColumnType.MIXED: msgspec.Raw,
}
decode_values: Callable[[bytes], dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""Decodes the keys of a line, and none of the values."""
_REQUIRED = (ColumnType.NAME, ColumnType.TIME)


class LineDecoder:
    """Decodes lines with these keys and types, and no others. `times_as_text` keeps times as they are written."""

    def __init__(self, columns: Columns, *, times_as_text: bool = False) -> None:
        self._attributes = {key: f"k{number}" for number, key in enumerate(columns)}
        self._getters = [attrgetter(name) for name in self._attributes.values()]
        types = {key: _TYPES[column] for key, column in columns.items()}
        times = [key for key, column in columns.items() if column is ColumnType.TIME and times_as_text]
        types |= dict.fromkeys(times, str)
        self._text_times = [attrgetter(self._attributes[key]) for key in times]
        self._mixed = [key for key, column in columns.items() if column is ColumnType.MIXED]
        required = {key for key, column in columns.items() if column in _REQUIRED}
        self._decode_any = self._decoder(types, required)
        self._decode = self._decoder(types | dict.fromkeys(self._mixed, str | _INT64 | None), required)

    def _decoder(self, types: dict[str, Any], required: Iterable[str]) -> Callable[[bytes], Any]:
        fields: list[Any] = [
            (name, types[key]) if key in required else (name, types[key], None)
            for key, name in self._attributes.items()
        ]
        names = {name: key for key, name in self._attributes.items()}
        try:
            line = msgspec.defstruct("Line", fields, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False)
        except ValueError:  # a key has a quote, a backslash or a control character
            return self._decoder_by_key(types, msgspec.defstruct("Line", fields, kw_only=True, gc=False))
        return msgspec.json.Decoder(line).decode

    def _decoder_by_key(self, types: dict[str, Any], line_type: Callable[..., Any]) -> Callable[[bytes], Any]:
        """The same for keys that msgspec does not take, at a sixth of the speed."""
        decoders = {key: msgspec.json.Decoder(each).decode for key, each in types.items()}

        def decode(line: bytes) -> Any:
            try:
                cells = {self._attributes[key]: decoders[key](value) for key, value in decode_values(line).items()}
                return line_type(**cells)
            except (KeyError, TypeError) as error:
                raise msgspec.ValidationError(f"a key is missing or unknown: {error}") from None

        return decode

    def lines(self, block: bytes) -> list[Any]:
        """The lines of a block; one of UNREADABLE if any is damaged."""
        if not block.isascii():
            block.decode()  # msgspec does not look into what it skips
        try:
            lines = list(map(self._decode, BytesIO(block)))
        except msgspec.DecodeError:
            lines = list(map(self._decode_any, BytesIO(block)))
            for name in map(self._attributes.__getitem__, self._mixed):
                for line in lines:
                    if (value := getattr(line, name)) is not None:
                        setattr(line, name, _mixed(bytes(value)))
        for getter in self._text_times:
            _check_times(map(getter, lines))
        return lines

    def cells(self, lines: list[Any]) -> Cells:
        """The cells of decoded lines."""
        return [list(map(getter, lines)) for getter in self._getters]

    def cell(self, line: Any, key: str) -> Any:
        """The cell of a decoded line in the column of a key."""
        return getattr(line, self._attributes[key])


def _mixed(value: bytes) -> Any:
    """The cell of a JSON value in a column of type MIXED."""
    if value == b"null":
        return None
    return msgspec.json.decode(value) if value.startswith(b'"') else value


def _check_times(texts: Iterable[str]) -> None:
    """Raise msgspec.ValidationError unless all texts are times with an offset."""
    try:
        if all(moment.tzinfo for moment in map(datetime.fromisoformat, texts)):
            return
    except ValueError:
        pass
    raise msgspec.ValidationError("a time is not in RFC 3339")


def stored_path(folder: Folder, kind: str, day: str) -> Path:
    """A day's file: the plain one if it exists, else the compressed one."""
    plain = folder.path(kind, day)
    return plain if plain.exists() else folder.packed_path(kind, day)


def stored_blocks(folder: Folder, kind: str, day: str, end: int | None = None) -> Iterator[bytes]:
    """The complete lines of a day up to an offset, in blocks; OSError if the file is damaged or too short."""
    try:
        for _, block in folder.blocks(kind, day, end=end):
            yield block
    except DAMAGED_GZIP as error:
        raise OSError(errno.EIO, f"the file is damaged: {error}", str(stored_path(folder, kind, day))) from None


def sound_lines(decoder: LineDecoder, blocks: Iterable[bytes], skip: Callable[[int, str], None]) -> Iterator[list[Any]]:
    """The decoded lines of each block. `skip` is called with each damaged line, counted from 1, and why it is one."""
    number = 0
    for block in blocks:
        try:
            lines = decoder.lines(block)
            number += len(lines)
        except UNREADABLE:
            lines = []
            for line in BytesIO(block):
                number += 1
                try:
                    lines += decoder.lines(line)
                except UNREADABLE as error:
                    skip(number, str(error))
        yield lines
