"""Windows rebuilt from readings taken backwards: the newest first, until nothing older can matter. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from etl.readings.records import Machine
from etl.readings.window import Window, number


class _Column:
    """One parameter's window on the way back; `edge` is the latest reading since its oldest kept value."""

    __slots__ = ("done", "edge", "seen", "values")

    def __init__(self, edge: float) -> None:
        self.values: list[float] = []
        self.seen = edge
        self.edge = edge
        self.done = False


class _Past:
    """One machine on the way back."""

    __slots__ = ("at", "columns", "done", "earliest", "readings")

    def __init__(self, at: float, parameters: int) -> None:
        self.at = at
        self.earliest = at
        self.readings = 0
        self.columns = [_Column(at) for _ in range(parameters)]
        self.done = False


class Rewind:
    """What `step` would have made of all readings, found from the newest ones alone."""

    def __init__(self, parameters: int, size: int, silence: float) -> None:
        self._parameters = parameters
        self._size = size
        self._silence = silence
        self._machines: dict[Machine, _Past] = {}

    def is_done(self, machine: Machine) -> bool:
        """Whether no older reading of a machine can matter."""
        past = self._machines.get(machine)
        return past is not None and past.done

    def add(self, machine: Machine, at: float, values: Iterable[Any]) -> None:
        """Take the reading before those taken so far."""
        past = self._machines.get(machine)
        if past is None:
            past = self._machines[machine] = _Past(at, self._parameters)
        if past.done:
            return
        if past.earliest - at > self._silence:
            past.done = True
            return
        past.earliest = at
        past.readings += 1
        for column, value in zip(past.columns, values, strict=True):
            if not column.done:
                self._take(column, at, number(value))
        past.done = past.readings >= self._size and all(column.done for column in past.columns)

    def _take(self, column: _Column, at: float, value: float | None) -> None:
        if value is None:
            column.edge = max(column.edge, at)
        elif column.edge - at > self._silence:
            column.done = True
        else:
            if not column.values:
                column.seen = at
            column.values.append(value)
            column.edge = at
            column.done = len(column.values) == self._size

    def needs(self, since: float) -> float:
        """The moment (seconds) back to which readings can still matter to a reading at `since` or later."""
        edges = [since]
        for past in self._machines.values():
            if not past.done:
                edges.append(past.earliest if past.readings < self._size else since)
                edges += [column.edge for column in past.columns if not column.done]
        return min(edges) - self._silence

    def windows(self) -> dict[Machine, Window]:
        """The window of each machine that was seen."""
        return {
            machine: Window(
                min(past.readings, self._size),
                past.at,
                tuple(tuple(reversed(column.values)) for column in past.columns),
                tuple(column.seen for column in past.columns),
            )
            for machine, past in self._machines.items()
        }
