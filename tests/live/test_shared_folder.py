"""Other programs in the output folder: a second process, and files that are renamed, truncated or deleted."""

from __future__ import annotations

import os
import random
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from etl.readings.records import Failure
from etl.storage.lock import take_lock
from tests.support.numbered import check_averages, entries_of, numbered, numbers, stderr
from tests.support.process import HANG_S, Site, caused_by_load, end, until
from tests.support.transport import run_tick


def test_a_second_process_is_refused_also_through_a_link(site):
    """A second run on the folder, or on a link to it, exits with 75; after kill -9 a new one starts."""
    second = site.root / "second"
    second.mkdir()
    (second / "link").symlink_to("../output")
    linked = dict(site.config, output={"folder": "link"}, sources=[{"name": "numbered", "file": "../numbered.json"}])
    (second / "config.yaml").write_text(yaml.safe_dump(linked))
    with site.running() as process:
        until(lambda: site.lines("raw"))
        for file in ("config.yaml", "second/config.yaml"):
            refused = site.etl("run", "--config", file)
            assert refused.returncode == 75
            assert f"process {process.pid}" in refused.stderr
        process.kill()
    known = len(site.lines("raw"))
    with site.running() as process:
        until(lambda: len(site.lines("raw")) > known)
        end(process)
    gaps = [gap for gap in site.events("gap") if not caused_by_load(gap)]
    assert [gap["reason"] for gap in gaps] == ["ended uncleanly"]
    check_averages(site)


def rename(path: Path, chance: random.Random) -> None:
    path.rename(path.with_name(f"{path.name}.{chance.random()}"))


def truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def test_files_disturbed_by_others_are_created_again(tmp_path):
    """Renamed, truncated or deleted over and over, files are created again, each time with an event."""
    chance = random.Random(3)
    with ExitStack() as stack:
        sites = {}
        for disturb in (rename, truncate, delete):
            (tmp_path / disturb.__name__).mkdir()
            site = sites[disturb] = numbered(tmp_path / disturb.__name__)
            site.process = stack.enter_context(site.running())
        for kinds in 4 * (("raw",), ("averages",), ("raw", "averages"), ("averages", "events")):
            for site in sites.values():
                until(lambda site=site: site.lines("averages") and site.lines("events"))
            known = [disturbed(site, kinds, disturb, chance) for disturb, site in sites.items()]
            for site, before in zip(sites.values(), known, strict=True):
                until(lambda site=site, before=before, kind=kinds[0]: kind in {k for _, k in told(site) - before})
        for site in sites.values():
            before = len(site.lines("raw"))
            until(lambda site=site, before=before: len(site.lines("averages")) > before)
            end(site.process)
    for site in sites.values():
        check_disturbed(site)


def disturbed(site: Site, kinds: tuple[str, ...], disturb, chance: random.Random) -> set[tuple[str, str]]:
    """Disturb today's files; the events that were there before."""
    before = told(site)
    for kind in kinds:
        disturb((site.root / "output" / f"{kind}.jsonl").resolve(), chance)
    return before


def check_disturbed(site: Site) -> None:
    """Every file that is left is whole, and the averages follow from the raw log."""
    for path in (site.root / "output").glob("*/*"):
        data = path.read_bytes()
        assert b"\0" not in data
        assert data.endswith(b"\n") or not data or path.suffix not in (".jsonl", ".torn")
    assert "Traceback" not in stderr(site)
    check_averages(site)
    raw = numbers(site.lines("raw"))
    assert raw == sorted(set(raw))


def told(site: Site) -> set[tuple[str, str]]:
    """The time and the kind of file of each event about a disturbed file."""
    return {(event["at"], event["file"].split("/")[0]) for event in site.events("truncated")}


def test_a_deleted_folder_is_created_again(site):
    """With the whole output folder deleted, readings go on in a new one, and the process holds its lock."""
    with site.running() as process:
        until(lambda: len(site.lines("averages")) > 3)
        (site.root / "output").rename(site.root / "away")
        shutil.rmtree(site.root / "away")
        until(lambda: len(site.lines("averages")) > 3)
        assert site.etl("once").returncode == 75
        end(process)
    raw = numbers(site.lines("raw"))
    assert raw == list(range(raw[0], raw[0] + len(raw)))
    assert raw[0] > 3
    assert entries_of(site)
    check_averages(site)


def test_a_folder_taken_by_another_process_is_left_to_it(site):
    """Where another process has locked the folder after it was deleted, this one exits with 75 and names it."""
    with site.running() as process:
        until(lambda: site.lines("averages"))
        process.send_signal(signal.SIGSTOP)
        shutil.rmtree(site.root / "output")
        lock = take_lock(site.root / "output")
        process.send_signal(signal.SIGCONT)
        assert process.wait(HANG_S) == 75
        os.close(lock)
    assert f"held by process {os.getpid()}" in stderr(site)


@pytest.mark.parametrize("kind", ["raw", "averages", "events"])
@pytest.mark.parametrize("how", ["rename", "delete", "truncate"])
def test_a_file_disturbed_by_others_is_an_event(scripted, kind, how):
    """A file renamed, deleted or cut is created again within a tick; averages still follow from the raw log."""
    here = scripted()
    here.pipeline.events.record("start")
    for _ in range(3):
        run_tick(here)
    path = here.folder.path(kind, "2026-11-22")
    if how == "rename":
        path.rename(path.with_suffix(".old"))
    elif how == "delete":
        path.unlink()
    else:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
    here.script.answers["a"] = Failure("refused", "connection refused")
    run_tick(here)
    run_tick(here)
    raw, averages = here.records("raw"), here.records("averages")
    assert [line["_polled_at"] for line in raw] == [line["polled_at"] for line in averages]
    assert len(here.events("truncated")) == 1
    if kind != "raw":
        assert len(raw) == 13
