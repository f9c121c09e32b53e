"""Values of nodes as a reading: JSON, their quality and their time. Pure."""

import dataclasses
import math
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Any
from uuid import UUID

from asyncua import ua

from etl.config.sources.opcua import Node
from etl.readings.lines import QUALITY

UNKNOWN_STRUCTURE = "UnknownStructure"
"""The quality of a value whose type only this server knows; NaN, Infinity and -Infinity are qualities too."""
_SEVERITY_SHIFT, _GOOD, _UNCERTAIN = 30, 0, 1
_INFO_BITS = 0xFFFF
"""The bits of a status code that do not belong to its name: limits, overflow."""
_FLOAT_DIGITS = (6, 7, 8, 9)
"""Significant digits that a 32-bit number may need to be told from its neighbours."""
_float32 = struct.Struct("<f")


class _UnknownError(Exception):
    """A value that JSON has no form for; the message is its quality."""


def reading(nodes: Mapping[str, Node], results: Sequence[ua.DataValue]) -> dict[str, Any]:
    """The reading from the results of one Read call, in the order of the nodes.

    A bad value, and one that JSON cannot hold, is null. `_quality` has the name of the status of each value that is not
    good. `timestamp` is the newest source time of the nodes, else the newest time of the server.
    """
    fields: dict[str, Any] = {}
    quality: dict[str, str] = {}
    for (name, node), result in zip(nodes.items(), results, strict=True):
        code = result.StatusCode.value if result.StatusCode else 0
        severity = code >> _SEVERITY_SHIFT
        if severity != _GOOD:
            quality[name] = status_name(code)
        fields[name] = None
        if severity in (_GOOD, _UNCERTAIN) and result.Value is not None:
            try:
                fields[name] = _mapped(as_json(result.Value), node.values)
            except _UnknownError as error:
                quality[name] = str(error)
    if "timestamp" not in fields and (moment := _newest(results)):
        fields["timestamp"] = _rfc3339(moment)
    if quality:
        fields[QUALITY] = quality
    return fields


def status_name(code: int) -> str:
    """The name of a status code, such as BadSensorFailure; its number in hexadecimal if the standard has no name."""
    name, _ = ua.status_codes.get_name_and_doc(code & ~_INFO_BITS)
    return name if code & ~_INFO_BITS in ua.status_codes.code_to_name_doc else f"{name}0x{code:08X}"


def as_json(value: Any) -> Any:
    """A value as JSON has it. Raises _UnknownError if JSON has no form for it."""
    for kind in type(value).__mro__:
        if form := _FORMS.get(kind):
            return form(value)
    if dataclasses.is_dataclass(value):
        return {item.name: as_json(getattr(value, item.name)) for item in dataclasses.fields(value)}
    raise _UnknownError(UNKNOWN_STRUCTURE)


def _variant(value: ua.Variant) -> Any:
    return as_json(_shortest(value.Value) if value.VariantType is ua.VariantType.Float else value.Value)


def _finite(value: float) -> float:
    if math.isfinite(value):
        return value
    raise _UnknownError("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")


def _unknown(_: Any) -> Any:
    raise _UnknownError(UNKNOWN_STRUCTURE)


def _rfc3339(moment: datetime) -> str:
    return _utc(moment).isoformat().replace("+00:00", "Z")


_FORMS: dict[type, Callable[[Any], Any]] = {
    NoneType: lambda _: None,
    bool: bool,
    int: int,
    float: _finite,
    str: str,
    list: lambda items: [as_json(item) for item in items],
    datetime: _rfc3339,
    bytes: lambda content: b64encode(content).decode(),
    UUID: str,
    ua.Variant: _variant,
    ua.DataValue: lambda value: as_json(value.Value),
    ua.LocalizedText: lambda text: as_json(text.Text),
    ua.XmlElement: lambda element: as_json(element.Value),
    ua.NodeId: lambda node: node.to_string(),
    ua.QualifiedName: lambda name: name.to_string(),
    ua.StatusCode: lambda status: status_name(status.value),
    ua.ExtensionObject: _unknown,
}
"""The JSON of a value by its type or the nearest base of it; other structures are objects of their fields."""


def _shortest(value: Any) -> Any:
    """A 32-bit number with the digits that it has: 21.1, not 21.100000381469727; of a list, each of them."""
    if isinstance(value, list):
        return [_shortest(item) for item in value]
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    for digits in _FLOAT_DIGITS:
        short = float(f"{value:.{digits}g}")
        if abs(short) < math.inf and _same_float32(short, value):
            return short
    return value


def _same_float32(short: float, value: float) -> bool:
    try:
        return bool(_float32.unpack(_float32.pack(short))[0] == value)
    except OverflowError:  # rounded beyond the largest 32-bit number
        return False


def _mapped(value: Any, texts: Mapping[int, str]) -> Any:
    """The text that stands for a number; the value itself if there is none."""
    return texts.get(value, value) if texts and isinstance(value, int) else value


def _newest(results: Sequence[ua.DataValue]) -> datetime | None:
    """The newest source time of these values, else their newest server time; None if they have neither."""
    times = [result.SourceTimestamp for result in results if result.SourceTimestamp]
    times = times or [result.ServerTimestamp for result in results if result.ServerTimestamp]
    return max(map(_utc, times), default=None)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
