"""A table as Parquet: typed columns, a row group for each day. Needs pyarrow (the extra `parquet`)."""

import re
from collections.abc import Iterable
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from etl.audit.export.rows import Cells, Columns, ColumnType

MAX_GROUP_ROWS = 1 << 17
"""Rows of a row group, at most: it is in memory until it is complete. A day with more has several."""
MAX_GROUP_BYTES = 64 << 20
"""The same in bytes, for long lines."""
_TYPES = {
    ColumnType.TIME: pa.timestamp("ms", "UTC"),
    ColumnType.DOUBLE: pa.float64(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.BOOLEAN: pa.bool_(),
}
"""Any other column is text."""
_LOOKS_LIKE_JSON = re.compile(r'["\[{]|(true|false|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?)\Z')


def write_parquet(columns: Columns, days: Iterable[Iterable[Cells]], file: IO[bytes]) -> None:
    """Write the blocks of cells of each day. A row group ends with its day, or when it is at its limits."""
    schema = pa.schema([(key, _TYPES.get(column, pa.string())) for key, column in columns.items()])
    repeated = [key for key, column in columns.items() if column not in (ColumnType.TIME, ColumnType.DOUBLE)]
    with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeated) as writer:
        for blocks in days:
            batches: list[pa.RecordBatch] = []
            rows = size = 0
            for cells in blocks:
                arrays = [_array(each, column) for each, column in zip(cells, columns.values(), strict=True)]
                batches.append(pa.record_batch(arrays, schema=schema))
                rows += batches[-1].num_rows
                size += batches[-1].nbytes
                if rows >= MAX_GROUP_ROWS or size >= MAX_GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(batches), rows)
                    batches, rows, size = [], 0, 0
            if rows:
                writer.write_table(pa.Table.from_batches(batches), rows)


def _array(cells: list[Any], column: ColumnType) -> pa.Array:
    if column is ColumnType.MIXED and not _are_plain(cells):
        shown = {cell: _mixed(cell) for cell in {*cells}}  # most repeat, as an id and a status do
        cells = [shown[cell] for cell in cells]
    return pa.array(cells, _TYPES.get(column, pa.string()))


def _are_plain(cells: list[Any]) -> bool:
    """Whether all cells are nulls and texts that are certainly no JSON, which is quickly said of times and names."""
    if not {*map(type, cells)} <= {str, type(None)}:
        return False
    starts = {cell[0] for cell in cells if cell}
    if not starts.isdisjoint('"[{'):
        return False
    return starts.isdisjoint("tf-0123456789") or all(":" in cell for cell in cells if cell)


def _mixed(value: Any) -> str | None:
    """A value of any type as text: a text as it is, anything else as JSON.

    A text that could be the JSON of something else is in quotes, so that 7 and "7" remain different.
    """
    match value:
        case None:
            return None
        case int():
            return str(value)
        case bytes():
            return value.decode()
    return msgspec.json.encode(value).decode() if _LOOKS_LIKE_JSON.match(value) else value
