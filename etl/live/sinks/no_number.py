"""Machines that send no number for a parameter: an event and a log line for each, in limited number."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from etl.readings.averages.fold import Update
from etl.readings.averages.no_number import NO_NUMBER_READINGS, States, explain, step_states
from etl.readings.averages.window import number, silence_s
from etl.readings.lines import MAX_TEXT_CHARACTERS
from etl.readings.records import Machine
from etl.readings.text import plural, printable, shortened
from etl.storage.events import Record

MAX_EVENTS_PER_INTERVAL = 100
"""Events, each with a log line; further ones are counted: a wrong config for a fleet is one fault, not 30,000."""
MAX_MACHINES = 50_000
"""Machines without a number that are remembered: a source may send another id in every answer."""
INT64 = range(-(1 << 63), 1 << 63)
"""The integers that an event line can hold."""

log = logging.getLogger("etl")


class _Machine(NamedTuple):
    """When the machine's last reading was polled (seconds since the epoch), and the state of each parameter."""

    at: float
    states: States


class NoNumber:
    """Notices parameters without a number for NO_NUMBER_READINGS readings in a row. Only the writer changes it.

    `parameters` and `interval` (seconds) are those of the config; `record` records an event. `lacking` is how many
    parameters of machines have no number now.
    """

    def __init__(self, parameters: Mapping[str, str], interval: float, record: Record) -> None:
        self.lacking = 0
        self._parameters = list(parameters.items())
        self._interval = interval
        self._record = record
        self._machines: OrderedDict[Machine, _Machine] = OrderedDict()  # oldest reading first; none with all numbers
        self._since = 0.0
        self._events = 0
        self._unnamed: Counter[int] = Counter()

    def keep(self, names: Collection[str]) -> None:
        """Forget the machines of other sources."""
        for machine in [machine for machine in self._machines if machine[0] not in names]:
            self._forget(machine)

    def take(self, updates: Sequence[Update]) -> None:
        """Check new readings."""
        if updates:
            self._start_interval(updates[-1].window.at)
        for update in updates:
            if update.machine not in self._machines and None not in map(number, update.values):
                continue
            has_number = [number(value) is not None for value in update.values]
            at = update.window.at
            self._forget_silent(at)
            before = self._forget(update.machine) or (0,) * len(has_number)
            states = step_states(before, has_number)
            if any(states):
                self._machines[update.machine] = _Machine(at, states)
                self.lacking += states.count(NO_NUMBER_READINGS)
            for place, (old, new) in enumerate(zip(before, states, strict=True)):
                if old < new == NO_NUMBER_READINGS:
                    self._report(update, place)

    def _forget(self, machine: Machine) -> States | None:
        entry = self._machines.pop(machine, None)
        if entry is None:
            return None
        self.lacking -= entry.states.count(NO_NUMBER_READINGS)
        return entry.states

    def _forget_silent(self, now: float) -> None:
        """Forget machines that are silent for so long that their windows start over, and the oldest beyond a limit."""
        horizon = now - silence_s(self._interval)
        while self._machines:
            machine = next(iter(self._machines))
            if self._machines[machine].at >= horizon and len(self._machines) <= MAX_MACHINES:
                return
            self._forget(machine)

    def _report(self, update: Update, place: int) -> None:
        """Report the parameter at this place, or only count it."""
        if self._events >= MAX_EVENTS_PER_INTERVAL:
            self._unnamed[place] += 1
            return
        self._events += 1
        source, machine_id = update.machine
        parameter, field = self._parameters[place]
        reason = "missing" if update.values[place] is None else "not_number"
        why = explain(update.line, [field])
        keys = {"id": _bounded(machine_id), "parameter": parameter, "field": field}
        codes = self._record("no_number", source=source, reason=reason, why=why, **keys)
        log.warning("%s sends %s", source, why, extra=codes)

    def _start_interval(self, now: float) -> None:
        """Once an interval (`now` in seconds since the epoch), report how many were only counted."""
        if abs(now - self._since) < self._interval:
            return
        self._since, self._events = now, 0
        for place, count in sorted(self._unnamed.items()):
            parameter, field = self._parameters[place]
            subject = f"{plural(count, 'more machine')} {'sends' if count == 1 else 'send'}"
            why = f"{subject} no number as {printable(field)}; `etl status` names their sources"
            keys = {"parameter": parameter, "field": field, "machines": count}
            log.warning("%s", why, extra=self._record("no_number", reason="more", why=why, **keys))
        self._unnamed.clear()


def _bounded(machine_id: str | int | float | None) -> str | int | float | None:
    """The id as an event can hold it: a text of limited length, a number of 64 bits."""
    if type(machine_id) is str or (type(machine_id) is int and machine_id not in INT64):
        return shortened(str(machine_id), MAX_TEXT_CHARACTERS)
    return machine_id
