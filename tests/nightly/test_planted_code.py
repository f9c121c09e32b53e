"""Modules that lie where a command was started are not run by its children."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import HANG_S, Site, closed_day, end, until

MODULES = ("numpy", "pickle", "multiprocessing", "concurrent", "tempfile", "jinja2")
"""What only the nightly report needs, so that the parent would not import it from the current folder either."""
SCRIPT = [str(Path(sys.executable).with_name("etl"))]
AS_MODULE = [sys.executable, "-m", "etl"]


@pytest.fixture
def site(tmp_path):
    """A folder with a closed day whose report two processes make."""
    built = Site(tmp_path)
    (tmp_path / "a.json").write_text('{"temperature":20}')
    built.save(sources=[{"name": "a", "file": "a.json"}], report={"workers": 2}, timezone="UTC", api={"serve": False})
    closed_day(built)
    return built


def plant_code(site: Site, names) -> None:
    """Write packages that leave a file when they are imported or run."""
    for name in names:
        (site.root / name).mkdir()
        for module in ("__init__", "__main__"):
            (site.root / name / f"{module}.py").write_text(
                f"with open({str(site.root / 'executed')!r}, 'a') as file: print({name!r}, file=file)\n"
            )


def executed(site: Site) -> str:
    path = site.root / "executed"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("command", [SCRIPT, AS_MODULE], ids=["script", "module"])
def test_workers_of_a_report_run_no_planted_module(site, command):
    """`etl report` and its workers import nothing from the folder in which it is started."""
    plant_code(site, (*MODULES, "etl", "click") if command is SCRIPT else MODULES)
    finished = subprocess.run([*command, "report"], cwd=site.root, capture_output=True, text=True, timeout=HANG_S)
    assert executed(site) == ""
    assert (finished.returncode, finished.stdout) == (0, "output/reports/2026-01-05.json\n")


def report_at_night(site: Site, *command: str) -> None:
    """Run `etl run` until its child has written the report."""
    with site.running(*command, "run") as process:
        report = site.root / "output" / "reports" / "2026-01-05.json"
        until(lambda: report.exists() or process.poll() is not None)
        end(process)


@pytest.mark.parametrize("path", ["", ":", ".", "vendor:"])
def test_a_night_ignores_an_empty_or_relative_path(site, path, monkeypatch):
    """The child of `etl run` imports nothing from the current folder, even if PYTHONPATH leads there."""
    plant_code(site, ["numpy"])  # which the parent never loads
    monkeypatch.setenv("PYTHONPATH", path)
    report_at_night(site, *AS_MODULE[1:])
    assert executed(site) == ""


@pytest.mark.parametrize("command", [SCRIPT, ["-P", "-m", "etl"]], ids=["script", "module"])
def test_a_night_runs_no_planted_copy_of_the_program(site, command):
    """Neither the child of `etl run` nor its workers run a package `etl` of the folder in which it is started."""
    plant_code(site, (*MODULES, "etl", "api", "click"))
    report_at_night(site, *command)
    assert executed(site) == ""
