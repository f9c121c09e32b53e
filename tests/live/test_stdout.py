"""Readers of stdout that go away or stall."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys

import orjson

from tests.support.numbered import check_averages, stderr
from tests.support.process import Site, end, until


def left_out(site: Site) -> int:
    return int(re.search(r"did not take ([\d,]+) lines?", stderr(site))[1].replace(",", ""))


def test_a_reader_that_goes_away_costs_stdout_only(site):
    """When its reader closes stdout the files go on; the process exits with 0 and logs how many lines it left out."""
    with site.running() as process:
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        written = len(site.lines("raw"))
        until(lambda: len(site.lines("averages")) > written + 5)
        end(process)
    assert 1 <= 2 * len(site.lines("raw")) - left_out(site) <= 2 * written
    check_averages(site)


def test_a_reader_that_stalls_costs_stdout_only(site):
    """With stdout full and no reader the files go on; the process exits with 0 and logs how many lines it left out."""
    (site.root / "numbered.json").write_bytes(orjson.dumps([{"temperature": 1, "text": "x" * 1000}]))
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    with (
        open(ours, "rb") as pipe,
        (site.root / "stderr").open("w") as errors,
        subprocess.Popen([sys.executable, "-m", "etl", "run"], cwd=site.root, stdout=theirs, stderr=errors) as process,
    ):
        os.close(theirs)
        try:
            until(lambda: len(site.lines("averages")) > 10)
            end(process)
        finally:
            process.kill()
        printed = pipe.read()
    assert printed.count(b"\n") + left_out(site) == len(site.lines("raw")) + len(site.lines("averages"))
    check_averages(site)
