"""The first steps in a new folder: a config to start from, and that it runs as it is."""

from __future__ import annotations

import os

import pytest

from etl.config.load import load
from tests.support.commands import umask
from tests.support.configs import ROOT, SHIPPED
from tests.support.process import Site, end, until


@pytest.fixture
def site(tmp_path):
    """A folder without a config."""
    return Site(tmp_path)


def test_the_packaged_config_is_the_shipped_one():
    """`etl init` and the repository offer the same text."""
    assert (ROOT / "etl" / "config" / "starter.yaml").read_text() == SHIPPED.read_text()


def test_init_writes_a_commented_config_that_names_the_installed_schema(site):
    """In the current folder or a new one, the file is the shipped one; its first line names the schema by its path."""
    for arguments, folder in (((), site.root), (("new plant/hall 2",), site.root / "new plant" / "hall 2")):
        with umask(0o022):
            ended = site.etl("init", *arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "etl try" in ended.stdout
        first, *lines = (folder / "config.yaml").read_text().splitlines()
        assert first == f"# yaml-language-server: $schema={ROOT / 'etl' / 'config.schema.json'}"
        assert lines == SHIPPED.read_text().splitlines()[1:]
        assert (folder / "config.yaml").stat().st_mode & 0o777 == 0o644
    assert "cd 'new plant/hall 2'" in ended.stdout


def test_init_never_overwrites(site):
    """A config, and even a link to nowhere, stays as it is: exit 73 with the path."""
    (site.root / "config.yaml").write_text("mine")
    (site.root / "linked").mkdir()
    (site.root / "linked" / "config.yaml").symlink_to("nowhere")
    for arguments, path in (((), "config.yaml"), (("linked",), "linked/config.yaml"), (("./linked",), "linked/")):
        refused = site.etl("init", *arguments)
        assert (refused.returncode, refused.stdout) == (73, "")
        assert path in refused.stderr
        assert "exists" in refused.stderr
    assert (site.root / "config.yaml").read_text() == "mine"
    assert not (site.root / "linked" / "nowhere").exists()


def test_a_folder_that_cannot_be_created_is_named(site):
    """A file where the folder should be, or a folder that nobody can write to, is exit 73 with the path."""
    (site.root / "file").write_text("")
    for folder in ("file", "file/below", "/proc/plant"):
        refused = site.etl("init", folder)
        assert (refused.returncode, refused.stdout) == (73, "")
        assert folder in refused.stderr
        assert "etl init DIR" in refused.stderr


def test_a_missing_config_names_init_and_the_option(site):
    """Each command without a config names the two ways to one."""
    for command in ("run", "once", "check", "status", "try"):
        refused = site.etl(command)
        assert (refused.returncode, refused.stdout) == (78, "")
        assert refused.stderr == (
            "config.yaml:1:1: the file does not exist; write one with `etl init`, or name yours with --config FILE\n"
        )
    assert os.listdir(site.root) == []


def test_a_new_folder_runs_as_it_is(site):
    """init, check, try, run: each works, with no other change than a free port."""
    assert site.etl("init").returncode == 0
    config = site.root / "config.yaml"
    config.write_text(config.read_text().replace("5000", str(site.port)))
    assert site.etl("check").returncode == 0
    tried = site.etl("try")
    assert (tried.returncode, tried.stderr) == (0, "")
    assert sorted(os.listdir(site.root)) == ["config.yaml"]
    with site.running() as process:
        until(lambda: site.lines("averages"))
        assert site.etl("try", "machine-1").returncode == 0
        end(process)
    assert load(config).config.api.port == site.port
