"""The JSON Schema of config.yaml, for editors: from the definitions that check it. The check itself knows more."""

from __future__ import annotations

from typing import Any

import msgspec

from etl.config.model import DURATION, HINTS, Config, Duration

Json = dict[str, Any]

_VARIABLE: Json = {"type": "string", "pattern": r"\$\{[^}]+\}", "description": "from the environment"}
_FILE: Json = {"type": "string", "minLength": 1, "description": "the name of a YAML file with the list"}


def schema() -> Json:
    """The schema of a config as it is written, before variables are filled in."""
    described, definitions = msgspec.json.schema_components(
        [Config], schema_hook=_of_a_duration, ref_template="#/$defs/{name}"
    )
    for definition in definitions.values():
        for key, value in definition["properties"].items():
            definition["properties"][key] = {"description": HINTS[key], **_written(value)}
    sources = definitions["Config"]["properties"]["sources"]
    definitions["Config"]["properties"]["sources"] = {
        "description": sources.pop("description"),
        "anyOf": [sources, _FILE],
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described[0], "$defs": definitions}


def _of_a_duration(kind: type) -> Json:
    if kind is not Duration:
        raise NotImplementedError(kind)
    return {"type": "string", "pattern": f"^{DURATION.pattern}$"}


def _written(value: Json) -> Json:
    """A value as an editor needs it: a variable may stand for it, and a default is shown where it says something."""
    value = {key: _written_part(key, part) for key, part in value.items()}
    if value.get("default") in (None, "") or isinstance(value.get("default"), dict):
        value.pop("default", None)
    narrow = value.get("type") in ("integer", "number", "boolean") or "enum" in value or "pattern" in value
    if not narrow:
        return value
    default = {"default": value.pop("default")} if "default" in value else {}
    return {"anyOf": [value, _VARIABLE], **default}


def _written_part(key: str, part: Any) -> Any:
    if key == "pattern":  # Python's anchors are letters elsewhere
        return part.replace(r"\A", "^").replace(r"\Z", "$")
    if key in ("items", "additionalProperties") and isinstance(part, dict):
        return _written(part)
    if key == "anyOf":
        return [_written(option) for option in part]
    return part
