"""The sources of MQTT, each with a subscription of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from etl.config.sources.mqtt import MqttSource
from etl.sources.contract import Context, Deliver
from etl.sources.mqtt.subscription import Subscription


class MqttTransport:
    """Delivers messages as they arrive; a poll says whether the connection stands.

    A source connects with its first poll. After a reload its connection goes on, unless its address or client id
    changed: the new one begins when the old one has ended, as two clients with one id would disconnect each other.
    """

    def __init__(self, sources: Sequence[MqttSource], context: Context) -> None:
        previous = context.previous.subscriptions if isinstance(context.previous, MqttTransport) else {}
        self.subscriptions: dict[str, Subscription] = {}
        for source in sources:
            old = previous.get(source.name)
            if old and old.continues(source, context):
                old.owner = self
                self.subscriptions[source.name] = old
        replaced = [old for old in previous.values() if old.owner is not self]
        for source in sources:
            if source.name not in self.subscriptions:
                before = [old for old in replaced if old.source.session == source.session]
                self.subscriptions[source.name] = Subscription(self, source, context, before)

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; messages go to `deliver` from now on."""
        for name in names:
            self.subscriptions[name].poll(deliver)

    def close(self) -> None:
        """Deliver no further message; what was delivered is acknowledged once it is written."""
        for subscription in self._own():
            subscription.close()

    def settle(self, seconds: float) -> None:
        """Acknowledge what is written, and disconnect; waits up to so many seconds. Call it after `close`."""
        deadline = time.monotonic() + seconds
        for subscription in self._own():
            subscription.end()
        for subscription in self._own():
            subscription.join(max(0.0, deadline - time.monotonic()))

    def _own(self) -> list[Subscription]:
        """The subscriptions that no later transport took over."""
        return [subscription for subscription in self.subscriptions.values() if subscription.owner is self]
