"""What passes from night to night: the last readings of each machine, and the incidents that are open.

It follows from the raw log of the days before; the files in reports/history only save reading those again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import ceil
from typing import IO
from zlib import crc32

import msgspec

from etl.analysis.past import MEMORY, Past
from etl.readings.days import days_before
from etl.readings.records import Machine, Settings
from etl.storage.atomic import write_whole
from etl.storage.folder import Folder

KEPT = 3
"""Days whose history is kept: the last one is used, and those before it by a night that is made again."""
WEEK = 7
"""Days a machine may stand still and is known when it comes back."""


class History(msgspec.Struct, frozen=True):
    """What is known of each machine after the readings of `day`, by these fields and detectors."""

    day: str
    fields: tuple[str, ...]
    detectors: tuple[str, ...]
    machines: dict[str, Past]


def reach(day: str, settings: Settings) -> str:
    """The first day that a day is compared with: a week and the time MEMORY readings take before it."""
    return days_before(day, WEEK + ceil(MEMORY * settings.interval / 86_400))


def fits(history: History, settings: Settings) -> bool:
    """Whether it is what these settings need."""
    return (history.fields, history.detectors) == (tuple(settings.parameters.values()), settings.detectors)


def key(machine: Machine) -> str:
    """A machine as text."""
    return msgspec.json.encode(machine).decode()


def stored(folder: Folder, first: str, day: str, settings: Settings) -> History | None:
    """The newest history from day `first` on and before a day that was kept, is whole and fits."""
    for kept in reversed([kept for kept in folder.histories() if first <= kept < day]):
        try:
            with folder.history_path(kept).open("rb") as file:
                history = _read(file)
        except (OSError, EOFError, msgspec.DecodeError, UnicodeDecodeError):
            continue
        if history.day == kept and fits(history, settings):
            return history
    return None


def keep(folder: Folder, history: History) -> None:
    """Write a history, where no KEPT newer ones stand, and delete those that are too old.

    Raises:
        OSError: it cannot be written.

    """
    if len([day for day in folder.histories() if day > history.day]) >= KEPT:
        return
    write_whole(folder.history_path(history.day), _pieces(history))
    for day in folder.histories()[:-KEPT]:
        folder.history_path(day).unlink(missing_ok=True)


def _pieces(history: History) -> Iterator[bytes]:
    """The file of a history: its head, its machines one by one, each behind its length, and a checksum of it all."""
    checksum = 0
    for part in chain([msgspec.structs.replace(history, machines={})], history.machines.items()):
        encoded = msgspec.msgpack.encode(part)
        for piece in (len(encoded).to_bytes(4), encoded):
            checksum = crc32(piece, checksum)
            yield piece
    yield bytes(4) + checksum.to_bytes(4)


def _read(file: IO[bytes]) -> History:
    """Read the file of a history.

    Raises:
        EOFError, DecodeError, UnicodeDecodeError: it is damaged.

    """
    checksum = 0

    def parts() -> Iterator[bytes]:
        nonlocal checksum
        while size := int.from_bytes(length := file.read(4)):
            encoded = file.read(size)
            checksum = crc32(length + encoded, checksum)
            yield encoded

    history = msgspec.msgpack.decode(next(parts(), b""), type=History)
    machines = msgspec.msgpack.Decoder(tuple[str, Past])
    history.machines.update(map(machines.decode, parts()))
    if file.read() != checksum.to_bytes(4):
        raise EOFError("the history is damaged")
    return history
