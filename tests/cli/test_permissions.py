"""Files and folders that the user of the process may not read: named, with what to check."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.process import HANG_S, Site

WITHOUT_POWER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
"""Takes from root the right to read everything."""

pytestmark = pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads everything")


@pytest.fixture
def site(tmp_path):
    """A folder with a config that polls a file."""
    here = Site(tmp_path)
    here.save(sources=[{"name": "oven", "file": "oven.json"}], api={"serve": False})
    (here.root / "oven.json").write_text('{"temperature": 20, "fan_speed": 800}')
    return here


def etl(folder, *arguments):
    """Run a command that has no right beyond those of the files; its exit code and what it prints."""
    prefix = [] if os.geteuid() else WITHOUT_POWER
    command = [*prefix, sys.executable, "-m", "etl", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout + ended.stderr


def test_a_config_that_cannot_be_read_is_a_bad_config(site):
    """Exit 78, as for one that is missing."""
    (site.root / "config.yaml").chmod(0)
    code, text = etl(site.root, "check")
    assert code == 78
    assert "config.yaml:1:1: cannot be read: Permission denied" in text


def test_a_file_in_a_folder_of_others_is_no_reason_to_fail(site):
    """`etl check` warns, `etl try` says that nothing is there to read, also without a config that could be read."""
    (site.root / "others").mkdir(mode=0)
    site.save(sources=[{"name": "oven", "file": "others/oven.json"}])
    code, text = etl(site.root, "check")
    assert code == 0
    assert "others/oven.json cannot be reached: Permission denied" in text
    assert etl(site.root, "try")[0] == 69
    assert etl(site.root / "others", "try", str(site.root / "oven.json"))[0] == 0


def test_the_hint_on_a_folder_that_cannot_be_read_is_about_its_mode(site):
    """Exit 74 with the path; the disk and its mount are not blamed."""
    assert etl(site.root, "once")[0] == 0
    (site.root / "output").chmod(0)
    code, text = etl(site.root, "status")
    (site.root / "output").chmod(0o700)
    assert code == 74
    assert "Permission denied. Check its owner and mode." in text


def test_a_folder_that_cannot_be_written_gets_no_export(site):
    """Exit 73 before anything is read; exit 74 with the path for a log that cannot be read, and nothing is left."""
    assert etl(site.root, "once")[0] == 0
    (averages,) = (site.root / "output" / "averages").iterdir()
    day, folder = averages.stem, site.root / "tables"
    folder.mkdir(mode=0o555)
    code, text = etl(site.root, "export", day, "--to", "tables/out.csv")
    assert code == 73
    assert "tables cannot be written" in text
    folder.chmod(0o755)
    averages.chmod(0)
    code, text = etl(site.root, "export", day, "--to", "tables/out.csv")
    assert code == 74
    assert f"{averages.name}: Permission denied" in text
    assert list(folder.iterdir()) == []
