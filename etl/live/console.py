"""What the console shows of a running process, as JSON and plain dicts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

import orjson

from etl.config.load import Loaded
from etl.live.tick import Tick
from etl.live.traces import Row, Traces
from etl.readings.times import rfc3339

READINGS = 60_000
"""Readings in one answer, at most: large fleets get shorter traces."""
PART = 200
"""Machines that are written out at once."""
_SIMULATED = re.compile(r"/data|/machines/([1-9][0-9]{0,8})/data")


def overview(
    tick: Tick, traces: Traces, loaded: Loaded, now: float, mark: int, not_ready: list[str]
) -> Iterator[bytes]:
    """The machines that have new readings since `mark`, which an earlier answer gave, and every source that is down.

    A trace is a list of [milliseconds since the epoch, value of each parameter or null]. The answer comes in parts, so
    that that of a large fleet takes little memory.
    """
    latest = tick.latest.copy()
    news = traces.since(mark)
    most = max(1, READINGS // max(1, len(latest)))
    head = orjson.dumps({
        "now": round(now * 1000),
        "mark": news.mark,
        "whole": news.whole,
        "interval": loaded.settings.interval,
        "window": loaded.settings.window,
        "threshold": loaded.settings.threshold,
        "timezone": loaded.settings.timezone,
        "parameters": list(loaded.settings.parameters),
        "sources": tick.sources,
        "down": [
            {"source": source, "since": rfc3339(since), "reason": failure.reason, "why": failure.why}
            for source, (since, failure) in tick.down.copy().items()
        ],
        "not_ready": not_ready,
    })  # fmt: skip
    yield head[:-1] + b',"machines":['
    comma = b""
    shown = [key for key in news.numbers if key in latest]
    for first in range(0, len(shown), PART):
        yield comma + b",".join(
            b'{"latest":%b,"trace":[%b]}' % (latest[key].rstrip(), _trace(traces.of(key, news.numbers[key][-most:])))
            for key in shown[first : first + PART]
        )
        comma = b","
    yield b"]}"


def _trace(rows: list[Row]) -> bytes:
    """Rows as JSON, to the six digits that the memory they are kept in has."""
    return b",".join(
        b"[%d,%b]"
        % (round(row[0] * 1000), b",".join(b"%.6g" % value if isfinite(value) else b"null" for value in row[1:]))
        for row in rows
    )


def machine(traces: Traces, loaded: Loaded, source: str, key: Any) -> dict[str, Any] | None:
    """One machine's last readings in columns, and which machine of this process' API it is, if it is one."""
    rows = traces.of((source, key))
    if not rows:
        return None
    times, *columns = zip(*rows, strict=True)
    return {
        "times": times,
        "values": dict(zip(loaded.settings.parameters, columns, strict=True)),
        "interval": loaded.settings.interval,
        "threshold": loaded.settings.threshold,
        "timezone": loaded.settings.timezone,
        "simulated": _simulated(loaded, source),
    }


def _simulated(loaded: Loaded, name: str) -> int | None:
    api = loaded.config.api
    url = next((source.url for source in loaded.sources if source.name == name), None)
    parts = urlsplit(url or "")
    path = _SIMULATED.fullmatch(parts.path)
    if path is None or parts.hostname not in (api.host, "localhost", "127.0.0.1") or parts.port != api.port:
        return None
    number = int(path[1] or 1)
    return number if number <= api.machines else None
