"""Where two JSON values differ, in words."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from etl.audit.findings import MAX_SHOWN_CHARS
from etl.readings.lines import UNREADABLE
from etl.readings.text import plural


def differences(value: Any, expected: Any, path: str = "", *, strict: bool = False) -> Iterator[str]:
    """Where a JSON value differs from the expected one, a line for each place.

    Keys that are not expected are ignored, except in anomalies and with `strict`. Numbers are compared by value, so
    100 equals 100.0, but true does not equal 1.
    """
    if isinstance(value, dict) and isinstance(expected, dict):
        for key, item in expected.items():
            below = f"{path}.{key}".lstrip(".")
            if key in value:
                is_anomalies = key == "anomalies" and isinstance(item, list)
                yield from differences(value[key], item, below, strict=strict or is_anomalies)
            else:
                yield f"{below} is missing"
        if strict:
            yield from (f"{path}.{key} is surplus".lstrip(".") for key in value if key not in expected)
    elif isinstance(value, list) and isinstance(expected, list):
        for i, (item, expected_item) in enumerate(zip(value, expected, strict=False)):
            yield from differences(item, expected_item, f"{path}[{i}]", strict=strict)
        if len(value) != len(expected):
            yield f"{path} has {plural(len(value), 'item')}, expected {len(expected):,}"
    elif value != expected or isinstance(value, bool) != isinstance(expected, bool):
        yield f"{path or 'the value'} is {_shown(value)}, expected {_shown(expected)}"


def line_difference(line: bytes, expected: bytes) -> str:
    """How a line of a log differs from the expected one: by its keys, or where those are equal by its bytes."""
    with suppress(*UNREADABLE):
        by_key = list(differences(msgspec.json.decode(line), msgspec.json.decode(expected), strict=True))
        if by_key:
            return ", ".join(by_key)
    return f"the line is {line[:MAX_SHOWN_CHARS]!r}, expected {expected[:MAX_SHOWN_CHARS]!r}"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return json.dumps(value)[:MAX_SHOWN_CHARS]
