"""The documents: their size, their links, and that the commands, keys, routes and codes they name exist."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from api.app import create_app
from api.console import Views
from api.machines import Machines
from etl.cli import exits
from etl.cli.main import cli
from etl.config.load import load
from etl.storage.events import NAMES

ROOT = Path(__file__).parent.parent
MAX_LINES = {
    "README.md": 170,
    "output/README.md": 90,
    "etl/README.md": 170,
    "etl/config/README.md": 110,
    "etl/sources/README.md": 110,
    "etl/nightly/README.md": 90,
    "etl/audit/README.md": 60,
    "api/README.md": 80,
    "tests/README.md": 100,
    "tests/benchmarks/README.md": 110,
}
MAX_COLUMNS = 200
DOCUMENTS = [name for name in (*MAX_LINES, "CHANGELOG.md") if (ROOT / name).exists()]
"""A missing document fails one test, that of its size."""
CONTEXT = click.Context(cli)
COMMANDS = cli.list_commands(CONTEXT)


def text(document: str) -> str:
    return (ROOT / document).read_text()


def fences(document: str, language: str = r"\w*") -> list[str]:
    """The contents of the fenced blocks."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(document), re.MULTILINE | re.DOTALL)


def prose(document: str) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text(document), flags=re.MULTILINE | re.DOTALL)


def code(document: str) -> list[str]:
    """Each line of a fenced block and each code span."""
    return [*"\n".join(fences(document)).splitlines(), *re.findall(r"`([^`\n]+)`", prose(document))]


def first_cells(table: str) -> list[str]:
    """The first cell of each row of the tables, without their heads."""
    rows = re.findall(r"^\| *(.+?) *(?<!\\)\|", table, re.MULTILINE)
    return [cell for cell, below in zip(rows, [*rows[1:], ""], strict=True) if "---" not in cell + below]


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub derives them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", MAX_LINES)
def test_a_document_is_short(document):
    """Each document keeps to its number of lines, and each line to 200 characters."""
    lines = text(document).splitlines()
    assert len(lines) <= MAX_LINES[document]
    assert [number for number, line in enumerate(lines, 1) if len(line) > MAX_COLUMNS] == []


def test_the_root_readme_leads_to_every_document():
    """Every README has a limit here and a link in the root README."""
    existing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*README.md"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if existing.returncode:
        pytest.skip("this is not a clone")
    assert sorted(existing.stdout.split()) == sorted(MAX_LINES)
    assert all(f"]({document})" in text("README.md") for document in [*MAX_LINES, "CHANGELOG.md"][1:])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_resolves(document):
    """Each relative link names an existing file, and each anchor a heading in it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(document))):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            target = (ROOT / document).parent / path if path else ROOT / document
            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_and_option_exists(document):
    """Each `etl COMMAND --option` that a document shows is one of the command line."""
    for line in code(document):
        for name, rest in re.findall(r"(?<!from )\betl ([a-z]+)\b([^|;&]*)", line):
            command = cli.get_command(CONTEXT, name)
            assert command, line
            options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            assert options.issuperset(re.findall(r"(?<!\S)\[?(--[a-z-]+)", rest)), line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_and_file_exists(document):
    """Each `python -m MODULE`, and each path below etl/, api/ or tests/, that a document shows exists."""
    for line in code(document):
        for module in re.findall(r"python3? -m ((?:etl|api|tests)[\w.]*)", line):
            assert importlib.util.find_spec(module.rstrip(".")), line
        for path in re.findall(r"(?:^|[\s(])((?:etl|api|tests)/[\w./-]+)", line):
            assert (ROOT / path).exists(), line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_examples_print_what_they_show(document):
    """The Python sessions run as they are written."""
    for block in fences(document, "python"):
        if ">>>" in block:
            example = doctest.DocTestParser().get_doctest(block, {}, document, None, 0)
            assert doctest.DocTestRunner().run(example).failed == 0


def test_the_table_of_commands_is_complete():
    """The root README lists exactly the commands there are."""
    assert set(re.findall(r"^\| `etl (\w+)", text("README.md"), re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command):
    """`etl COMMAND --help` exits with 0 and says more than its usage."""
    shown = subprocess.run(
        [sys.executable, "-m", "etl", command, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "--config" in shown.stdout
    assert len(shown.stdout.splitlines()) > 6


def test_every_exit_code_is_documented():
    """The root README names each exit code and no other."""
    codes = {code for code in vars(exits).values() if isinstance(code, int)}
    sentence = text("README.md").split("Exit codes: ")[1].split("\n```")[0]
    assert {int(number) for number in re.findall(r"\b\d+\b", sentence)} == codes


def test_the_test_command_is_that_of_ci():
    """The root README shows the command that .ci/run runs."""
    (command,) = [line for line in text("README.md").splitlines() if line.startswith("python3 -m venv .venv-test")]
    assert f'"{command}"' in text(".ci/run")


def test_the_changelog_has_the_version():
    """The newest version of the changelog is that of the project."""
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert re.search(r"^## \[(\d[^]]*)\]", text("CHANGELOG.md"), re.MULTILINE)[1] == project["version"]


def config_keys() -> set[str]:
    """The keys that the JSON Schema has, `interval` or `output.folder`."""
    schemas = json.loads(text("etl/config.schema.json"))["$defs"]
    keys = {"sources"}
    for key, schema in schemas["Config"]["properties"].items():
        sections = re.findall(r"#/\$defs/(\w+)", json.dumps(schema))  # several for sources: one of each kind
        keys |= {f"{key}.{below}" for section in sections for below in schemas[section]["properties"]} or {key}
    return keys


def test_every_config_key_is_documented_and_no_other():
    """The tables of etl/config/README.md list exactly the keys there are, as `interval` or `output.folder`."""
    cells = first_cells(text("etl/config/README.md"))
    written = {
        key.replace(": ", ".") for cell in cells for key in re.findall(r"`([a-z_]+(?:(?:\.|: )[a-z_]+)?)`", cell)
    }
    assert config_keys() <= written
    sections = {key.partition(".")[0] for key in config_keys() if "." in key}
    assert {key for key in written if key.partition(".")[0] in sections and "." in key} <= config_keys()


def test_the_shipped_config_is_sound_and_names_the_fixture():
    """The shipped config loads, and the fixture its comment names exists."""
    load(ROOT / "config.yaml")
    (named,) = re.findall(r"# file: (\S+)", text("config.yaml"))
    assert (ROOT / named).is_file()


def test_every_route_is_documented():
    """api/README.md names each route of the API with its method."""
    views = Views(*[list] * len(Views._fields))
    for rule in create_app(Machines(), views).url_map.iter_rules():
        path = re.sub(r"<.*?(\w+)>", r"<\1>", rule.rule).replace("<number>", "<id>").replace("<day>", "<date>")
        method = "POST" if "POST" in rule.methods else "GET"
        assert re.search(rf"`{method} ([^`]+, )?{re.escape(path)}`", text("api/README.md")), rule


def test_every_dependency_has_its_reason():
    """etl/README.md has a row for each dependency, those of the extras too; what the tests need has none."""
    project = tomllib.loads(text("pyproject.toml"))["project"]
    extras = [needed for extra, needed in project["optional-dependencies"].items() if extra != "test"]
    names = {re.split(r"[<>=~]", needed)[0] for group in (project["dependencies"], *extras) for needed in group}
    cells = first_cells(text("etl/README.md").split("## Dependencies")[1].split("\n## ")[0])
    assert names == {name.split()[0] for cell in cells for name in cell.split(",")}


def test_every_room_and_module_is_on_the_map():
    """etl/__init__.py and etl/README.md name each room, and each room's docstring names its modules."""
    rooms = sorted(path.parent.name for path in ROOT.glob("etl/*/__init__.py"))
    listed = first_cells(text("etl/README.md").split("## The rooms")[1].split("\n## ")[0])
    assert sorted(listed) == sorted(f"`{room}`" for room in [*rooms, "../api"])
    for room in rooms:
        assert re.search(rf"^ +{room}\b", text("etl/__init__.py"), re.MULTILINE), room
        folders = [path.parent for path in ROOT.glob(f"etl/{room}/*/__init__.py")]
        for module in [*ROOT.glob(f"etl/{room}/[a-z]*.py"), *folders]:
            assert re.search(rf"^ +{module.stem} ", text(f"etl/{room}/__init__.py"), re.MULTILINE), module
        for folder in folders:
            for module in folder.glob("[a-z]*.py"):
                assert re.search(rf"^ *{module.stem} ", (folder / "__init__.py").read_text(), re.MULTILINE), module


def test_the_modules_named_for_contributors_exist():
    """Each `room/module` in etl/README.md is a file."""
    rooms = "|".join(path.parent.name for path in ROOT.glob("etl/*/__init__.py"))
    for path in re.findall(rf"`((?:{rooms})/[a-z_/]+)`", text("etl/README.md")):
        assert (ROOT / "etl" / f"{path}.py").is_file() or (ROOT / "etl" / path / "__init__.py").is_file(), path


def test_every_event_is_documented():
    """output/README.md has a row for exactly the events there are."""
    cells = first_cells(text("output/README.md").split("## Events")[1].split("\n## ")[0])
    assert sorted(cell for cell in cells if cell.startswith("`")) == sorted(f"`{name}`" for name in NAMES)


def reasons(path: Path) -> set[str]:
    """The constant reasons and failure codes in a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            arguments = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            if isinstance(node.func, ast.Name) and node.func.id in ("Failure", "RejectedError", "Jump"):
                arguments += node.args[:1]
            found |= {argument.value for argument in arguments if isinstance(argument, ast.Constant)}
    return found


def test_every_reason_is_documented():
    """output/README.md names the reasons and codes of events; those of polls cut off or of replays make no event."""
    rooms = ("live", "sources", "storage", "readings", "cli")
    codes = set().union(*(reasons(path) for room in rooms for path in ROOT.glob(f"etl/{room}/**/*.py")))
    assert {"torn", "timeout", "not_json", "set back"} <= codes
    assert {code for code in codes - {"closed", "damaged"} if f"`{code}`" not in text("output/README.md")} == set()


@pytest.fixture
def folder(tmp_path):
    """A folder as `etl run` leaves it, below `output`, with the README that the repository has there."""
    shutil.copytree(ROOT / "tests" / "golden" / "midnight", tmp_path / "output")
    shutil.copy(ROOT / "output" / "README.md", tmp_path / "output")
    shutil.copy(ROOT / "tests" / "fixtures" / "readings.json", tmp_path)
    for kind in ("raw", "averages", "events"):
        (tmp_path / "output" / f"{kind}.jsonl").symlink_to(f"{kind}/2026-11-22.jsonl")
    return tmp_path


def recipes(start: str) -> list[str]:
    """The recipes of the root README that begin with a command."""
    section = text("README.md").split("## Read the data")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith(start)]


@pytest.mark.skipif(not shutil.which("jq"), reason="no jq here (Debian: jq)")
@pytest.mark.parametrize("recipe", recipes("jq"))
def test_jq_reads_the_folder(recipe, folder):
    """The jq recipes print something for the golden days."""
    shown = subprocess.run(recipe, shell=True, cwd=folder, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout


def test_duckdb_reads_the_folder(folder, monkeypatch):
    """The query of the DuckDB recipe gives a row for each source."""
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(folder)
    (recipe,) = recipes("duckdb")
    rows = duckdb.sql(re.search(r'"(.+)"', recipe)[1]).fetchall()
    assert {source for source, _ in rows} == {"hall 2", "machine-1"}


def test_pandas_reads_the_folder(folder):
    """The pandas recipe prints a table of the newest raw file."""
    pytest.importorskip("pandas")
    (recipe,) = recipes("python3")
    command = recipe.replace("python3", sys.executable)
    shown = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True)
    assert "temperature" in shown.stdout


def etl(folder: Path, command: str, written: str) -> subprocess.CompletedProcess:
    (folder / "config.yaml").write_text(written)
    return subprocess.run([sys.executable, "-m", "etl", command], cwd=folder, capture_output=True, text=True)


def test_a_proof_ignores_the_readme_in_the_folder(folder):
    """`etl verify` finds nothing wrong and does not name the README."""
    proof = etl(folder, "verify", "sources: [{name: a, file: readings.json}]")
    assert (proof.returncode, proof.stderr) == (0, "")
    assert "README" not in proof.stdout


def test_a_backup_is_restored_by_a_rebuild(folder):
    """What the backup recipe copies is enough: a rebuild derives the same averages and proves them."""
    (recipe,) = re.findall(r"^cp -r output/raw .*", text("README.md"), re.MULTILINE)
    (folder / "backup").mkdir()
    subprocess.run(recipe.replace("/backup/", "backup/"), shell=True, cwd=folder, check=True)
    restored = etl(folder, "rebuild", "{output: {folder: backup}, sources: [{name: a, file: readings.json}]}")
    assert (restored.returncode, restored.stderr) == (0, "")
    for averages in (folder / "output" / "averages").glob("*.jsonl"):
        assert (folder / "backup" / "averages" / averages.name).read_bytes() == averages.read_bytes()
