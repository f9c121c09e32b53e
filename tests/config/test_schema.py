"""The JSON Schema of config.yaml: as the definitions are, and as people write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from etl.config import load as config
from etl.config.document import Document
from etl.config.schema import schema
from tests.support.configs import ACCEPTED, MINIMAL, SHIPPED, written

ROOT = Path(__file__).parents[2]
FILE = ROOT / "etl" / "config.schema.json"
VALIDATOR = Draft202012Validator(schema())


class Unfilled(dict):
    """An environment that leaves every variable as it is written."""

    def get(self, name, default=None):
        return f"${{{name}}}"


def complaints(folder, text, environment=None):
    """What an editor would say of a config with this text."""
    document = Document(written(folder, text), environment or Unfilled(), config.BIGGEST, "")
    return [error.message for error in VALIDATOR.iter_errors(document.value)]


def test_the_kept_schema_is_that_of_the_definitions():
    """`etl check --schema > etl/config.schema.json` changes nothing, and needs no config."""
    told = subprocess.run(
        [sys.executable, "-m", "etl", "check", "--schema"], capture_output=True, text=True, cwd=ROOT / "tests"
    )
    assert (told.returncode, told.stdout) == (0, FILE.read_text())
    Draft202012Validator.check_schema(json.loads(told.stdout))


def test_the_shipped_file_names_the_schema_and_fits_it(tmp_path):
    """Editors find the schema from the shipped file's first line, and have nothing to say of the rest."""
    first = SHIPPED.read_text().splitlines()[0]
    assert (ROOT / re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)[1]).samefile(FILE)
    assert complaints(tmp_path, SHIPPED.read_text()) == []


@pytest.mark.parametrize("text", [*ACCEPTED, MINIMAL, "sources: fleet.yaml"])
def test_what_is_accepted_fits(tmp_path, text):
    """Every config that the check takes is one for editors too."""
    assert complaints(tmp_path, text, {"A": "a"}) == []


@pytest.mark.parametrize(
    "text",
    ["interval: ${I}", "window: ${W:-5}", "shard: ${N}/8", "api: {port: '${P}', serve: '${S}', token: '${T}'}",
     "report: {at: '${A}', threshold: '${T}'}", "output: {stdout: ['${K}'], keep_days: '${D}', fsync: '${F}'}",
     "notify: {url: '${HOOK}'}", "parameters: {'a': '${F}'}"],
)  # fmt: skip
def test_variables_fit_everywhere(tmp_path, text):
    """Before they are filled in, variables stand for numbers, words and switches alike."""
    assert complaints(tmp_path, f"{MINIMAL}{text}") == []


@pytest.mark.parametrize(
    "text",
    ["intervall: 10s", "interval: 10", "interval: 10 s", "window: five", "window: 0", "window: 1001", "timezone: 5",
     "transport: http", "api: {port: 0}", "api: {serve: 'yes please'}", "api: {token: ''}", "api: {token: a b}",
     "report: {at: '24:00'}", "report: {at: 7}", "output: {stdout: [raw, logs]}", "output: {keep_days: 0}",
     "output: {fold: x}", "notify: {url: 5}", "parameters: {}", "output: 5"],
)  # fmt: skip
def test_what_is_wrong_does_not_fit(tmp_path, text):
    """Unknown keys, wrong types, words and bounds are marked while they are written; the check refuses them too."""
    assert complaints(tmp_path, f"{MINIMAL}{text}")
    with pytest.raises(config.ConfigError):
        config.load(written(tmp_path, f"{MINIMAL}{text}"), {})


def test_the_defaults_shown_are_those_that_hold(tmp_path):
    """A config with every default of the schema written out means the same as one without."""
    definitions = schema()["$defs"]
    spelled = {"sources": [{"name": "machine-1", "url": "http://127.0.0.1:5000/data"}]}
    for key, value in definitions["Config"]["properties"].items():
        if "default" in value:
            spelled[key] = value["default"]
        elif "$ref" in value:
            section = definitions[value["$ref"].rpartition("/")[2]]["properties"]
            spelled[key] = {name: field["default"] for name, field in section.items() if "default" in field}
    assert spelled["interval"] == "10s"
    assert spelled["api"] == {"serve": True, "host": "127.0.0.1", "port": 5000, "machines": 1}
    loaded = config.load(written(tmp_path, msgspec.yaml.encode(spelled)), {})
    assert loaded.config == config.load(written(tmp_path, MINIMAL), {}).config


def test_every_key_is_described():
    """An editor says of each key what to write."""
    described = [
        (key, field["description"])
        for definition in schema()["$defs"].values()
        for key, field in definition["properties"].items()
    ]
    assert sorted({key for key, _ in described}) == sorted(config.HINTS)
    assert all(text == config.HINTS[key] for key, text in described)
