"""What passes from one night to the next: the last readings of each machine, and its open incidents.

A history follows from the raw logs of the days before; the files in reports/history only save reading those again.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from math import ceil
from typing import IO, NamedTuple
from weakref import finalize
from zlib import crc32

import msgspec

from etl.analysis.past import LASTING_DAYS, RULES, TAIL_READINGS, Past
from etl.readings.days import days_before
from etl.readings.records import Settings
from etl.storage.atomic import write_whole
from etl.storage.folder import Folder
from etl.storage.retention import delete_histories

KEPT_FILES = 3
"""The next night uses the newest history; a repeated night uses one of the two before."""
MAX_CHANGE_DAYS = 1 + LASTING_DAYS
"""A lasting change is reported until so many days after its start. A machine without readings for longer is new."""


class Inputs(msgspec.Struct, frozen=True):
    """What a history depends on besides the raw log; one with other inputs is not used."""

    fields: tuple[str, ...]
    detectors: tuple[str, ...]
    rules: int


class History(NamedTuple):
    """The past of each machine, by its JSON, after the readings of `day`."""

    day: str
    inputs: Inputs
    machines: Mapping[str, Past]


class _StoredPasts(Mapping[str, Past]):
    """The pasts in a history file; each is read when it is accessed, as all take 70 KB of memory a machine."""

    def __init__(self, file: IO[bytes]) -> None:
        """Check and index an open file, which this object closes; EOFError and others if it is damaged."""
        self._file = file
        finalize(self, file.close)
        self._pieces: dict[str, tuple[int, int]] = {}  # by machine: offset and size
        head, checksum = b"", 0
        while size := int.from_bytes(length := file.read(4)):
            record = file.read(size)
            checksum = crc32(length + record, checksum)
            if head:
                self._pieces[_decode_machine(record)[0]] = (file.tell() - len(record), len(record))
            else:
                head = record
        if file.read() != checksum.to_bytes(4):
            raise EOFError("the history is damaged: its checksum differs")
        self.day, self.inputs = _decode_head(head)

    def __getitem__(self, key: str) -> Past:
        offset, size = self._pieces[key]
        return _decode_machine(os.pread(self._file.fileno(), size, offset))[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)


def inputs_of(settings: Settings) -> Inputs:
    """The inputs of a history made under these settings."""
    return Inputs(tuple(settings.parameters.values()), settings.detectors, RULES)


def first_baseline_day(day: str, settings: Settings) -> str:
    """The first day whose readings matter to a day: MAX_CHANGE_DAYS and the readings of a tail before it."""
    return days_before(day, MAX_CHANGE_DAYS + ceil(TAIL_READINGS * settings.interval / 86_400))


def newest_stored(folder: Folder, first: str, day: str, settings: Settings) -> History | None:
    """The newest intact history file with the inputs of these settings, from day `first` on and before `day`."""
    for stored_day in reversed([stored_day for stored_day in folder.histories() if first <= stored_day < day]):
        try:
            pasts = _StoredPasts(folder.open_history(stored_day))
        except (OSError, EOFError, msgspec.DecodeError, UnicodeDecodeError):
            continue
        if pasts.day == stored_day and pasts.inputs == inputs_of(settings):
            return History(pasts.day, pasts.inputs, pasts)
    return None


def keep(folder: Folder, history: History) -> None:
    """Write a history file and delete the oldest ones; without effect if there are KEPT_FILES newer ones."""
    if len([day for day in folder.histories() if day > history.day]) >= KEPT_FILES:
        return
    write_whole(folder.history_path(history.day), _encode(history))
    delete_histories(folder, KEPT_FILES)


_decode_head = msgspec.msgpack.Decoder(tuple[str, Inputs]).decode
_decode_machine = msgspec.msgpack.Decoder(tuple[str, Past]).decode


def _encode(history: History) -> Iterator[bytes]:
    """The bytes of a history file: head and machines, each after its length, then a zero length and a CRC-32."""
    checksum = 0
    for record in chain([(history.day, history.inputs)], history.machines.items()):
        encoded = msgspec.msgpack.encode(record)
        for piece in (len(encoded).to_bytes(4), encoded):
            checksum = crc32(piece, checksum)
            yield piece
    yield bytes(4) + checksum.to_bytes(4)
