"""Notifications are sent to each receiver of the config from a thread of its own; nobody waits for them."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue

from etl.live.notifications.messages import AlarmNews, Message
from etl.live.notifications.receivers import deliver, scheme_of
from etl.storage.events import Record

MAX_PENDING = 100
"""Notifications that wait to be sent, at most; a receiver that is down must not fill the memory."""
TIMEOUT_S = 10.0
"""Seconds a receiver has to accept a notification."""
RETRY_PAUSES_S = (0.0, 5.0, 30.0)
"""Seconds before each attempt to send a notification."""

log = logging.getLogger("etl")


class Notifier:
    """Sends notifications to all receivers; one that is down delays neither the caller nor the other receivers.

    A notification that is not accepted becomes an event, without the address: it may be secret. `pauses`: seconds
    before attempts.
    """

    def __init__(self, record: Record, pauses: Collection[float] = RETRY_PAUSES_S) -> None:
        self._record = record
        self._pauses = pauses
        self._receivers: dict[str, _Receiver] = {}

    def use(self, addresses: Sequence[str]) -> None:
        """Send to these addresses from now on; what waits for one that is not among them any more is not sent."""
        previous = self._receivers
        self._receivers = {
            address: previous.get(address) or _Receiver(address, self._fail, self._pauses) for address in addresses
        }
        for address in previous.keys() - self._receivers.keys():
            previous[address].close()

    def send(self, news: Message | AlarmNews) -> None:
        """Queue a notification; from any thread, never blocks. Alarms that wait one after another are sent as one."""
        for receiver in self._receivers.values():
            receiver.send(news)

    def _fail(self, address: str, event: str, why: str) -> None:
        why = f"{receiver_name(list(self._receivers), address)}: {why}"
        codes = self._record("dropped", reason="notify", why=why, about=event)
        log.warning("The notification of %s was not delivered to %s", event, why, extra=codes)


def receiver_name(addresses: Sequence[str], address: str) -> str:
    """A receiver by its place in the config and its scheme: its address may be secret."""
    place = f" {addresses.index(address) + 1}" if address in addresses else ""
    return f"receiver{place} ({scheme_of(address)})"


class _Receiver:
    """One address, its thread, and the notifications that wait for it."""

    def __init__(self, address: str, fail: Callable[[str, str, str], None], pauses: Collection[float]) -> None:
        self._address = address
        self._fail = fail
        self._pauses = pauses
        self._queue: Queue[Message | AlarmNews] = Queue(MAX_PENDING)
        self._closed = threading.Event()
        threading.Thread(target=self._work, name="notify", daemon=True).start()

    def send(self, news: Message | AlarmNews) -> None:
        """Queue a notification."""
        try:
            self._queue.put_nowait(news)
        except Full:
            event = "alarm" if isinstance(news, AlarmNews) else news["event"]
            self._fail(self._address, event, "too many notifications wait")

    def close(self) -> None:
        """Send nothing more, and end the thread."""
        self._closed.set()
        with suppress(Full):
            self._queue.put_nowait({})  # wakes a thread that waits

    def _work(self) -> None:
        following: Message | AlarmNews | None = None
        while not self._closed.is_set():
            news, following = following or self._queue.get(), None
            if isinstance(news, AlarmNews):
                news, following = self._merge_waiting(news)
            message = news.message(time.time()) if isinstance(news, AlarmNews) else news
            if why := self._deliver(message):
                self._fail(self._address, message["event"], why)

    def _merge_waiting(self, news: AlarmNews) -> tuple[AlarmNews, Message | None]:
        """The alarms together with those that wait behind them, and the first other notification, if there is one."""
        with suppress(Empty):
            while True:
                following = self._queue.get_nowait()
                if not isinstance(following, AlarmNews):
                    return news, following
                news = news.merge(following)
        return news, None

    def _deliver(self, message: Message) -> str:
        """Send a notification, in several attempts; why it was not accepted, or empty."""
        why = ""
        for pause in self._pauses:
            time.sleep(pause)
            if self._closed.is_set():
                return ""
            failure = deliver(self._address, message, TIMEOUT_S)
            if failure is None:
                return ""
            why = failure.why
        return why
