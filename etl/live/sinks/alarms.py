"""The alarms that are raised now, for console, API and metrics; each change is handed on to be notified."""

from collections import Counter
from collections.abc import Callable, Sequence

from etl.live.writer import Batch
from etl.readings.alarms.conditions import Change
from etl.readings.records import Machine

Tell = Callable[[Sequence[Change]], None]
"""Takes the changes of one batch; it must not block."""


class RaisedAlarms:
    """Keeps what is raised. Only the writer changes it; other threads read copies. `notify` takes each batch."""

    def __init__(self) -> None:
        self.notify: Tell = lambda _: None
        self._raised: dict[tuple[Machine, str], Change] = {}

    def take(self, batch: Batch) -> None:
        """Take the changes of a written batch."""
        if not batch.changes:
            return
        for change in batch.changes:
            key = change.machine, change.rule.name
            if change.state == "raised":
                self._raised[key] = self._raised.get(key, change) if change.continued else change
            else:
                self._raised.pop(key, None)
        self.notify(batch.changes)

    def restore(self, raised: Sequence[Change]) -> None:
        """Start with what recovery found raised; nobody is notified, as the changes were or come as a batch."""
        self._raised = {(change.machine, change.rule.name): change for change in raised}

    def raised(self) -> list[Change]:
        """What is raised, in the order in which it was raised since the start."""
        return list(self._raised.copy().values())

    def counts(self) -> Counter[str]:
        """How many machines have each alarm, by its name."""
        return Counter(change.rule.name for change in self.raised())
