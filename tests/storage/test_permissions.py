"""Who may read the output folder: the umask of the process decides, for every file and folder alike."""

from __future__ import annotations

import stat

import pytest

from etl.storage.folder import Folder
from etl.storage.retention import compress
from tests.support.commands import umask
from tests.support.process import Site, closed_day, end, until


def modes(root) -> dict[str, str]:
    """The permissions of each file and folder below a folder, links left out."""
    paths = [path for path in root.rglob("*") if not path.is_symlink()]
    return {str(path.relative_to(root)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in paths}


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_every_file_has_the_mode_that_the_umask_leaves(tmp_path, mask):
    """A run, a night, a repair, a rebuild, a replay and a compression create files with 0666 and folders with 0777."""
    site, output = Site(tmp_path), tmp_path / "output"
    with umask(mask):
        day = closed_day(site)
        site.save(output={"stdout": []}, timezone="UTC")
        with (output / "raw" / f"{day}.jsonl").open("a") as raw:
            raw.write('{"torn')
        assert site.etl("rebuild").returncode == 0
        with site.running() as process:
            until(lambda: site.events("report") and site.lines("averages"))
            end(process)
        recorded = tmp_path / "recorded.json"
        recorded.write_text('[{"timestamp": "2026-01-07T10:00:00Z", "temperature": 1}]')
        assert site.etl("replay", "recorded.json", "--output", "output/replayed").returncode == 0
        assert compress(Folder(output), lambda: False) == [day]
        for averages in (output / "averages").glob("*.jsonl"):
            averages.unlink()
        assert site.etl("once").returncode == 69
    by_path = modes(output)
    names = {name.replace(day, "DAY") for name in by_path}
    assert names >= {
        ".lock", "settings.jsonl", "raw/DAY.jsonl.gz", "raw/DAY.jsonl.torn", "averages/DAY.jsonl.gz", "events",
        "reports/DAY.json", "reports/DAY.html", "reports/history/DAY.msgpack", "replayed/raw/2026-01-07.jsonl",
    }  # fmt: skip
    assert {name: mode for name, mode in by_path.items() if (output / name).is_file()} == {
        name: f"{0o666 & ~mask:o}" for name in by_path if (output / name).is_file()
    }
    assert {name: mode for name, mode in by_path.items() if (output / name).is_dir()} == {
        name: f"{0o777 & ~mask:o}" for name in by_path if (output / name).is_dir()
    }
