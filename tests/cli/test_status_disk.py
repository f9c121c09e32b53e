"""What `etl status` says of a disk that takes no lines, from the folder alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from datetime import datetime

import pytest

from etl.storage.lock import take_lock
from etl.storage.space import UNKNOWN_AFTER_S
from tests.support.plant import FIXTURE
from tests.support.process import Site, end, until
from tests.support.small_disk import full, limited, mount, mounted, small_disk


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    shutil.copy(FIXTURE, tmp_path / "readings.json")
    source = {"name": "m-{n}", "file": "readings.json", "count": 40}
    site.save(interval="500ms", sources=[source], api={"serve": False}, output={"stdout": []})
    return site


def disk(site: Site) -> dict | None:
    return json.loads(site.etl("status", "--json").stdout)["disk"]


def summary(site: Site) -> list[str]:
    return site.etl("status").stdout.splitlines()[:2]


def last_line(site: Site) -> str:
    """The time of the newest line of the raw log and the events log."""
    return max([line["_polled_at"] for line in site.lines("raw")] + [event["at"] for event in site.lines("events")])


def is_old(moment: str) -> bool:
    """Whether a time is so long ago that a running process should have written a line since."""
    return time.time() - datetime.fromisoformat(moment).timestamp() > UNKNOWN_AFTER_S + 1


def test_a_full_disk_is_named_with_the_time_of_the_last_line(site):
    """Beside a process whose disk is full: since when, and how little is free; before and afterwards nothing."""
    with small_disk(site, full), site.running() as process:
        until(lambda: len(site.lines("raw")) > 40)
        assert disk(site) is None
        with full(site, process):
            problem = until(lambda: disk(site))
            assert problem["problem"] == "full"
            assert problem["free_bytes"] < 1 << 20
            assert problem["since"] == last_line(site)
            first, second = summary(site)
            assert "running, last reading" in first
            assert second.startswith(f"disk full since {problem['since']} (")
            assert second.endswith("free): no line is written")
        until(lambda: site.events("dropped"))
        until(lambda: disk(site) is None)
        end(process)


def test_rejected_writes_without_a_visible_reason_are_a_problem_too(site):
    """Where a limit or a quota rejects lines, space is left: that no line comes any more is said, and not more."""
    with site.running() as process:
        until(lambda: site.lines("raw"))
        with limited(site, process):
            problem = until(lambda: disk(site))
            assert (problem["problem"], problem["since"]) == ("unknown", last_line(site))
            assert summary(site)[1].startswith(
                f"no line was written since {problem['since']}, although not every source is down: the disk may reject"
            )
        until(lambda: disk(site) is None)
        end(process)


def test_a_process_that_hangs_is_a_problem_too(site):
    """A stopped process holds the folder and writes nothing."""
    with site.running() as process:
        until(lambda: site.lines("raw"))
        process.send_signal(signal.SIGSTOP)
        assert until(lambda: disk(site))["problem"] == "unknown"
        process.send_signal(signal.SIGCONT)
        until(lambda: disk(site) is None)
        end(process)


@pytest.mark.parametrize(
    "source", [{"file": "none.json"}, {"file": "no.jsonl"}, {"file": "no.json", "records": "machines"}]
)
def test_sources_without_readings_are_no_problem_of_the_disk(site, source):
    """A process that writes nothing has no problem if its sources are down, or have nothing new."""
    (site.root / "no.jsonl").touch()
    (site.root / "no.json").write_text('{"machines": []}')
    site.save(interval="100ms", sources=[{"name": "m", **source}])
    with site.running() as process:
        until(lambda: site.lines("events"))
        until(lambda: is_old(last_line(site)))
        assert disk(site) is None
        end(process)


@pytest.mark.parametrize("command", ["run", "once"])
def test_another_process_that_holds_the_folder_is_no_problem(site, command):
    """A rebuild, for example, holds the folder after `etl run` stopped, or where it never ran, and writes no lines."""
    if command == "run":
        with site.running() as process:
            until(lambda: site.lines("raw"))
            end(process)
    else:
        site.etl("once")
    lock = take_lock(site.root / "output")
    try:
        os.utime(site.root / "output" / ".lock", (0, 0))
        until(lambda: is_old(last_line(site)))
        assert disk(site) is None
    finally:
        os.close(lock)


def test_without_a_process_a_disk_without_space_is_named(site):
    """Nothing runs, so nothing is said of a time."""
    with mounted(site.root / "output"):
        site.etl("once")
        assert disk(site) is None
        with full(site, None):
            assert disk(site)["since"] is None
            assert summary(site)[1].startswith("disk full (")
            assert summary(site)[1].endswith(" free)")


def test_a_read_only_disk_is_named(site):
    """Also where it has space."""
    with mounted(site.root / "output"):
        site.etl("once")
        mount("-o", "remount,ro", str(site.root / "output"))
        assert disk(site)["problem"] == "read_only"
        assert summary(site)[1] == "disk read-only"
