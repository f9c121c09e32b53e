"""Notifications to `notify.url`: sources that stay down and answer again, and each night's report."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from queue import Full, Queue
from typing import Any

import orjson

from etl.live.standing import Down
from etl.readings.records import Failure
from etl.readings.times import rfc3339

MAX_LISTED_SOURCES = 100
"""Sources that one notification lists; the text names the first few."""
TEXT_SOURCES = 5
MAX_PENDING = 100
"""Notifications that wait to be sent, at most; a receiver that is down must not fill the memory."""
TIMEOUT_S = 10.0
"""Seconds a receiver has to accept a notification."""
RETRY_PAUSES_S = (0.0, 5.0, 30.0)
"""Seconds before each attempt to send a notification."""

log = logging.getLogger("etl")


def outages(
    down: Mapping[str, Down],
    long_down: Mapping[str, Down],
    notified: Mapping[str, float],
    names: Collection[str],
    now: float,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The notifications to send now, and the sources that were `notified` as down by then, with the time since when.

    `long_down` are those of the `down` sources that are down long enough to notify somebody. A source that was notified
    and answers again is notified once more, unless it is not among the `names` of the config any more.
    """
    now_notified = {name: state.since for name, state in down.items() if name in notified or name in long_down}
    fell = [(name, down[name].since, down[name].failure.why) for name in now_notified if name not in notified]
    rose = [(name, since, "") for name, since in notified.items() if name not in down and name in names]
    messages = []
    for event, state, sources in (("source_down", "down", fell), ("source_up", "answering again", rose)):
        if sources:
            messages.append(_message(event, state, sorted(sources), now))
    return messages, now_notified


def _message(event: str, state: str, sources: list[tuple[str, float, str]], now: float) -> dict[str, Any]:
    name, since, why = sources[0]
    if len(sources) == 1:
        text = f"{name} is {state}" + (f" since {rfc3339(since)}: {why}" if why else f", down since {rfc3339(since)}")
    else:
        names = ", ".join(name for name, _, _ in sources[:TEXT_SOURCES])
        text = f"{len(sources)} sources are {state}: {names}{' ...' if len(sources) > TEXT_SOURCES else ''}"
    shown = sources[:MAX_LISTED_SOURCES]
    listed = [{"source": name, "since": rfc3339(since), "why": why or None} for name, since, why in shown]
    return {"event": event, "at": rfc3339(now), "text": text, "count": len(sources), "sources": listed}


def report_message(summary: dict[str, Any], now: float) -> dict[str, Any]:
    """The notification of a written report, from its summary."""
    return {"event": "report", "at": rfc3339(now), **summary}


class Notifier:
    """Sends notifications from a thread of its own; nobody waits for it.

    One that is not accepted becomes an event, without the URL: it may be secret. `pauses`: seconds before attempts.
    """

    def __init__(self, record: Callable[..., None], pauses: Collection[float] = RETRY_PAUSES_S) -> None:
        self._record = record
        self._pauses = pauses
        self._url: str | None = None
        self._queue: Queue[dict[str, Any]] = Queue(MAX_PENDING)
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)

    def use(self, url: str | None) -> None:
        """Send to this address from now on; without one, nothing is sent."""
        self._url = url
        if url and not self._thread.is_alive():
            self._thread.start()

    def send(self, message: dict[str, Any]) -> None:
        """Queue a notification; from any thread, never blocks."""
        if self._url is None:
            return
        try:
            self._queue.put_nowait(message)
        except Full:
            self._fail(message, "too many notifications wait")

    def _work(self) -> None:
        while True:
            message = self._queue.get()
            if failure := self._post(message):
                self._fail(message, failure.why)

    def _post(self, message: dict[str, Any]) -> Failure | None:
        from etl.sources.http.requests_transport import post  # noqa: PLC0415  requests takes 6 MiB, and few notify

        failure = None
        for pause in self._pauses:
            time.sleep(pause)
            if self._url is None or not (failure := post(self._url, orjson.dumps(message), TIMEOUT_S)):
                return None
        return failure

    def _fail(self, message: dict[str, Any], why: str) -> None:
        log.warning("The notification of %s was not accepted by notify.url: %s", message["event"], why)
        self._record("dropped", reason="notify", why=why, about=message["event"])
