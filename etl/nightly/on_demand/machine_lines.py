"""Reads one machine out of a day's files: each file once, and only the lines of its source are decoded."""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from math import nan
from operator import attrgetter
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np

from etl.analysis.columns import Columns, Floats, collect
from etl.nightly.column_store import ColumnStore
from etl.readings.averages.window import number
from etl.readings.blocks import block_decoder, lines_with
from etl.readings.lines import UNREADABLE, id_of, raw_decoder
from etl.readings.records import Machine, RejectedError, Rows
from etl.readings.times import clamp
from etl.storage.folder import Folder
from etl.storage.latest import Moment


class _RawOwner(msgspec.Struct, gc=False):
    source: str = msgspec.field(name="_source")
    id: Any = None


class _AveragesOwner(msgspec.Struct, gc=False):
    source: str
    id: Any = None


class Series(NamedTuple):
    """Times (seconds since the epoch), and a column of values for each parameter, NaN where there is none."""

    times: Floats
    values: list[Floats]

    @classmethod
    def joined(cls, parts: list[Self], parameters: int) -> Self:
        """The series of several days as one."""
        times = np.concatenate([np.empty(0), *(part.times for part in parts)])
        columns = [np.concatenate([np.empty(0), *(part.values[n] for part in parts)]) for n in range(parameters)]
        return cls(times, columns)

    def since(self, start: float) -> Self:
        """What is not before `start`."""
        recent = self.times >= start
        return self._replace(times=self.times[recent], values=[column[recent] for column in self.values])


MANY_LINES = 100
"""With so many of its some 600 lines, a block is split as a whole: that is faster than searching each of them."""
_OWNERS: dict[str, Callable[[bytes], Any]] = {
    "raw": msgspec.json.Decoder(_RawOwner).decode,
    "averages": msgspec.json.Decoder(_AveragesOwner).decode,
}
_decode_machine = raw_decoder(())


def machine_of(source: str, id_json: str) -> Machine:
    """The machine of a source and the JSON of its id; what is no string or number is None."""
    try:
        return source, id_of(json.loads(id_json))
    except (ValueError, RecursionError):
        return source, None


def raw_columns(folder: Folder, day: str, machine: Machine, fields: tuple[str, ...]) -> Columns | None:
    """The readings of a machine in the raw log of a day; None if there are none.

    Raises:
        FileNotFoundError: there is no raw log of that day.
        DAMAGED_GZIP: the compressed file is damaged.

    """
    decode_block = block_decoder(fields, times=True, statuses=True)
    blocks = (decode_block(lines) for lines in _lines_of(folder, "raw", day, machine))
    part = collect((_of(machine, rows) for rows in blocks), len(fields))
    if not part.machines:
        return None
    store = ColumnStore()
    store.add(part)
    return store.columns(part.machines[0])


def _of(machine: Machine, rows: Rows) -> Rows:
    """These rows, all under the same machine: ids such as 7 and 7.0 are equal. Damaged ones have no source."""
    return rows._replace(ids=[machine[1] if source is not None else None for source in rows.sources])


def averages_series(folder: Folder, day: str, machine: Machine, parameters: Iterable[str]) -> Series:
    """The moving averages of a machine on a day; empty if there are none, or no file."""
    names = {f"average_{place}": f"average_{parameter}" for place, parameter in enumerate(parameters)}
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("polled_at", Moment),
        *((name, Any, None) for name in names),
    ]
    decode = msgspec.json.Decoder(msgspec.defstruct("Averages", fields, rename=names, gc=False)).decode
    take = attrgetter("polled_at", *names)
    columns = [array("d") for _ in fields]

    with suppress(FileNotFoundError):
        for lines in _lines_of(folder, "averages", day, machine):
            for line in BytesIO(lines):
                with suppress(*UNREADABLE):
                    polled_at, *averages = take(decode(line))
                    columns[0].append(clamp(polled_at.timestamp()))
                    for column, average in zip(columns[1:], map(number, averages), strict=True):
                        column.append(nan if average is None else average)
    times, *values = (np.array(column) for column in columns)
    return Series(times, values)


def _lines_of(folder: Folder, kind: str, day: str, machine: Machine) -> Iterator[bytes]:
    """The lines of a machine, in blocks."""
    name, decode = msgspec.json.encode(machine[0]), _OWNERS[kind]
    for _, block in folder.blocks(kind, day):
        lines = _lines_naming(block, name)
        try:
            owners = list(map(decode, lines))
        except UNREADABLE:
            owners = [_owner(decode, line) for line in lines]
        if matches := [line for line, owner in zip(lines, owners, strict=True) if _is_of(owner, machine)]:
            yield b"".join(matches)


def _lines_naming(block: bytes, text: bytes) -> list[bytes]:
    """At least the lines of a block that have this JSON string, also in a form with escapes."""
    if b"\\" in block or block.count(text) > MANY_LINES:
        return BytesIO(block).readlines()
    return lines_with(block, text)


def _owner(decode: Callable[[bytes], Any], line: bytes) -> Any:
    """The source and id of a line; None for a damaged one."""
    with suppress(*UNREADABLE):
        return decode(line)
    with suppress(RejectedError):  # such as an id of 1e999
        return _RawOwner(*_decode_machine(line).machine)
    return None


def _is_of(owner: Any, machine: Machine) -> bool:
    source, machine_id = machine
    if owner is None or owner.source != source or (owner.id != machine_id and machine_id is not None):
        return False
    return id_of(owner.id) == machine_id
