"""What the README says exists."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from api import Machines, Views, create_app
from etl.cli import exits
from etl.cli.main import cli
from etl.config import load as config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"^\| `etl (\w+)", README, re.MULTILINE)))


def keys() -> set[str]:
    """The config keys of the README's table, as it writes them: `interval`, `sources: name` ..."""
    table = README.split("## config.yaml")[1].split("\n## ")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def defined() -> set[str]:
    """The keys the config knows, written in the same way."""
    sections = {"sources": config.Source, "output": config.Output, "report": config.Report, "api": config.Api}
    sections["notify"] = config.Notify
    known = {"sources"} | {key for key in config.Config.__struct_fields__ if key not in sections}
    for section, kind in sections.items():
        known |= {f"{section}: {field.encode_name}" for field in msgspec.structs.fields(kind)}
    return known


def test_every_command_is_in_the_readme_and_the_other_way_round():
    """The README's table of commands lists exactly the commands there are."""
    assert set(COMMANDS) == set(cli.list_commands(None))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_that_says_what_it_does(command):
    """`etl COMMAND --help` exits with 0 and says more than its usage."""
    shown = subprocess.run(
        [sys.executable, "-m", "etl", command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "--config" in shown.stdout
    assert len(shown.stdout.splitlines()) > 6


def test_every_config_key_is_in_the_readme_and_the_other_way_round():
    """The README's table of keys lists exactly the keys there are."""
    assert keys() == defined()


def test_the_shipped_config_is_sound_and_names_the_fixture():
    """The shipped config loads, and the fixture its comment names exists."""
    config.load(ROOT / "config.yaml")
    (named,) = re.findall(r"# file: (\S+)", (ROOT / "config.yaml").read_text())
    assert (ROOT / named).is_file()


def test_every_route_is_in_the_readme():
    """Each route of the API stands in the README with its method."""
    views = Views(*[list] * len(Views._fields))
    rules = create_app(Machines(), views).url_map.iter_rules()
    for rule in rules:
        path = re.sub(r"<.*?(\w+)>", r"<\1>", rule.rule).replace("<number>", "<id>").replace("<day>", "<date>")
        method = "POST" if "POST" in rule.methods else "GET"
        assert f"`{method} {path}`" in README, rule


def test_every_exit_code_is_in_the_readme():
    """The README names each exit code."""
    names = ("OK", "FOUND", "UNAVAILABLE", "CANNOT_CREATE", "IO_ERROR", "HELD", "BAD_CONFIG")
    codes = [getattr(exits, name) for name in names]
    sentence = README.split("Exit codes: ")[1].split("\n\n")[0]
    assert {int(code) for code in re.findall(r"\b\d+\b", sentence)} == {*codes, 2, 130}


def test_every_dependency_has_its_reason():
    """Each dependency stands in the README's table, those of the extras too; what the tests need does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [needed for extra, needed in project["optional-dependencies"].items() if extra != "test"]
    names = {re.split(r"[<>=~]", needed)[0] for group in (project["dependencies"], *extras) for needed in group}
    table = README.split("## What it is built from")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    assert names == {name.split()[0] for cell in cells[2:] for name in cell.split(",")}


def test_the_python_example_gives_what_it_shows():
    """The example of analyze_values runs as it is written."""
    example = doctest.DocTestParser().get_doctest(README.split("```python")[1].split("```")[0], {}, "README", None, 0)
    assert doctest.DocTestRunner().run(example).failed == 0


def test_every_module_is_on_the_map():
    """The map in etl/__init__.py names every module."""
    described = (ROOT / "etl" / "__init__.py").read_text()
    for module in (ROOT / "etl").glob("[a-z]*.py"):
        assert re.search(rf"\b{module.stem}\b", described), module
