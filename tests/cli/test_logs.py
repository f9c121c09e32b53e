"""The log on stderr as text and as JSON lines, whose fields are those of the events."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.process import Site, closed_day, end, until

CODES = ("event", "source", "reason")
LOGGED = {"start", "stop", "source_down", "source_up", "no_number", "report", "dropped", "truncated"}
"""Events that have a log line each."""


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.save(interval="200ms", sources=[], api={"serve": False}, output={"stdout": []})
    return site


def logged(site: Site) -> list[dict]:
    return [json.loads(line) for line in (site.root / "stderr").read_text().splitlines()]


def codes(entry: dict) -> tuple:
    return tuple(entry.get(key) for key in CODES)


def file_source(site: Site, name: str, body: str) -> dict:
    (site.root / f"{name}.json").write_text(body)
    return {"name": name, "file": f"{name}.json"}


def test_a_log_line_has_the_codes_of_its_event(site):
    """With --log-format json a line that tells of an event has its event, source and reason as fields."""
    good = '{"temperature": 20, "fan_speed": 5}'
    sources = [file_source(site, "oven", good), file_source(site, "fan", '{"temperature": 20}')]
    sources.append({"name": "press", "url": f"http://user:s3cret@127.0.0.1:{site.port}/data?key=t0ken"})
    site.save(sources=sources, notify={"url": f"http://127.0.0.1:{site.port}/hook?key=t0ken"})
    closed_day(site)
    with site.running("-m", "etl", "run", "--log-format", "json") as process:
        until(lambda: len(site.lines("raw")) > 2)
        (site.root / "oven.json").rename(site.root / "aside.json")
        until(lambda: [event for event in site.events("source_down") if event["source"] == "oven"])
        (site.root / "aside.json").rename(site.root / "oven.json")
        until(lambda: site.events("source_up") and site.events("report") and site.events("no_number"))
        (site.root / "output" / "averages.jsonl").resolve().unlink()
        until(lambda: site.events("truncated"))
        end(process)
    lines = logged(site)
    events = [event for event in site.lines("events") if event["event"] in LOGGED]
    assert {event["event"] for event in events} >= LOGGED - {"dropped"}
    logged_codes = [codes(line) for line in lines if line.get("event") in LOGGED]
    assert sorted(logged_codes, key=str) == sorted(map(codes, events), key=str)
    down = next(line for line in lines if line.get("event") == "source_down" and line["source"] == "oven")
    assert down["reason"] == "no_file"
    assert down["level"] == "ERROR"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["at"]) for line in lines)
    assert all({"at", "level", "message"} <= line.keys() <= {"at", "level", "message", *CODES} for line in lines)
    assert not re.search("s3cret|t0ken", (site.root / "stderr").read_text())


PARENT = """
import subprocess, sys
from etl.cli.logs import log_to_stderr
log_to_stderr(sys.argv[1])
subprocess.run([sys.executable, "-m", "etl", "report"])
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_child_process_logs_in_the_format_of_its_parent(site, log_format):
    """Both write to the same stderr."""
    site.save(sources=[file_source(site, "oven", "{}")])
    with site.running("-c", PARENT, log_format) as process:
        process.wait()
    (line,) = (site.root / "stderr").read_text().splitlines()
    assert ("No report is due" in json.loads(line)["message"]) if log_format == "json" else line.split()[2] == "INFO"


def test_text_lines_have_no_codes(site):
    """As text a line is time, level and message, as without events."""
    site.save(sources=[file_source(site, "oven", "[1]")])
    with site.running() as process:
        until(lambda: site.events("source_down"))
        end(process)
    first, down, last = [line.split(" ", 2)[2] for line in (site.root / "stderr").read_text().splitlines()]
    assert first == "INFO Polling 1 source every 0.2 s; writing to output"
    assert down == f"ERROR Error fetching data from oven: {site.events('source_down')[0]['why']}"
    assert last == "INFO Stopped by SIGTERM"


@pytest.mark.parametrize("changes", [{"intervall": "1s"}, {"output": {"folder": "numbered.json"}}])
def test_refusals_as_json_lines(site, changes):
    """The error that keeps the process from starting has the same form."""
    (site.root / "numbered.json").write_text("[]")
    site.save(**changes)
    refused = site.etl("run", "--log-format", "json")
    assert refused.returncode in (73, 78)
    (line,) = refused.stderr.splitlines()
    assert json.loads(line)["level"] == "ERROR"
