"""What is wrong with the parameters of a config, their units and alarms, beyond the types of their keys."""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from etl.config.document import KeyPath
from etl.config.model import Alarm
from etl.readings.records import AlarmRule

MAX_HOLD_S = 3600.0
"""The longest `for`: a start reads that much of the log again to find conditions that hold and are not raised yet."""

Mistake = tuple[KeyPath, str, str, str]
"""Where a mistake is, the key whose hint applies, a message, and a hint of its own or an empty one."""
_NO_KEY = re.compile(r'["\\\x00-\x1f]')
"""Characters that the keys of lines, as msgspec encodes them, cannot have."""


def alarm_rules(alarms: Iterable[Alarm]) -> tuple[AlarmRule, ...]:
    """The alarms as settings.jsonl keeps them."""
    return tuple(
        AlarmRule(
            name=alarm.name,
            parameter=alarm.parameter,
            above=alarm.above,
            below=alarm.below,
            deadband=alarm.deadband,
            hold_ms=round(1000 * alarm.hold),
            status=alarm.status,
            sources=alarm.sources,
        )
        for alarm in alarms
    )


def alarm_mistakes(alarms: Iterable[Alarm], parameters: Collection[str]) -> Iterator[Mistake]:
    """The mistakes in all alarms, in their order."""
    names: set[str] = set()
    for i, alarm in enumerate(alarms):
        path: KeyPath = ("alarms", i)
        if not alarm.name.isprintable() or not alarm.name.strip():
            yield (*path, "name"), "alarms.name", "name cannot be {value}, which is blank or not printable", ""
        elif alarm.name in names:
            yield (*path, "name"), "alarms.name", f"the name {alarm.name} occurs twice", ""
        names.add(alarm.name)
        if not 0 <= alarm.hold <= MAX_HOLD_S:
            yield (*path, "for"), "for", f"for cannot be {alarm.hold:g} s", ""
        yield from _status_mistakes(alarm, path)
        if alarm.parameter is not None:
            yield from _limit_mistakes(alarm, path, parameters)


def _status_mistakes(alarm: Alarm, path: KeyPath) -> Iterator[Mistake]:
    if alarm.parameter is None and alarm.status is None:
        hint = "write parameter: and a limit, such as above: 80, or write status:"
        yield path, "parameter", f"alarm {alarm.name} has no parameter and no status", hint
    if alarm.status is None:
        return
    if not alarm.status:
        yield (*path, "status"), "status", "status is empty", ""
    limits = {"above": alarm.above, "below": alarm.below, "deadband": alarm.deadband or None}
    for key, value in {"parameter": alarm.parameter, **limits}.items():
        if value is not None:
            hint = "keep one of them, and write an alarm of its own for the other"
            yield (*path, key), key, f"alarm {alarm.name} has both status and {key}", hint


def _limit_mistakes(alarm: Alarm, path: KeyPath, parameters: Collection[str]) -> Iterator[Mistake]:
    if alarm.parameter not in parameters:
        hint = f"write one of {', '.join(parameters)}"
        yield (*path, "parameter"), "parameter", f"parameter {alarm.parameter} is not among parameters", hint
    if alarm.status is None and alarm.above is None and alarm.below is None:
        yield path, "above", f"alarm {alarm.name} has no limit", "write above: or below: or both"
    limits = {"above": alarm.above, "below": alarm.below, "deadband": alarm.deadband}
    infinite = [key for key, value in limits.items() if value is not None and not math.isfinite(value)]
    for key in infinite:
        yield (*path, key), key, f"{key} cannot be {{value}}", ""
    if infinite or alarm.above is None or alarm.below is None:
        return
    if alarm.below >= alarm.above:
        hint = "an alarm is raised outside of the range from below to above: write the lower limit at below"
        yield (*path, "below"), "below", f"below {alarm.below:g} is not lower than above {alarm.above:g}", hint
    elif alarm.below + alarm.deadband > alarm.above - alarm.deadband:
        hint = f"write at most {(alarm.above - alarm.below) / 2:g}, half of the range"
        yield (*path, "deadband"), "deadband", f"with deadband {alarm.deadband:g} the alarm could never end", hint


def parameter_mistakes(parameters: Mapping[str, str], units: Mapping[str, str]) -> Iterator[Mistake]:
    """What is wrong with the parameters, whose fields are given by name, and with their units."""
    for name, field in parameters.items():
        for text in filter(_NO_KEY.search, (name, field)):
            message = f"{text!r} in parameters has a quote, a backslash or a control character"
            yield ("parameters", name), "", message, "write another name; records of a source can rename a field"
    for name, unit in units.items():
        path = ("units", name)
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"write one of {', '.join(parameters)}"
            yield path, "", f"units names {name}, which is not among parameters", hint
        if not unit.isprintable() or not unit.strip():
            yield path, "units", f"{name} in units cannot be {{value}}, which is blank or not printable", ""
