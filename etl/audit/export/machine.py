"""One machine's day of averages as CSV, found without decoding the lines of the others."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import msgspec

from etl.audit.export.columns import averages_columns
from etl.audit.export.csv_text import csv_pieces
from etl.audit.export.rows import Cells, LineDecoder, sound_lines, stored_blocks
from etl.readings.blocks import lines_with
from etl.readings.records import Machine
from etl.storage.settings_log import SettingsLog

PREFIX_DIGITS = 15
"""Integers of so many digits begin every form in which this program writes them: 7 is `7` or `7.0`."""


def machine_day_csv(
    settings_log: SettingsLog, day: str, machine: Machine, pause: Callable[[], None] = lambda: None
) -> Iterator[bytes] | None:
    """The averages lines of a machine on a day as CSV, in pieces; None if it has none.

    The day's file is read once, as the pieces are taken, and beside the lines of the machine itself only searched.
    `pause` is called after each block of it. Damaged lines are left out.
    """
    if day not in settings_log.folder.days("averages"):
        return None
    columns = averages_columns(settings_log, [day])
    decoder = LineDecoder(columns, times_as_text=True)
    blocks = filter(None, _of_machine(stored_blocks(settings_log.folder, "averages", day), decoder, machine, pause))
    first = next(blocks, None)
    return csv_pieces(columns, chain([first], blocks)) if first else None


def _of_machine(
    blocks: Iterable[bytes], decoder: LineDecoder, machine: Machine, pause: Callable[[], None]
) -> Iterator[Cells]:
    found = (b"".join(lines_with(block, _needle(machine))) for block in blocks)
    for lines in sound_lines(decoder, found, lambda _number, _why: None):
        # The same bytes could also stand in an object that a machine sent as its timestamp or status.
        own = [line for line in lines if _machine_of(decoder, line) == machine]
        yield decoder.cells(own) if own else []
        pause()


def _machine_of(decoder: LineDecoder, line: msgspec.Struct) -> Machine:
    key = decoder.cell(line, "id")
    return decoder.cell(line, "source"), msgspec.json.decode(key) if type(key) is bytes else key


def _needle(machine: Machine) -> bytes:
    """Bytes that each line of a machine has, and few lines of others."""
    source, key = machine
    needle = b'"source":%b,"id":' % msgspec.json.encode(source)
    if key is None or isinstance(key, str):
        return needle + msgspec.json.encode(key) + b","
    return needle + b"%d" % key if type(key) is int and len(str(key)) <= PREFIX_DIGITS else needle
