"""The commands as a user runs them: the real process, and with the clock frozen where a command reads it."""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest
from freezegun import freeze_time

from tests.support import commands
from tests.support.digest import DigestMachine
from tests.support.plant import FIXTURE
from tests.support.process import Site, caused_by_load, closed_day, end, not_refused, until
from tests.support.servers import Server


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_run_writes_files_and_stdout_and_ends_on_sigterm(site):
    """The process reads its own simulated machine, writes the same lines to files and stdout, serves, exits with 0."""
    site.save()
    with (site.root / "stdout").open("wb") as out, site.running(stdout=out) as process:
        until(lambda: len(site.lines("averages")) >= 6)
        assert site.ask("/averages")[0]["source"] == "machine-1"
        until(lambda: site.ask("/readyz") == {"ready": True, "reasons": []})
        assert site.ask("/events")[0]["event"] == "start"
        assert site.metric('telemetry_polls_total{result="answered"}') >= 6
        until(lambda: site.metric('telemetry_sources{state="down"}') == 0)
        assert b"machine-1" not in site.fetch("/metrics")
        end(process)
    printed = [json.loads(line) for line in (site.root / "stdout").read_bytes().splitlines()]
    raw, averages = site.lines("raw"), site.lines("averages")
    assert [line for line in printed if "_source" in line] == raw
    assert [line for line in printed if "_source" not in line] == averages
    assert len(raw) == len(averages) >= 6
    last = [line["temperature"] for line in raw[-5:]]
    assert averages[-1]["average_temperature"] == pytest.approx(sum(last) / 5, rel=1e-12)
    assert [event["event"] for event in site.lines("events") if not caused_by_load(event)] == ["start", "stop"]


def test_a_posted_status_is_seen_in_the_next_averages_line(site):
    """A status posted to the stand-alone API is in the averages lines of a run that reads it over HTTP."""
    site.save(api={"serve": False})
    with site.running("-m", "api", "--port", str(site.port)) as api:
        until(lambda: not_refused(site))
        with site.running() as process:
            until(lambda: site.lines("averages"))
            assert site.ask("/status", b'{"status": "completed"}') == {"message": "Status updated"}
            written = len(site.lines("averages"))
            until(lambda: len(site.lines("averages")) >= written + 2)
            assert site.lines("averages")[written + 1]["status"] == "COMPLETED"
            end(process)
        end(api)


def test_a_source_that_stops_and_starts_is_an_event_and_the_process_goes_on(site):
    """With the API stopped in between, the source goes down and comes back twice, with readings each time."""
    site.save(api={"serve": False})
    with site.running() as process:
        for _ in range(2):
            until(lambda: last_change(site) == "source_down")
            with site.running("-m", "api", "--port", str(site.port)) as api:
                written = len(site.lines("averages"))
                until(lambda written=written: len(site.lines("averages")) > written)
                until(lambda: last_change(site) == "source_up")
                end(api)
        until(lambda: last_change(site) == "source_down")
        end(process)
    assert {event["reason"] for event in site.events("source_down")} <= {"refused", "reset", "timeout"}


def last_change(site: Site) -> str | None:
    """The last event of a source that went down or came back."""
    events = [event["event"] for event in site.lines("events")]
    return next((name for name in reversed(events) if name in ("source_down", "source_up")), None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_hanging_source_does_not_hold_up_the_end(site, number):
    """With a poll in flight that never answers, the process exits with 0 long before the poll's deadline."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        sources = [{"name": "mute", "url": url, "timeout": "20m"}, {"name": "file", "file": str(FIXTURE)}]
        site.save(interval="30m", sources=sources)
        with site.running() as process:
            until(lambda: site.lines("averages"))
            end(process, number)
    assert site.events("source_down") == []


def test_an_array_of_readings_as_the_only_source(site):
    """With the shipped fixture as the only source its readings are written in order, without the API."""
    site.save(sources=[{"name": "fixture", "file": str(FIXTURE)}], api={"serve": False})
    with site.running() as process:
        until(lambda: len(site.lines("averages")) >= 4)
        end(process)
    readings = json.loads(FIXTURE.read_bytes())
    assert [line["timestamp"] for line in site.lines("raw")][:4] == [reading["timestamp"] for reading in readings[:4]]


def test_once_reads_every_source_and_exits(site):
    """One tick: both lines of the source, exit code 0; if no source answers, 69 and a hint."""
    site.save(sources=[{"name": "fixture", "file": str(FIXTURE)}])
    done = site.etl("once")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    site.save(sources=[{"name": "off", "url": f"http://127.0.0.1:{site.port}/data"}])
    off = site.etl("once")
    assert off.returncode == 69
    assert "Error fetching data from off: connection refused" in off.stderr
    assert "No source answered" in off.stderr


@pytest.mark.parametrize("transport", ["requests", "curl"])
def test_a_login_by_digest(site, transport):
    """A source with `auth: digest` is polled with the login in its url."""
    if transport == "curl":
        pytest.importorskip("pycurl")
    server = Server(DigestMachine({"admin": "p/ss@"}, "SHA-256"))
    url = server.url.replace("://", "://admin:${PASSWORD}@")
    site.save(transport=transport, sources=[{"name": "shelly", "url": url, "auth": "digest"}])
    done = site.etl("once", env={**os.environ, "PASSWORD": "p%2Fss%40"})
    server.close()
    assert (done.returncode, len(site.lines("raw"))) == (0, 1)


def test_a_second_process_is_refused_with_the_first_ones_pid(site):
    """The second run on one folder exits with 75 and names the process that holds it."""
    site.save()
    with site.running() as process:
        until(lambda: site.lines("raw"))
        second = site.etl("run")
        assert second.returncode == 75
        assert f"process {process.pid}" in second.stderr
        end(process)


def test_a_port_in_use_is_an_error_before_anything_is_written(site):
    """Exit code 74 with the address and what to do; no line is written."""
    with socket.create_server(("127.0.0.1", site.port)):
        site.save()
        refused = site.etl("run")
    assert refused.returncode == 74
    assert f"Cannot listen on 127.0.0.1:{site.port}" in refused.stderr
    assert "Set another api.port" in refused.stderr
    assert site.lines("raw") == []


def test_an_address_of_another_machine_is_not_blamed_on_the_port(site):
    """Exit code 74 with a hint about api.host; 203.0.113.1 belongs to nobody."""
    site.save(api={"host": "203.0.113.1", "port": site.port, "token": "t"})
    refused = site.etl("run")
    assert refused.returncode == 74
    assert "Set another api.host" in refused.stderr


def test_an_output_that_cannot_be_created_is_an_error(site):
    """Exit code 73 with the path and what to do."""
    (site.root / "output").write_text("a file stands here")
    site.save()
    refused = site.etl("run")
    assert refused.returncode == 73
    assert "output.folder" in refused.stderr


def test_the_hand_made_report_is_the_nightly_one(site):
    """A closed day without a report gets one at start; `etl report --date` writes the same bytes."""
    site.save(sources=[{"name": "fixture", "file": str(FIXTURE)}])
    day = closed_day(site)
    path = site.root / "output" / "reports" / f"{day}.json"
    with site.running() as process:
        until(path.exists)
        assert site.ask("/reports") == [day]
        nightly = path.read_bytes()
        assert site.ask(f"/reports/{day}") == json.loads(nightly)
        path.unlink()
        by_hand = site.etl("report", "--date", day)
        assert by_hand.stdout == f"output/reports/{day}.json\n"
        assert path.read_bytes() == nightly
        end(process)
    assert [a["value"] for a in json.loads(nightly)["machines"][0]["parameters"]["temperature"]["anomalies"]] == [29.0]


def test_report_of_a_day_that_is_not_closed_goes_to_stdout(site):
    """Before `report.at` of the next day the report is printed; afterwards it is kept and its path is printed."""
    site.save(sources=[{"name": "fixture", "file": str(FIXTURE)}], timezone="UTC", output={"stdout": []})
    reports = site.root / "output" / "reports"
    with freeze_time("2026-11-22T12:00:00Z"):
        assert commands.etl(site.root, "once").returncode == 0
    with freeze_time("2026-11-23T00:04:59Z"):
        printed = commands.etl(site.root, "report", "--date", "2026-11-22")
        assert json.loads(printed.stdout)["date"] == "2026-11-22"
        assert "not closed yet" in printed.stderr
        assert list(reports.iterdir()) == []
    with freeze_time("2026-11-23T00:05:01Z"):
        kept = commands.etl(site.root, "report", "--date", "2026-11-22")
        assert kept.stdout == "output/reports/2026-11-22.json\n"
        assert json.loads((reports / "2026-11-22.json").read_bytes())["date"] == "2026-11-22"
    missing = site.etl("report", "--date", "2020-02-30")
    assert (missing.returncode, "is not a date" in missing.stderr) == (2, True)
    assert site.etl("report", "--date", "2020-02-28").returncode == 1


def test_every_due_report_is_made_by_hand(site):
    """Without a date every day that is due gets its report; before it is due, and after it is made, none does."""
    site.save(sources=[{"name": "fixture", "file": str(FIXTURE)}], timezone="UTC")
    day = closed_day(site)
    with freeze_time("2026-01-06T00:04:59Z"):
        assert commands.etl(site.root, "report").stdout == ""
    with freeze_time("2026-01-06T00:05:01Z"):
        assert commands.etl(site.root, "report").stdout == f"output/reports/{day}.json\n"
        assert commands.etl(site.root, "report").stdout == ""


def test_check_says_what_the_config_means(site):
    """A sound config is summed up with the next reports across the next change of the clocks; no file is written."""
    site.save(timezone="Europe/Berlin")
    with freeze_time("2026-03-27T12:00:00Z"):
        checked = commands.etl(site.root, "check")
    assert checked.returncode == 0
    assert "1 source, polled every 0.2 s" in checked.stdout
    assert "the clocks change on 2026-03-29" in checked.stdout
    assert "2026-03-28" in checked.stdout
    assert sorted(os.listdir(site.root)) == ["config.yaml"]


def test_check_recommends_curl_for_a_fleet(site):
    """From 300 sources over HTTP on, `etl check` recommends curl, unless it is set already."""
    source = {"name": "m-{n}", "url": "http://127.0.0.1:1/{n}", "count": 300}
    site.save(sources=[source])
    assert "300 sources over HTTP: transport: curl" in site.etl("check").stdout
    site.save(sources=[source], transport="curl")
    assert "over HTTP" not in site.etl("check").stdout
    site.save(sources=[{**source, "count": 299}])
    assert "over HTTP" not in site.etl("check").stdout


def test_a_bad_config_stops_every_command_before_anything_starts(site):
    """Each command exits 78 with the place of the mistake and a hint, and creates nothing."""
    (site.root / "config.yaml").write_text("intervall: 10s\nsources:\n  - {name: a, file: b.json}\n")
    for command in ("run", "once", "report", "check"):
        refused = site.etl(command)
        assert refused.returncode == 78
        assert refused.stderr.startswith("config.yaml:1:1: ")
        assert "did you mean interval?" in refused.stderr
    assert os.listdir(site.root) == ["config.yaml"]
