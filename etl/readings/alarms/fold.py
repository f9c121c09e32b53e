"""The fold from averages lines to alarms lines. Live polling, start, replay, rebuild and verify share it. Pure."""

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import msgspec

from etl.readings.alarms.conditions import (
    Change,
    Condition,
    Rules,
    Sample,
    States,
    continued,
    end_changed,
    is_quiet,
    rules_for,
    step,
)
from etl.readings.averages.fold import Update
from etl.readings.averages.window import silence_s
from etl.readings.lines import UNREADABLE
from etl.readings.records import Machine, RejectedError, Settings
from etl.readings.times import rfc3339


class AlarmFold:
    """Adds readings in the order of the raw log; `states` has the alarms that are raised or may be soon.

    `settings` govern the line before the next one, which is of `day`, or of no day yet.
    """

    def __init__(self, settings: Settings, day: str = "", states: States | None = None) -> None:
        self.states: States = states or {}
        self._day = day
        self._settings = settings
        self._silence_ms = round(1000 * silence_s(settings.interval))
        self._rules: dict[str, Rules] = {}

    def raised(self) -> list[Change]:
        """The alarms that are raised now, each as the change at the last reading of its machine."""
        rules = {rule.name: rule for rule in self._settings.alarms}
        return [
            Change(machine, condition.at, rules[name], condition, "raised")
            for machine, conditions in self.states.items()
            for name, condition in conditions.items()
            if condition.raised
        ]

    def set_raised(self, raised: States) -> None:
        """Let exactly these alarms be raised; conditions that are not raised yet stay."""
        states = {
            machine: {name: each for name, each in conditions.items() if not each.raised}
            for machine, conditions in self.states.items()
        }
        for machine, conditions in raised.items():
            states[machine] = {**states.get(machine, {}), **conditions}
        self.states = {machine: conditions for machine, conditions in states.items() if conditions}

    def forget(self, machines: Container[Machine]) -> None:
        """Forget the conditions of every machine but these that are not raised: they start over with a reading."""
        for machine in [machine for machine in self.states if machine not in machines]:
            conditions = {name: each for name, each in self.states[machine].items() if each.raised}
            if conditions:
                self.states[machine] = conditions
            else:
                del self.states[machine]

    def add(self, day: str, settings: Settings, sample: Sample) -> list[Change]:
        """The changes that a reading of a day causes; `settings` govern it."""
        changes: list[Change] = []
        if day != self._day:
            self._day = day
            changes += continued(self.states, sample.at, self._settings.alarms)
        if settings is not self._settings:
            changes += self._use(settings, sample.at)
        source = sample.machine[0]
        rules = self._rules.get(source)
        if rules is None:
            rules = self._rules[source] = rules_for(settings.alarms, settings.parameters, source)
        if rules:
            conditions, following = step(self.states.get(sample.machine, {}), sample, rules, self._silence_ms)
            if conditions:
                self.states[sample.machine] = conditions
            else:
                self.states.pop(sample.machine, None)
            changes += following
        return changes

    def add_update(self, day: str, settings: Settings, update: Update) -> Sequence[Change]:
        """Do what `add` does, with a reading that was just averaged; at little cost where nothing changes."""
        rules = self._rules.get(update.machine[0])
        if (
            rules is not None
            and day == self._day
            and settings is self._settings
            and update.machine not in self.states
            and is_quiet(update.means, update.status, rules)
        ):
            return ()
        at = round(update.window.at * 1000)
        return self.add(day, settings, Sample(update.machine, at, update.means, update.status))

    def _use(self, settings: Settings, at: int) -> list[Change]:
        """Go on under other settings: raised alarms of changed rules end; where windows start over, conditions do."""
        before, self._settings = self._settings, settings
        self._rules = {}
        self._silence_ms = round(1000 * silence_s(settings.interval))
        changes = end_changed(self.states, at, before.alarms, settings.alarms)
        if before.shape != settings.shape:
            for machine, conditions in self.states.items():
                self.states[machine] = {name: each for name, each in conditions.items() if each.raised}
        self.states = {machine: conditions for machine, conditions in self.states.items() if conditions}
        return changes


def sample_decoder(parameters: Iterable[str]) -> Callable[[bytes], Sample]:
    """Build the decoder of averages lines, which raises RejectedError for a damaged one."""
    keys = ("source", "id", "polled_at", "status", *(f"average_{parameter}" for parameter in parameters))
    types: dict[str, Any] = {"source": str, "polled_at": datetime}
    names = {f"k{i}": key for i, key in enumerate(keys)}
    struct = msgspec.defstruct(
        "AveragesLine", [(name, types.get(key, Any)) for name, key in names.items()], rename=names, gc=False
    )
    decode, take = msgspec.json.Decoder(struct).decode, attrgetter(*names)

    def decode_line(line: bytes) -> Sample:
        try:
            source, machine_id, polled_at, status, *averages = take(decode(line))
        except UNREADABLE as error:
            raise RejectedError("damaged", f"the line is damaged: {error}") from None
        return Sample((source, machine_id), _millis(polled_at), averages, status)

    return decode_line


def alarm_line(change: Change) -> bytes:
    """Encode a line of the alarms log."""
    rule, condition = change.rule, change.condition
    source, machine_id = change.machine
    record: dict[str, Any] = {
        "at": rfc3339(change.at / 1000),
        "alarm": rule.name,
        "state": change.state,
        "source": source,
        "id": machine_id,
        "parameter": rule.parameter,
        "value": condition.value,
        "limit": condition.limit,
        "since": rfc3339(condition.since / 1000),
    }
    if change.state == "ended":
        record["seconds"] = (change.at - condition.since) / 1000
    if change.continued:
        record["continued"] = True
    if change.reason:
        record["reason"] = change.reason
    return msgspec.json.encode(record) + b"\n"


class _AlarmLine(msgspec.Struct):
    at: datetime
    alarm: str
    state: Literal["raised", "ended"]
    source: str
    id: str | int | float | None
    since: datetime
    value: Any = None
    limit: float | None = None
    continued: bool = False


class AlarmRecord(NamedTuple):
    """An alarms line read back: when (milliseconds since the epoch), of which machine and rule, and its condition."""

    at: int
    machine: Machine
    name: str
    condition: Condition
    is_continued: bool


_decode_alarm = msgspec.json.Decoder(_AlarmLine).decode


def parse_alarm(line: bytes) -> AlarmRecord:
    """Decode an alarms line; RejectedError if it is damaged."""
    try:
        read = _decode_alarm(line)
    except UNREADABLE as error:
        raise RejectedError("damaged", f"the line is damaged: {error}") from None
    at, since = _millis(read.at), _millis(read.since)
    condition = Condition(since, at, read.value, read.limit, read.state == "raised")
    return AlarmRecord(at, (read.source, read.id), read.alarm, condition, read.continued)


def _millis(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
