"""What passes from night to night: the last readings of each machine, and the incidents that are open.

It follows from the raw log of the days before; the files in reports/history only save reading those again.
"""

from __future__ import annotations

from hashlib import blake2b
from math import ceil

import msgspec

from etl.days import days_before
from etl.folder import Folder
from etl.log import write_whole
from etl.records import MEMORY, History, Machine, Settings

KEPT = 3
"""Days whose history is kept: the last one is used, and those before it by a night that is made again."""
WEEK = 7
"""Days a machine may stand still and is known when it comes back."""

_DIGEST = 16


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
            content = folder.history_path(kept).read_bytes()
            if blake2b(content[_DIGEST:], digest_size=_DIGEST).digest() == content[:_DIGEST]:
                history = msgspec.msgpack.decode(content[_DIGEST:], type=History)
                if fits(history, settings) and history.day == kept:
                    return history
        except (OSError, msgspec.DecodeError):
            continue
    return None


def keep(folder: Folder, history: History) -> None:
    """Write a history, where no KEPT newer ones stand, and delete those that are too old.

    Raises:
        OSError: it cannot be written.

    """
    if len([day for day in folder.histories() if day > history.day]) >= KEPT:
        return
    content = bytearray(_DIGEST)
    msgspec.msgpack.Encoder().encode_into(history, content, _DIGEST)
    with memoryview(content) as whole:
        whole[:_DIGEST] = blake2b(whole[_DIGEST:], digest_size=_DIGEST).digest()
    write_whole(folder.history_path(history.day), content)
    for day in folder.histories()[:-KEPT]:
        folder.history_path(day).unlink(missing_ok=True)
