"""Windows rebuilt from readings in reverse order, newest first, until no older reading can matter. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from etl.readings.averages.window import Window, number
from etl.readings.records import Machine


@dataclass(slots=True)
class _Parameter:
    """One parameter of a machine; `edge` is the time of its oldest value, or of a later reading that lacked it."""

    seen: float
    edge: float
    values: list[float] = field(default_factory=list)
    complete: bool = False


@dataclass(slots=True)
class _Machine:
    """One machine: its last reading (`at`), its earliest one so far, and its parameters."""

    at: float
    earliest: float
    parameters: list[_Parameter]
    readings: int = 0
    complete: bool = False


class Rewind:
    """Computes what `step` would have made of all readings from the newest ones alone."""

    def __init__(self, parameters: int, size: int, silence: float) -> None:
        self._parameters = parameters
        self._size = size
        self._silence = silence
        self._machines: dict[Machine, _Machine] = {}

    def __contains__(self, machine: Machine) -> bool:
        return machine in self._machines

    def add(self, machine: Machine, at: float, values: Iterable[Any]) -> None:
        """Add the reading before those added so far."""
        state = self._machines.get(machine)
        if state is None:
            parameters = [_Parameter(at, at) for _ in range(self._parameters)]
            state = self._machines[machine] = _Machine(at, at, parameters)
        if state.complete:
            return
        if state.earliest - at > self._silence:
            state.complete = True
            return
        state.earliest = at
        state.readings += 1
        for parameter, value in zip(state.parameters, values, strict=True):
            if not parameter.complete:
                self._add_value(parameter, at, number(value))
        state.complete = state.readings >= self._size and all(p.complete for p in state.parameters)

    def _add_value(self, parameter: _Parameter, at: float, value: float | None) -> None:
        if value is None:
            parameter.edge = max(parameter.edge, at)
        elif parameter.edge - at > self._silence:
            parameter.complete = True
        else:
            if not parameter.values:
                parameter.seen = at
            parameter.values.append(value)
            parameter.edge = at
            parameter.complete = len(parameter.values) == self._size

    def needs(self, since: float) -> float:
        """The moment (seconds) back to which readings can still matter to a reading at `since` or later."""
        edges = [since]
        for state in self._machines.values():
            if not state.complete:
                edges.append(state.earliest if state.readings < self._size else since)
                edges += [parameter.edge for parameter in state.parameters if not parameter.complete]
        return min(edges) - self._silence

    def windows(self) -> dict[Machine, Window]:
        """The window of each machine that was seen."""
        return {
            machine: Window(
                min(state.readings, self._size),
                state.at,
                tuple(tuple(reversed(parameter.values)) for parameter in state.parameters),
                tuple(parameter.seen for parameter in state.parameters),
            )
            for machine, state in self._machines.items()
        }
