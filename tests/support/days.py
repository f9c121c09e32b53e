"""Days of readings, written straight into a folder."""

from __future__ import annotations

import os
import time

import orjson

from etl.readings.lines import raw_line
from etl.readings.times import rfc3339
from etl.storage.folder import Folder


def write_big_day(folder: Folder, ticks: int, machines: int) -> int:
    """Write raw log and averages of a day that ends now, a tick every 10 s; the bytes of the raw log."""
    now = time.time()
    day = rfc3339(now)[:10]
    stamp = "2000-01-01T00:00:00.000Z"
    reading = {"fan_speed": 800.5, "name": "DELL G450", "status": "STARTED"}
    raw = b"".join(
        raw_line({**reading, "id": n, "temperature": 21.5, "timestamp": stamp}, "line", 946_684_800)
        for n in range(machines)
    )
    averages = {
        count: b"".join(
            orjson.dumps(
                {"timestamp": stamp, "source": "line", "id": n, "average_temperature": 21.5, "average_speed": 800.5,
                 "status": "STARTED", "readings": count, "polled_at": stamp},
                option=orjson.OPT_APPEND_NEWLINE,
            )
            for n in range(machines)
        )
        for count in range(1, 6)
    }  # fmt: skip
    times = [rfc3339(now - 10 * (ticks - tick)).encode() for tick in range(ticks)]
    for kind, blocks in (("raw", dict.fromkeys(averages, raw)), ("averages", averages)):
        folder.path(kind, day).parent.mkdir(parents=True)
        with folder.path(kind, day).open("wb") as file:
            for tick, at in enumerate(times):
                file.write(blocks[min(tick + 1, 5)].replace(stamp.encode(), at))
            file.flush()
            os.fsync(file.fileno())  # before the measured process starts
    return folder.path("raw", day).stat().st_size
