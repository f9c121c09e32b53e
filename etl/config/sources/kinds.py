"""The kinds of source there are, and how an entry of `sources` becomes one of them."""

from typing import Any

import msgspec

from etl.config.sources.base import Duration, Source
from etl.config.sources.file import FileSource
from etl.config.sources.http import HttpSource
from etl.config.sources.modbus import ModbusSource
from etl.config.sources.mqtt import MqttSource
from etl.config.sources.opcua import OpcUaSource
from etl.readings.text import alternatives

KINDS: dict[str, type[Source]] = {
    kind.key: kind
    for kind in (
        HttpSource,
        FileSource,
        OpcUaSource,
        ModbusSource,
        MqttSource,
    )
}
"""The kinds by the key that chooses each; `sources/registry` has what polls them."""


class Sources(tuple[Source, ...]):
    """The sources of a config, each of its own kind."""

    __slots__ = ()


def typed(value: Any, kind: Any) -> Any:
    """A plain value of the config, converted to a type.

    Raises:
        msgspec.ValidationError: it does not fit.

    """
    return msgspec.convert(value, kind, dec_hook=_decode, str_keys=True)


def _decode(kind: type, value: Any) -> Any:
    """A value of a type that msgspec does not know; ValueError if it does not fit."""
    if kind is Duration:
        return Duration.parse(value)
    if kind is not Sources:
        raise NotImplementedError(kind)
    if not isinstance(value, list) or not value:
        raise ValueError("not a list of sources")
    return Sources([_source(entry) for entry in value])


def _source(entry: Any) -> Source:
    kind = kind_of(entry) if isinstance(entry, dict) else None
    if kind is None:
        raise ValueError("not a source")
    source: Source = typed(entry, kind)
    return source


def kind_of(entry: dict[str, Any]) -> type[Source] | None:
    """The kind that an entry chooses; None if it has the key of none or of several."""
    keys = [key for key in KINDS if key in entry]
    return KINDS[keys[0]] if len(keys) == 1 else None


def any_kind() -> type[Source]:
    """A struct with the keys of all kinds, none required but `name`: for an entry whose kind is unknown."""
    fields = {field.name: field.type for kind in reversed(KINDS.values()) for field in msgspec.structs.fields(kind)}
    options = [(name, kind, None) for name, kind in fields.items() if name not in Source.__struct_fields__]
    words = {
        "hints": {key: hint for kind in KINDS.values() for key, hint in kind.hints.items()},
        "unknown_key_hints": {
            pattern: hint for kind in KINDS.values() for pattern, hint in kind.unknown_key_hints.items()
        },
    }
    struct: Any = msgspec.defstruct("AnySource", options, bases=(Source,), namespace=words, kw_only=True, frozen=True)
    any_source: type[Source] = struct
    return any_source


def kinds_with(key: str, besides: type[Source]) -> str:
    """The kinds `besides` a given one that have a key, for a message: "url:", "url: or file:"; empty if none has it."""
    kinds = [kind for kind in KINDS.values() if kind is not besides and key in kind.__struct_encode_fields__]
    return alternatives(f"{kind.key}:" for kind in kinds)


def kind_of_address(address: str) -> type[Source] | None:
    """The first kind that has addresses with the scheme of this one."""
    scheme = address.partition("://")[0].lower()
    return next((kind for kind in KINDS.values() if scheme in kind.schemes), None)


def choices() -> str:
    """What a source may be, for a message."""
    return alternatives(f"{kind.label} ({kind.key}:)" for kind in KINDS.values())
