"""Parameters that a machine sends no number for: from which reading on that is a fault, and how to say it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from etl.readings import exact
from etl.readings.lines import OWN_KEYS, QUALITY
from etl.readings.text import plural, printable, shortened

NO_NUMBER_READINGS = 3
"""Readings in a row without a number for a parameter that are a fault: a single one is a glitch."""
MAX_KEYS, MAX_CHARACTERS = 20, 40
"""Keys of a reading that a sentence names, and characters of each of them and of a value: a machine may send any."""

States = tuple[int, ...]
"""For each parameter: 0 for a number, then how many readings in a row had none, up to NO_NUMBER_READINGS; beyond that,
how many readings in a row had one since."""


def step_states(states: Sequence[int], has_number: Iterable[bool]) -> States:
    """Add one reading. A parameter leaves NO_NUMBER_READINGS only after as many readings in a row with a number.

    So a sensor that sends a number in every tenth reading arrives at NO_NUMBER_READINGS once, not every tenth time.
    """
    return tuple(map(_step, states, has_number))


def _step(state: int, has_number: bool) -> int:
    if has_number:
        return (state + 1) % (2 * NO_NUMBER_READINGS) if state >= NO_NUMBER_READINGS else 0
    return min(state + 1, NO_NUMBER_READINGS)


def explain(line: bytes, fields: Sequence[str]) -> str:
    """What a machine sends instead of a number for these fields, from a raw line of it.

    "no number as fan_sped; it sends id 7, temperature, status": printable, and of limited length. A field that its
    source calls bad is followed by the name of its quality.
    """
    try:
        reading = exact.loads(line)
    except orjson.JSONDecodeError:
        reading = {}
    lacking = ", ".join(_field(reading, field) for field in fields)
    keys = [key for key in reading if key not in (*OWN_KEYS, QUALITY, "id")]
    names = [_clipped(key) for key in keys[:MAX_KEYS]]
    if "id" in reading:
        names.insert(0, f"id {_clipped(_json(reading['id']))}")
    if len(keys) > MAX_KEYS:
        names.append(f"{plural(len(keys) - MAX_KEYS, 'more key')}")
    return f"no number as {lacking}; it sends {', '.join(names) or 'an empty object'}"


def _field(reading: dict[str, Any], field: str) -> str:
    if field not in reading:
        return _clipped(field)
    quality = quality_of(reading, field)
    return f"{_clipped(field)} ({_clipped(_json(reading[field]))}{f', {_clipped(quality)}' if quality else ''})"


def quality_of(reading: Mapping[str, Any], field: str) -> str:
    """The name of a field's quality; empty if its source says nothing about it."""
    qualities = reading.get(QUALITY)
    quality = qualities.get(field) if isinstance(qualities, dict) else None
    return quality if isinstance(quality, str) else ""


def _json(value: Any) -> str:
    return exact.dumps(value).decode()


def _clipped(text: str) -> str:
    return printable(shortened(text, MAX_CHARACTERS))
