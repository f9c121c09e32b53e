"""Conditions of alarms found from the averages before a place, newest first: those that hold and are not raised yet."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec

from etl.readings.alarms.conditions import Conditions, Rules, Sample, States, ends, rules_for, step
from etl.readings.alarms.fold import sample_decoder
from etl.readings.averages.window import silence_s
from etl.readings.records import AlarmRule, Machine, RejectedError, Settings
from etl.storage.places import Place, blocks_backwards, nth_place
from etl.storage.settings_log import SettingsLog


class _Era(NamedTuple):
    """What settings mean for alarms: averages of an era with another `shape` start conditions over."""

    settings: Settings
    decode: Callable[[bytes], Sample]
    silence_ms: int
    rules: dict[str, Rules]

    def rules_of(self, source: str, current: Collection[AlarmRule]) -> Rules:
        """The rules for a source that are `current` ones as well."""
        if source not in self.rules:
            rules = [rule for rule in self.settings.alarms if rule in current]
            self.rules[source] = rules_for(rules, self.settings.parameters, source)
        return self.rules[source]


class _History:
    """The readings of a machine before a place, newest first, as far as its conditions depend on them."""

    def __init__(self, raised: Conditions) -> None:
        self.raised = raised
        self.values: dict[str, object] = {}
        self.readings: list[tuple[Sample, Rules, _Era]] = []
        self.is_done = False
        self._open: set[str] | None = None

    @property
    def has_values(self) -> bool:
        """Whether the last average or status is known for everything raised."""
        return len(self.values) == len(self.raised)

    def add(self, sample: Sample, rules: Rules, era: _Era) -> None:
        """Add the reading before those added so far."""
        for rule, column, *_ in rules:
            value = sample.status if column is None else sample.averages[column]
            if value is not None and rule.name in self.raised:
                self.values.setdefault(rule.name, value)
        if self.is_done:
            return
        if self.readings:
            later, _, later_era = self.readings[-1]
            if later.at - sample.at > later_era.silence_ms or later_era.settings.shape != era.settings.shape:
                self.is_done = True
                return
        pending = [each for each in rules if each[0].name not in self.raised]
        self.readings.append((sample, pending, era))
        holds, _ = step({}, sample, pending, era.silence_ms)
        span = self.readings[0][0].at - sample.at
        still = {rule.name for rule, *_ in pending if rule.name in holds and span <= rule.hold_ms}
        self._open = still if self._open is None else self._open & still
        self.is_done = not self._open

    def conditions(self) -> tuple[Conditions, bool]:
        """The conditions at the place, and whether what is raised agrees with these readings."""
        conditions: Conditions = {}
        after: _Era | None = None
        for sample, rules, era in reversed(self.readings):
            if after and after.settings.shape != era.settings.shape:
                conditions = {}
            conditions, _ = step(conditions, sample, rules, era.silence_ms)
            after = era
        agrees = not any(condition.raised for condition in conditions.values())
        return conditions, agrees


def conditions_before(
    settings_log: SettingsLog, place: Place, raised: States, values_from: str, machines: Mapping[Machine, object]
) -> tuple[States, bool]:
    """The conditions of all machines just before a place where these are raised, with their last values.

    What is raised has the values it had before the day `values_from`, or later ones.

    `machines` are those with windows at that place: a condition of another one starts over with its next reading. Also
    whether what is raised agrees with the averages: a machine whose last average is inside raises nothing, one that is
    beyond a limit for long enough does.
    """
    current = settings_log.before(place.day, place.line)
    watched = {source: bool(rules_for(current.alarms, current.parameters, source)) for source, _ in machines}
    histories: dict[Machine, _History] = {}
    open_ones = {machine for machine in machines if watched[machine[0]]}
    without_value = set(raised)
    for day, era, sample in _samples_before(settings_log, place):
        machine = sample.machine
        if machine in open_ones or machine in without_value:
            history = histories.get(machine)
            if history is None:
                history = histories[machine] = _History(raised.get(machine, {}))
            history.add(sample, era.rules_of(machine[0], current.alarms), era)
            if history.is_done:
                open_ones.discard(machine)
            if history.has_values:
                without_value.discard(machine)
        if not open_ones and (not without_value or day < values_from):
            break
    return _joined(current, raised, histories)


def _joined(current: Settings, raised: States, histories: Mapping[Machine, _History]) -> tuple[States, bool]:
    states: States = {}
    agrees = True
    for machine in {*raised, *histories}:
        known = dict(raised.get(machine, {}))
        history = histories.get(machine)
        if history:
            for name, value in history.values.items():
                known[name] = msgspec.structs.replace(known[name], value=value)
            conditions, is_sound = history.conditions()
            agrees = agrees and is_sound and not _is_ended(current, known)
            known |= conditions
        if known:
            # In the order of the config, as the fold keeps them.
            states[machine] = {rule.name: known[rule.name] for rule in current.alarms if rule.name in known}
    return states, agrees


def _is_ended(current: Settings, raised: Conditions) -> bool:
    """Whether the last value of an alarm that is said to be raised would have ended it."""
    conditions = [(rule, raised[rule.name]) for rule in current.alarms if rule.name in raised]
    return any(condition.value is not None and ends(rule, condition.value) for rule, condition in conditions)


def _samples_before(settings_log: SettingsLog, place: Place) -> Iterator[tuple[str, _Era, Sample]]:
    """The averages lines before a place, newest first, each with its day and what its settings mean."""
    folder = settings_log.folder
    eras: dict[int, _Era] = {}
    for day in reversed([day for day in folder.days("averages") if day <= place.day]):
        number = place.line - 1 if day == place.day else folder.count("averages", day)
        end = nth_place(folder, day, number + 1, "averages").offset
        segments = settings_log.segments(day)
        with folder.open_anywhere("averages", day) as file:
            for _, lines in blocks_backwards(file, 0, end if day == place.day else file.seek(0, os.SEEK_END)):
                for line in reversed(lines):
                    while number < segments[-1][0] and len(segments) > 1:
                        segments.pop()
                    settings = segments[-1][2]
                    era = eras.get(id(settings))
                    if era is None:
                        silence_ms = round(1000 * silence_s(settings.interval))
                        era = eras[id(settings)] = _Era(settings, sample_decoder(settings.parameters), silence_ms, {})
                    number -= 1
                    with suppress(RejectedError):
                        yield day, era, era.decode(line)
