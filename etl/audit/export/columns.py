"""Which columns a table has: the keys of its lines, and a type for each that loses nothing."""

import math
from collections.abc import Iterable
from contextlib import suppress
from enum import Flag, auto
from io import BytesIO

import msgspec

from etl.audit.export.rows import Columns, ColumnType, LineDecoder, decode_values
from etl.readings.lines import UNREADABLE
from etl.storage.settings_log import SettingsLog

MAX_COLUMNS = 10_000
"""Keys of all lines together. Each line has a cell for each, and spreadsheets take 16,384."""
FIXED_TYPES = {
    "raw": {"_source": ColumnType.NAME, "_polled_at": ColumnType.TIME, "id": ColumnType.MIXED},
    "alarms": {
        "source": ColumnType.NAME,
        "id": ColumnType.MIXED,
        "at": ColumnType.TIME,
        "since": ColumnType.TIME,
    },
}
"""Columns whose type is the same in every file, whatever the values in it are."""
EXACT_IN_DOUBLE = 1 << 53
"""Integers up to here, of either sign, are exact as a double."""
MAX_INT64_CHARS = 20
"""Characters of the longest integer of 64 bits; Python takes long over thousands of them."""


class TooManyColumnsError(ValueError):
    """The lines have more than MAX_COLUMNS keys together."""


class _Values(Flag):
    """The kinds of values that a key was seen with, beside null."""

    NONE = 0
    SMALL = auto()
    """Integers that are exact as a double."""
    BIG = auto()
    """Other integers of 64 bits."""
    FLOAT = auto()
    BOOLEAN = auto()
    TEXT = auto()
    OTHER = auto()
    """Lists, objects, and numbers that neither a double nor 64 bits hold."""


def averages_columns(settings_log: SettingsLog, days: Iterable[str]) -> Columns:
    """The columns of averages lines, by the settings that govern these days."""
    settings = [each for day in days for _, _, each in settings_log.segments(day)]
    parameters = dict.fromkeys(parameter for each in settings for parameter in each.parameters)
    return {
        "timestamp": ColumnType.MIXED,
        "source": ColumnType.NAME,
        "id": ColumnType.MIXED,
        **{f"average_{parameter}": ColumnType.DOUBLE for parameter in parameters},
        "status": ColumnType.MIXED,
        "readings": ColumnType.INTEGER,
        "polled_at": ColumnType.TIME,
    }


class Survey:
    """Collects the columns of the lines of a kind; the keys of raw and alarms lines are not known before."""

    def __init__(self, kind: str) -> None:
        self._fixed = FIXED_TYPES[kind]
        self._seen: dict[str, _Values] = {}
        self._decoder = LineDecoder({})

    def add(self, block: bytes) -> None:
        """Take in the keys and values of some lines, in order. Damaged lines are ignored.

        Lines that fit the columns as they are take a single call, so that this costs less than half of the export.
        TooManyColumnsError if there are too many.
        """
        with suppress(*UNREADABLE):
            self._decoder.lines(block)
            return
        seen = self._seen.copy()
        for line in BytesIO(block):
            with suppress(*UNREADABLE):
                self._add_line(line)
        if len(self._seen) > MAX_COLUMNS:
            raise TooManyColumnsError(f"the lines have more than {MAX_COLUMNS:,} different keys")
        if self._seen != seen:
            self._decoder = LineDecoder(self.columns)

    def _add_line(self, line: bytes) -> None:
        line.decode()
        values = decode_values(line)
        for key, column_type in self._fixed.items():
            if column_type in _TEXT_TYPES and not bytes(values.get(key, _NULL)).startswith(b'"'):
                return  # the line is not one of ours
        for key, value in values.items():
            kind = _Values.NONE if value == _NULL else _kind(bytes(value))
            self._seen[key] = self._seen.get(key, _Values.NONE) | kind

    @property
    def columns(self) -> Columns:
        """The columns of all lines so far, in the order in which their keys appeared."""
        return {key: self._fixed.get(key) or _type_of(seen) for key, seen in self._seen.items()}


_KINDS = {
    b'"': _Values.TEXT,
    b"t": _Values.BOOLEAN,
    b"f": _Values.BOOLEAN,
    b"[": _Values.OTHER,
    b"{": _Values.OTHER,
}
"""By the first byte of a value, but for numbers and null."""
_TEXT_TYPES = (ColumnType.NAME, ColumnType.TIME)
_NULL = msgspec.Raw(b"null")


def _kind(value: bytes) -> _Values:
    """The kind of a JSON value."""
    if kind := _KINDS.get(value[:1]):
        return kind
    if not value.lstrip(b"-").isdigit():
        return _Values.FLOAT if math.isfinite(float(value)) else _Values.OTHER
    number = int(value) if len(value) <= MAX_INT64_CHARS else math.inf
    if -EXACT_IN_DOUBLE <= number <= EXACT_IN_DOUBLE:
        return _Values.SMALL
    return _Values.BIG if -(1 << 63) <= number < 1 << 63 else _Values.OTHER


def _type_of(seen: _Values) -> ColumnType:
    """The narrowest type that holds such values exactly. Small integers are doubles, so that files agree."""
    if seen in _Values.SMALL | _Values.FLOAT and seen:
        return ColumnType.DOUBLE
    if seen in _Values.SMALL | _Values.BIG and seen:
        return ColumnType.INTEGER
    simple = {_Values.BOOLEAN: ColumnType.BOOLEAN, _Values.TEXT: ColumnType.TEXT, _Values.NONE: ColumnType.NULL}
    return simple.get(seen, ColumnType.MIXED)
