"""What people are told at `notify.url`: sources that stay down and come back, and each night's report."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from queue import Full, Queue
from typing import Any

import msgspec
import orjson

from etl.readings.records import Failure
from etl.readings.times import rfc3339

PATIENCE = 3
"""Intervals a source is down before that is told."""
NAMED = 100
"""Sources that one notification names, at most."""
WAITING = 100
"""Notifications that wait to be taken, at most."""
TIMEOUT = 10.0
"""Seconds a notification has to be taken."""
PAUSES = (0.0, 5.0, 30.0)
"""Seconds before each try to send a notification."""

log = logging.getLogger("etl")

Down = Mapping[str, tuple[float, Failure]]
"""The sources that are down: since when (seconds since the epoch), and why."""


def outages(
    down: Down, told: Mapping[str, float], known: Collection[str], now: float, patience: float
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What to tell of the sources that are down, and who was then told to be down, with the moment since when.

    Told are those that have been down for `patience` seconds, and those that were `told` to be and answer again; not
    those that are not among the `known` sources any more.
    """
    now_told = {name: since for name, (since, _) in down.items() if name in told or now - since >= patience}
    fell = [(name, down[name][0], down[name][1].why) for name in now_told if name not in told]
    rose = [(name, since, "") for name, since in told.items() if name not in down and name in known]
    messages = []
    for event, said, sources in (("source_down", "down", fell), ("source_up", "answering again", rose)):
        if sources:
            messages.append(_message(event, said, sorted(sources), now))
    return messages, now_told


def _message(event: str, said: str, sources: list[tuple[str, float, str]], now: float) -> dict[str, Any]:
    name, since, why = sources[0]
    if len(sources) == 1:
        text = f"{name} is {said}" + (f" since {rfc3339(since)}: {why}" if why else f", down since {rfc3339(since)}")
    else:
        names = ", ".join(name for name, _, _ in sources[:5])
        text = f"{len(sources)} sources are {said}: {names}{' ...' if len(sources) > 5 else ''}"
    named = [{"source": name, "since": rfc3339(since), "why": why or None} for name, since, why in sources[:NAMED]]
    return {"event": event, "at": rfc3339(now), "text": text, "count": len(sources), "sources": named}


class _Parameter(msgspec.Struct):
    anomalies: list[msgspec.Raw]


class _Machine(msgspec.Struct):
    source: str
    readings: int
    expected: int | float
    parameters: dict[str, _Parameter]


class _Report(msgspec.Struct):
    date: str
    machines: list[_Machine]


def reported(path: Path, now: float) -> dict[str, Any]:
    """What to tell of a report that was written: the day in a sentence.

    Raises:
        OSError: it cannot be read.

    """
    report = msgspec.json.decode(path.read_bytes(), type=_Report)
    anomalies = [
        (sum(len(parameter.anomalies) for parameter in machine.parameters.values()), machine.source)
        for machine in report.machines
    ]
    total = sum(count for count, _ in anomalies)
    readings = sum(machine.readings for machine in report.machines)
    expected = sum(machine.expected for machine in report.machines)
    text = (
        f"{report.date}: {len(report.machines)} machines, {readings:,} of {expected:,.0f} readings, {total:,} anomalies"
    )
    if total:
        text += f", most of them from {max(anomalies)[1]}"
    return {
        "event": "report", "at": rfc3339(now), "text": text, "day": report.date, "machines": len(report.machines),
        "readings": readings, "expected": expected, "anomalies": total,
    }  # fmt: skip


class Notifier:
    """Sends notifications from a thread of its own; nobody waits for it.

    One that is not taken is told as an event, without the URL, which may hold a secret. `pauses` are the seconds before
    each try.
    """

    def __init__(self, tell: Callable[..., None], pauses: Collection[float] = PAUSES) -> None:
        self._tell = tell
        self._pauses = pauses
        self._url: str | None = None
        self._waiting: Queue[dict[str, Any]] = Queue(WAITING)
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)

    def use(self, url: str | None) -> None:
        """Send to this address from now on; without one, nothing is sent."""
        self._url = url
        if url and not self._thread.is_alive():
            self._thread.start()

    def send(self, message: dict[str, Any]) -> None:
        """Let a notification wait to be sent; from any thread, never blocks."""
        if self._url is None:
            return
        try:
            self._waiting.put_nowait(message)
        except Full:
            self._fail(message, "too many notifications wait")

    def _work(self) -> None:
        while True:
            message = self._waiting.get()
            failure = self._post(message)
            if failure:
                self._fail(message, failure.why)

    def _post(self, message: dict[str, Any]) -> Failure | None:
        from etl.sources.http_requests import post  # noqa: PLC0415  only who is notified pays for it

        failure = None
        for pause in self._pauses:
            time.sleep(pause)
            if self._url is None:
                return None
            failure = post(self._url, orjson.dumps(message), TIMEOUT)
            if failure is None:
                return None
        return failure

    def _fail(self, message: dict[str, Any], why: str) -> None:
        log.warning("A notification (%s) was not taken: %s", message["event"], why)
        self._tell("dropped", reason="notify", why=why, about=message["event"])
