"""The JSON Schema of config.yaml, for editors, derived from the model. `etl check` finds more than a schema can say."""

from typing import Any

import msgspec

from etl.config.model import DURATION, HINTS, Config, Duration

Json = dict[str, Any]

_VARIABLE: Json = {"type": "string", "pattern": r"\$\{[^}]+\}", "description": "from the environment"}
_FILE: Json = {"type": "string", "minLength": 1, "description": "the name of a YAML file with the list"}


def schema() -> Json:
    """The schema of a config file, in which variables such as `${PORT}` are not replaced yet."""
    (root,), definitions = msgspec.json.schema_components(
        [Config], schema_hook=_duration_schema, ref_template="#/$defs/{name}"
    )
    for name, definition in definitions.items():
        for key, value in definition["properties"].items():
            definition["properties"][key] = {"description": _hint(name, key), **_for_editors(value)}
    sources = definitions["Config"]["properties"]["sources"]
    definitions["Config"]["properties"]["sources"] = {
        "description": sources.pop("description"),
        "anyOf": [sources, _FILE],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}


def _hint(group: str, key: str) -> str:
    """What to write for a key of a group; keys of alarms that others have too have hints of their own."""
    return HINTS[f"alarms.{key}" if group == "Alarm" and f"alarms.{key}" in HINTS else key]


def _duration_schema(kind: type) -> Json:
    if kind is not Duration:
        raise NotImplementedError(kind)
    return {"type": "string", "pattern": f"^{DURATION.pattern}$"}


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
