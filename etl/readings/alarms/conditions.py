"""Alarms: raised while an average is beyond a limit, or while a machine has a status. State in, state out. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from math import inf
from typing import Any, NamedTuple

import msgspec

from etl.readings.digits import quantity
from etl.readings.records import AlarmRule, Machine


class Sample(NamedTuple):
    """What alarms depend on in a reading: its machine, when it was polled, its averages and its status.

    `at` is in milliseconds since the epoch; `averages` have the order of the parameters.
    """

    machine: Machine
    at: int
    averages: Sequence[float | None]
    status: Any


class Condition(msgspec.Struct, frozen=True, gc=False):
    """The condition of a rule that holds for a machine `since` a reading, or that has not ended yet.

    `value` is the last average or status and `at` the time of its reading; `limit` is the one that was crossed. Times
    are in milliseconds since the epoch.
    """

    since: int
    at: int
    value: Any
    limit: float | None
    raised: bool


Conditions = Mapping[str, Condition]
"""The conditions of a machine by the name of their rule; most machines have none."""
States = dict[Machine, Conditions]
"""The state of the fold from averages lines to alarms lines: the machines that have conditions."""
Rules = Sequence[tuple[AlarmRule, int | None, float, float]]
"""The rules for a source in the order of the config.

Each has the column of its average (None: the status) and its limits, infinite where it has none.
"""


class Change(NamedTuple):
    """An alarm that is raised or ended at a reading, or continued in a new day.

    `condition` is that of a raised alarm; that of an ended one has the value that ended it. `reason` is "settings" if
    no reading but a change of the config ended it.
    """

    machine: Machine
    at: int
    rule: AlarmRule
    condition: Condition
    state: str
    continued: bool = False
    reason: str | None = None


def crossed_limit(change: Change, unit: str | None) -> str:
    """The limit that the average is beyond, in words: "above 80 °C"."""
    side = "above" if change.condition.limit == change.rule.above else "below"
    return f"{side} {quantity(change.condition.limit or 0.0, unit)}"


def rules_for(rules: Iterable[AlarmRule], parameters: Iterable[str], source: str) -> Rules:
    """The rules that apply to a source; `parameters` have the order of the averages."""
    columns: dict[str | None, int | None] = {parameter: column for column, parameter in enumerate(parameters)}
    columns[None] = None
    return [
        (
            rule,
            columns[rule.parameter],
            -inf if rule.below is None else rule.below,
            inf if rule.above is None else rule.above,
        )
        for rule in rules
        if rule.parameter in columns and fnmatchcase(source, rule.sources)
    ]


def limits_of(rules: Iterable[AlarmRule], parameters: Iterable[str], source: str) -> dict[str, list[float]]:
    """The limits of the alarms of a source, by parameter."""
    parameters = list(parameters)
    limits: dict[str, list[float]] = {parameter: [] for parameter in parameters}
    for rule, *_ in rules_for(rules, parameters, source):
        if rule.parameter is not None:
            limits[rule.parameter] += [limit for limit in (rule.above, rule.below) if limit is not None]
    return limits


def step(conditions: Conditions, sample: Sample, rules: Rules, silence: int) -> tuple[Conditions, list[Change]]:
    """Add a reading to the conditions of its machine; also the alarms it raises or ends, in the order of the rules.

    After more than `silence` milliseconds without a reading a condition that is not raised starts over.
    """
    following: dict[str, Condition] = {}
    changes: list[Change] = []
    for rule, column, *_ in rules:
        value = sample.status if column is None else sample.averages[column]
        previous = conditions.get(rule.name)
        condition = _next(previous, sample.at, rule, value, silence)
        if condition:
            following[rule.name] = condition
            if condition.raised and not (previous and previous.raised):
                changes.append(Change(sample.machine, sample.at, rule, condition, "raised"))
        elif previous and previous.raised:
            last = msgspec.structs.replace(previous, value=value)
            changes.append(Change(sample.machine, sample.at, rule, last, "ended"))
    return following, changes


def is_quiet(averages: Sequence[float | None], status: Any, rules: Rules) -> bool:
    """Whether a reading of a machine without conditions begins none: nearly every reading, so it must cost little."""
    for rule, column, below, above in rules:
        value = status if column is None else averages[column]
        if value is not None and (value == rule.status if column is None else not below <= value <= above):
            return False
    return True


def _next(previous: Condition | None, at: int, rule: AlarmRule, value: Any, silence: int) -> Condition | None:
    """The condition of a rule after a reading; None if it does not hold.

    Without a value an alarm neither begins nor ends, and a condition that is not raised starts over: the window of an
    average without a value did, too.
    """
    if previous and previous.raised:
        if value is None or not ends(rule, value):
            return msgspec.structs.replace(previous, at=at, value=previous.value if value is None else value)
        return None
    if value is None:
        return None
    if rule.status is not None:
        limit = None
        if value != rule.status:
            return None
    elif rule.above is not None and value > rule.above:
        limit = rule.above
    elif rule.below is not None and value < rule.below:
        limit = rule.below
    else:
        return None
    since = previous.since if previous and at - previous.at <= silence else at
    return Condition(since, at, value, limit, at - since >= rule.hold_ms)


def ends(rule: AlarmRule, value: Any) -> bool:
    """Whether a value ends a raised alarm: back inside of the limits by the deadband, or another status."""
    if rule.status is not None:
        return bool(value != rule.status)
    return (rule.above is None or value <= rule.above - rule.deadband) and (
        rule.below is None or value >= rule.below + rule.deadband
    )


def continued(states: States, at: int, rules: Iterable[AlarmRule]) -> Iterator[Change]:
    """The raised alarms as changes of the reading at `at`, the first one of a day; machines in a fixed order."""
    by_name = {rule.name: rule for rule in rules}
    for machine in sorted(states, key=repr):
        for name, condition in states[machine].items():
            if condition.raised and name in by_name:
                yield Change(machine, at, by_name[name], condition, "raised", continued=True)


def end_changed(states: States, at: int, before: Sequence[AlarmRule], after: Sequence[AlarmRule]) -> list[Change]:
    """End the raised alarms of each rule that went or changed, and remove its conditions; updates `states` in place."""
    changed = [rule for rule in before if rule not in after]
    changes = []
    for machine in sorted(states, key=repr):
        for rule in changed:
            condition = states[machine].get(rule.name)
            if condition and condition.raised:
                changes.append(Change(machine, at, rule, condition, "ended", reason="settings"))
        names = {rule.name for rule in changed}
        states[machine] = {name: each for name, each in states[machine].items() if name not in names}
    return changes
