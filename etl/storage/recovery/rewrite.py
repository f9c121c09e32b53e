"""The end of a day file made equal to derived lines."""

import os
from collections import deque
from collections.abc import Iterator
from itertools import chain

from etl.storage.atomic import open_regular, sync
from etl.storage.folder import Folder
from etl.storage.places import nth_place
from etl.storage.recovery.repair import Record


def rewrite_end(folder: Folder, kind: str, day: str, line: int, derived: Iterator[bytes], record: Record) -> bool:
    """Make a day's lines of a kind ("averages" or "alarms") from line `line` on equal to `derived`.

    False, with nothing changed, where the very first line to compare differs. A compressed file is left unchanged.
    """
    path = folder.path(kind, day)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    if is_new and folder.packed_path(kind, day).exists():
        deque(derived, 0)  # only the state is needed: a file is complete before it is compressed
        return True
    with open(path, "ab+", opener=open_regular) as file:
        start = end = nth_place(folder, day, line, kind).offset
        file.seek(start)
        different: list[bytes] = []
        for expected in derived:
            stored = file.readline()
            if stored != expected:
                if stored and end == start and line > 1:
                    return False
                different = [expected]
                break
            end += len(expected)
        size = path.stat().st_size
        if not different and end == size and not (is_new and kind == "alarms"):
            return True
        file.truncate(end)
        written = sum(file.write(expected) for expected in chain(different, derived))
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync(path.parent)
    record("repaired", reason=kind, file=str(path.relative_to(folder.root)), cut=size - end, written=written)
    return True
