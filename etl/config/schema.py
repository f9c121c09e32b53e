"""The JSON Schema of config.yaml, for editors, derived from the model. `etl check` finds more than a schema can say."""

from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from etl.config.model import Config, hint_of
from etl.config.sources.base import DURATION, Duration
from etl.config.sources.kinds import KINDS, Sources

Json = dict[str, Any]

_VARIABLE: Json = {"type": "string", "pattern": r"\$\{[^}]+\}", "description": "from the environment"}
_FILE: Json = {"type": "string", "minLength": 1, "description": "the name of a YAML file with the list"}


def schema() -> Json:
    """The schema of a config file, in which variables such as `${PORT}` are not replaced yet."""
    kinds = [Config, *KINDS.values()]
    (root, *sources), definitions = msgspec.json.schema_components(
        kinds, schema_hook=_custom_schema, ref_template="#/$defs/{name}"
    )
    structs = {group.__name__: group for kind in kinds for group in groups(kind)}
    for name, definition in definitions.items():
        for key, value in definition["properties"].items():
            definition["properties"][key] = {"description": hint_of(structs[name], key), **_for_editors(value)}
    list_schema = definitions["Config"]["properties"]["sources"]["anyOf"][0]
    list_schema["items"] = {"anyOf": sources}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def groups(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs in a type, itself too."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        parts: Iterable[Any] = (field.type for field in msgspec.structs.fields(kind))
    else:
        parts = get_args(kind)
    for part in parts:
        yield from groups(part)


def _custom_schema(kind: type) -> Json:
    """The schema of a type that msgspec does not know."""
    if kind is Duration:
        return {"type": "string", "pattern": f"^{DURATION.pattern}$"}
    if kind is Sources:
        return {"anyOf": [{"type": "array", "minItems": 1}, _FILE]}
    raise NotImplementedError(kind)


def _for_editors(value: Json) -> Json:
    """The schema of a value: a variable may take its place, and only defaults that say something are shown."""
    value = {key: _convert_part(key, part) for key, part in value.items()}
    if value.get("default") in (None, "") or isinstance(value.get("default"), dict):
        value.pop("default", None)
    narrow = value.get("type") in ("integer", "number", "boolean") or "enum" in value or "pattern" in value
    if not narrow:
        return value
    default = {"default": value.pop("default")} if "default" in value else {}
    return {"anyOf": [value, _VARIABLE], **default}


def _convert_part(key: str, part: Any) -> Any:
    if key == "pattern":  # ECMAScript does not know Python's anchors
        return part.replace(r"\A", "^").replace(r"\Z", "$")
    if key in ("items", "additionalProperties") and isinstance(part, dict):
        return _for_editors(part)
    if key == "anyOf":
        return [_for_editors(option) for option in part]
    return part
