"""What polls each kind of source; each module is imported only when a source of its kind exists."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from math import inf

import jmespath

from etl.config.sources.base import Source
from etl.sources.contract import Context, Transport
from etl.sources.extraction import Extraction

TRANSPORTS = {
    "url": ("etl.sources.http.client", "open_client"),
    "file": ("etl.sources.file.transport", "FileTransport"),
    "opcua": ("etl.sources.opcua.transport", "OpcUaTransport"),  # needs asyncua, from the extra `opcua`
    "modbus": ("etl.sources.modbus.transport", "ModbusTransport"),
    "mqtt": ("etl.sources.mqtt.transport", "MqttTransport"),
}
"""By the key of the kind (`config/sources/kinds`): the module, and the class or function in it that opens a transport
from the sources of the kind and a Context."""


def open_transports(
    sources: Iterable[Source], context: Context, previous: Mapping[str, Transport]
) -> dict[str, Transport]:
    """Open the transport of each kind that these sources have, by its key; `previous` are those before a reload.

    Raises:
        ModuleNotFoundError: the library of a transport is not installed.

    """
    opened: dict[str, Transport] = {}
    for kind, group in by_kind(sources).items():
        module, name = TRANSPORTS[kind]
        open_transport: Callable[[Sequence[Source], Context], Transport] = getattr(import_module(module), name)
        opened[kind] = open_transport(group, context._replace(previous=previous.get(kind)))
    return opened


def by_kind(sources: Iterable[Source]) -> dict[str, list[Source]]:
    """The sources of each kind, by its key."""
    kinds: dict[str, list[Source]] = {}
    for source in sources:
        kinds.setdefault(source.key, []).append(source)
    return kinds


def with_records(transport: Transport, sources: Iterable[Source], context: Context) -> Transport:
    """The transport of these sources, and the extraction of records if one of them has `records`."""
    expressions = {source.name: jmespath.compile(source.records) for source in sources if source.records}
    timeouts = {source.name: context.timeout(source) if source.has_deadline else inf for source in sources}
    by_key = {source.name for source in sources if source.by_key}
    return Extraction(transport, expressions, timeouts, by_key) if expressions else transport
