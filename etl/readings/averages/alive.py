"""The machines of each source that are alive: their number is bounded before a reading becomes a raw line. Pure."""

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from etl.readings.lines import id_of
from etl.readings.records import Machine, RejectedError

MAX_MACHINES = 10_000
"""Machines of one source, at most: a source that sends a new `id` with every answer must not fill the memory."""
MAX_ID_CHARACTERS = 2 << 20
"""Characters of the ids of one source together, at most: 200 for each of 10,000 machines."""


class _Source:
    """The machines of one source: their ids with the time of the last reading, the longest silent first."""

    __slots__ = ("characters", "last")  # there are tens of thousands of them

    def __init__(self) -> None:
        self.last: dict[Any, float] = {}
        self.characters = 0

    def forget(self, before: float) -> None:
        while self.last:
            machine_id, at = next(iter(self.last.items()))
            if at >= before:
                return
            del self.last[machine_id]
            self.characters -= _length(machine_id)


class Alive:
    """The machines that sent a reading within `silence` seconds, after which their windows start over anyway."""

    def __init__(self, silence: float) -> None:
        self._silence = silence
        self._sources: dict[str, _Source] = {}

    def admit(self, name: str, machine_id: Any, at: float) -> None:
        """Note a reading (`at` in seconds) of a source's machine; RejectedError if too many others of it are alive."""
        machine_id = id_of(machine_id)
        source = self._sources.get(name) or self._sources.setdefault(name, _Source())
        if source.last.pop(machine_id, None) is None:
            source.forget(at - self._silence)
            source.characters += _length(machine_id)
            if len(source.last) >= MAX_MACHINES or source.characters > MAX_ID_CHARACTERS:
                source.characters -= _length(machine_id)
                kind = "long ids" if len(source.last) < MAX_MACHINES else "machines"
                raise RejectedError("too_many", f"{name} has too many {kind} already; is its `id` new in every answer?")
        source.last[machine_id] = at

    def adopt(self, last: Iterable[tuple[Machine, float]]) -> None:
        """Note machines whose readings are in the raw log, with the time of the last one."""
        for (name, machine_id), at in sorted(last, key=itemgetter(1)):
            source = self._sources.setdefault(name, _Source())
            if machine_id not in source.last:
                source.last[machine_id] = at
                source.characters += _length(machine_id)


def _length(machine_id: Any) -> int:
    return len(machine_id) if isinstance(machine_id, str) else 0
