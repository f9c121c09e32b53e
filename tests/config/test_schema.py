"""The JSON Schema of config.yaml: it agrees with the model, and accepts what people write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from etl.config.document import ConfigError, Document
from etl.config.load import MAX_CONFIG_BYTES, load
from etl.config.model import Config, hint_of
from etl.config.schema import groups, schema
from etl.config.sources.kinds import KINDS
from tests.support.configs import ACCEPTED, MINIMAL, SHIPPED, written

ROOT = Path(__file__).parents[2]
FILE = ROOT / "etl" / "config.schema.json"
VALIDATOR = Draft202012Validator(schema())


class Unfilled(dict):
    """An environment that replaces every variable by itself."""

    def get(self, name, default=None):
        return f"${{{name}}}"


def complaints(folder, text, environment=None):
    """The messages of an editor about a config with this text."""
    document = Document(written(folder, text), environment or Unfilled(), MAX_CONFIG_BYTES, "", "")
    return [error.message for error in VALIDATOR.iter_errors(document.value)]


def test_the_schema_file_is_up_to_date():
    """`etl check --schema > etl/config.schema.json` changes nothing, and needs no config."""
    ended = subprocess.run(
        [sys.executable, "-m", "etl", "check", "--schema"], capture_output=True, text=True, cwd=ROOT / "tests"
    )
    assert (ended.returncode, ended.stdout) == (0, FILE.read_text())
    Draft202012Validator.check_schema(json.loads(ended.stdout))


def test_the_shipped_file_names_the_schema_and_fits_it(tmp_path):
    """The first line of the shipped file names the schema for editors, and the rest is valid."""
    first = SHIPPED.read_text().splitlines()[0]
    assert (ROOT / re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)[1]).samefile(FILE)
    assert complaints(tmp_path, SHIPPED.read_text()) == []


@pytest.mark.parametrize("text", [*ACCEPTED, MINIMAL, "sources: fleet.yaml"])
def test_an_accepted_config_is_valid(tmp_path, text):
    """Every config that `etl check` accepts is valid for editors too."""
    assert complaints(tmp_path, text, {"A": "a"}) == []


@pytest.mark.parametrize(
    "text",
    [
        "interval: ${I}",
        "window: ${W:-5}",
        "shard: ${N}/8",
        "api: {port: '${P}', serve: '${S}', token: '${T}'}",
        "report: {at: '${A}', threshold: '${T}'}",
        "output: {stdout: ['${K}'], keep_days: '${D}', fsync: '${F}'}",
        "notify: {url: '${HOOK}'}",
        "notify: {urls: ['${HOOK}', 'ntfy://topic']}",
        "parameters: {'a': '${F}'}",
    ],
)
def test_variables_are_valid_everywhere(tmp_path, text):
    """Before they are replaced, variables may take the place of numbers, words and booleans."""
    assert complaints(tmp_path, f"{MINIMAL}{text}") == []


@pytest.mark.parametrize(
    "text",
    [
        "intervall: 10s",
        "interval: 10",
        "interval: 10 s",
        "window: five",
        "window: 0",
        "window: 1001",
        "timezone: 5",
        "transport: http",
        "api: {port: 0}",
        "api: {serve: 'yes please'}",
        "api: {token: ''}",
        "api: {token: a b}",
        "report: {at: '24:00'}",
        "report: {at: 7}",
        "output: {stdout: [raw, logs]}",
        "output: {keep_days: 0}",
        "output: {fold: x}",
        "notify: {url: 5}",
        "notify: {urls: https://machine/hook}",
        "parameters: {}",
        "output: 5",
    ],
)
def test_a_mistake_is_invalid(tmp_path, text):
    """Unknown keys, wrong types, words and bounds are marked in the editor, and `etl check` refuses them too."""
    assert complaints(tmp_path, f"{MINIMAL}{text}")
    with pytest.raises(ConfigError):
        load(written(tmp_path, f"{MINIMAL}{text}"), {})


def test_the_defaults_of_the_schema_are_those_of_the_model(tmp_path):
    """A config that writes out every default of the schema loads as one that leaves them out."""
    definitions = schema()["$defs"]
    spelled = {"sources": [{"name": "machine-1", "url": "http://127.0.0.1:5000/data"}]}
    for key, value in definitions["Config"]["properties"].items():
        if "default" in value:
            spelled[key] = value["default"]
        elif "$ref" in value:
            section = definitions[value["$ref"].rpartition("/")[2]]["properties"]
            spelled[key] = {name: field["default"] for name, field in section.items() if "default" in field}
    assert spelled["interval"] == "10s"
    assert spelled["api"] == {"serve": True, "host": "127.0.0.1", "port": 5000, "machines": 1, "names": ()}
    loaded = load(written(tmp_path, msgspec.yaml.encode(spelled)), {})
    assert loaded.config == load(written(tmp_path, MINIMAL), {}).config


def test_every_key_is_described():
    """An editor shows for each key what to write."""
    for kind in (Config, *KINDS.values()):
        for group in groups(kind):
            for key, field in schema()["$defs"][group.__name__]["properties"].items():
                assert field["description"] == hint_of(group, key)
