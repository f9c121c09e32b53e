"""SIGHUP: the process takes over a changed config, and loses no poll."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Thread

import orjson
import pytest
import yaml

from etl.config import load as config
from etl.live.pipeline import NeedsRestartError
from tests.support.numbered import NUMBERED, check_averages, entries_of, folder_of, numbers, stderr
from tests.support.process import Site, caused_by_load, end, until


class Web(ThreadingHTTPServer):
    """A machine behind HTTP: numbers its answers, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """Without the look-up of the host's name that HTTPServer does."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "", 0


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b'{"n":%d,"temperature":1}' % len(self.server.asked)
        self.server.asked.append((self.path, self.headers["X-Key"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def web():
    with Web() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def reload(site: Site, process: subprocess.Popen, **changes) -> str:
    """Change the config and send SIGHUP; the line about it on stderr."""
    told = len(stderr(site))
    site.save(**changes)
    process.send_signal(signal.SIGHUP)
    return until(lambda: re.search(r".* is (not )?applied.*\n", stderr(site)[told:]))[0]


def test_a_reload_takes_over_sources_headers_threshold_and_stdout(site, web):
    """After SIGHUP added sources are read, removed ones are not, others go on; a changed header and path are sent."""
    array = site.config["sources"][0]
    (site.root / "followed.jsonl").write_bytes(b'{"n":0,"temperature":1}\n{"n":1,"temperature":1}\n')
    (site.root / "added.json").write_bytes(NUMBERED)
    first = {"name": "web", "url": f"{web.url}old", "headers": {"X-Key": "a"}}
    followed = {"name": "followed", "file": "followed.jsonl"}
    site.save(sources=[array, first, followed, {"name": "gone", "file": "numbered.json"}])
    with (site.root / "stdout").open("wb") as out, site.running(stdout=out) as process:
        until(lambda: ("/old", "a") in web.asked and len(site.lines("averages")) > 10)
        assert "is applied: polling 4 sources" in reload(
            site,
            process,
            sources=[
                array,
                {"name": "web", "url": f"{web.url}new", "headers": {"X-Key": "b"}},
                followed,
                {"name": "added", "file": "added.json"},
            ],
            report={"threshold": 0.7},
            output={"stdout": ["averages"], "keep_days": 3, "fsync": "10s"},
        )
        known = len(site.lines("raw"))
        with (site.root / "followed.jsonl").open("a") as file:
            file.write('{"n":2,"temperature":1}\n')
        until(lambda: numbers(site.lines("raw"), "followed") == [0, 1, 2])
        until(lambda: len(numbers(site.lines("raw"), "added")) > 3)
        end(process)
    raw, printed = site.lines("raw"), [orjson.loads(line) for line in (site.root / "stdout").read_bytes().splitlines()]
    first_entry, entry = entries_of(site)
    assert (first_entry.settings.threshold, entry.settings.threshold) == (0.2, 0.7)
    assert entry.line <= known + 1
    later = raw[entry.line - 1 :]
    # A poll in flight when its source goes is written, not lost: it may come behind the entry.
    assert len(numbers(later, "gone")) <= 1
    assert {line["_source"] for line in later} - {"gone"} == {"numbered", "web", "followed", "added"}
    assert not any("_source" in line for line in printed[-len(later) :])
    assert [line for line in printed if "_source" not in line] == site.lines("averages")
    assert numbers(raw) == list(range(len(numbers(raw))))
    assert numbers(raw, "added") == list(range(len(numbers(raw, "added"))))
    assert [before for before, after in pairwise(web.asked) if before != after] == [("/old", "a")]
    check_web(site, web)
    check_averages(site)


def test_a_reload_that_cannot_be_done_changes_nothing(site):
    """A change that needs a restart is refused and says so, a bad config with its error; sources and settings stay."""
    kept = dict(site.config)
    other = [{"name": "other", "file": "numbered.json"}]
    refused = {
        "interval": "200ms",
        "window": 3,
        "timezone": "Europe/Berlin",
        "parameters": {"temperature": "temperature"},
        "api": {"serve": False, "machines": 2},
        "output": {"folder": "elsewhere"},
    }
    with site.running() as process:
        until(lambda: site.lines("raw"))
        for key, value in refused.items():
            site.config = dict(kept)
            told = reload(site, process, sources=other, report={"threshold": 0.9}, **{key: value})
            assert "not applied" in told
            assert key in told
            assert "restart" in told
        site.config = dict(kept)
        assert "did you mean report" in reload(site, process, sources=other, reprot={"threshold": 0.9})
        site.config = dict(kept)
        deep = [{**other[0], "records": "[" * 3000}]
        assert "not applied" in reload(site, process, sources=deep)
        (site.root / "config.yaml").unlink()
        process.send_signal(signal.SIGHUP)
        until(lambda: "config.yaml:1:1: the file does not exist" in stderr(site))
        known = len(site.lines("raw"))
        until(lambda: len(site.lines("raw")) > known + 3)
        end(process)
    assert numbers(site.lines("raw")) == list(range(len(site.lines("raw"))))
    assert len(entries_of(site)) == 1
    assert not (site.root / "elsewhere").exists()


def test_a_reload_takes_over_retention(plant):
    """The next night deletes and compresses as the reloaded config says."""
    here = plant(start=1_795_392_000.0 - 20)
    here.tick_days(6)
    here.night()
    days = here.folder.days("raw")
    here.config["output"] = {"keep_days": 2, "compress": "gzip"}
    path = here.root / "config.yaml"
    path.write_text(yaml.safe_dump(here.config))
    here.pipeline.reload(config.load(path))
    here.tick()
    here.night()
    assert here.folder.days("averages")[0] > days[0]
    assert here.folder.packed_path("raw", here.folder.days("raw")[-2]).exists()
    here.config["window"] = 3
    path.write_text(yaml.safe_dump(here.config))
    with pytest.raises(NeedsRestartError, match="window changed, which needs a restart"):
        here.pipeline.reload(config.load(path))


def test_a_reload_takes_over_units_and_no_line_changes(plant):
    """Other units apply at once; they start no settings entry, and are in no line."""
    here = plant()
    here.tick()
    here.config["units"] = {"temperature": "°C"}
    path = here.root / "config.yaml"
    path.write_text(yaml.safe_dump(here.config))
    here.pipeline.reload(config.load(path))
    here.tick()
    assert here.pipeline.loaded.config.units == {"temperature": "°C"}
    raw, averages = here.records("raw"), here.records("averages")
    assert raw[0].keys() == raw[1].keys()
    assert averages[0].keys() == averages[1].keys()
    assert len((here.folder.root / "settings.jsonl").read_bytes().splitlines()) == 1


def resources(process: subprocess.Popen) -> tuple[int, int]:
    """How many descriptors and threads a process has."""
    return len(os.listdir(f"/proc/{process.pid}/fd")), len(os.listdir(f"/proc/{process.pid}/task"))


def raw_size(site: Site) -> int:
    """Bytes of the newest raw log."""
    return (site.root / "output" / "raw.jsonl").stat().st_size


def test_reloads_lose_no_tick_and_leave_nothing_behind(site, web, request):
    """Reloaded over and over while it ticks, every reading comes once and in order; descriptors and threads stay."""
    times = request.config.getoption("--reloads")
    (site.root / "followed.jsonl").touch()
    site.save(
        sources=[
            *site.config["sources"],
            {"name": "web", "url": web.url},
            {"name": "followed", "file": "followed.jsonl"},
        ]
    )
    with site.running() as process, (site.root / "followed.jsonl").open("a", buffering=1) as followed:
        until(lambda: numbers(site.lines("raw"), "web"))
        seen, size = [], raw_size(site)
        for n in range(times):
            followed.write(f'{{"n":{n},"temperature":1}}\n')
            reload(site, process, report={"threshold": n % 2 / 10})
            seen.append(resources(process))
            if n % 10 == 9:
                until(lambda size=size: raw_size(site) > size)
                size = raw_size(site)
        until(lambda: len(numbers(site.lines("raw"), "followed")) == times)
        end(process)
    raw = site.lines("raw")
    for name in ("numbered", "followed"):
        assert numbers(raw, name) == list(range(len(numbers(raw, name))))
    check_web(site, web)
    assert [entry.settings.threshold for entry in entries_of(site)][-2:] == [0.0, 0.1]
    for counts in zip(*seen, strict=True):
        assert max(counts[times // 2 :]) <= max(counts[: times // 2]) + 1
    check_averages(site)


def check_web(site: Site, web: Web) -> None:
    """Each answer is there once and in order, except those that a busy machine read too late."""
    read = numbers(site.lines("raw"), "web")
    late = [event["reason"] for event in site.events("source_down")]
    assert read == sorted(set(read))
    assert set(late) <= {"timeout"}
    assert len(read) == len(web.asked) or late


def test_a_slow_poll_outlives_a_reload(site):
    """A poll that is in flight during a reload is neither cut off nor counted as a failure."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        site.save(interval="30m", sources=[{"name": "slow", "url": url, "timeout": "20m"}])
        with site.running() as process:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                assert "is applied" in reload(site, process)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"temperature":1}')
                until(lambda: site.lines("averages"))
                end(process)
    assert site.events("source_down") == []


def test_a_reload_opens_new_files_where_files_were_renamed(site):
    """Renamed as by logrotate, files keep their lines; after SIGHUP the next lines go to new files."""
    site.save(interval="700ms")
    folder = folder_of(site)
    with site.running() as process:
        until(lambda: len(site.lines("averages")) >= 2)
        (day,) = folder.days("raw")
        for kind in ("raw", "averages", "events"):
            folder.path(kind, day).rename(folder.path(kind, day).with_suffix(".1"))
        reload(site, process)
        until(lambda: len(site.lines("averages")) >= 2)
        end(process)
    old = [orjson.loads(line) for line in folder.path("raw", day).with_suffix(".1").read_bytes().splitlines()]
    assert numbers(old + site.lines("raw")) == list(range(len(old + site.lines("raw"))))
    assert [event["event"] for event in site.lines("events") if not caused_by_load(event)] == ["stop"]
    check_averages(site)


def test_a_followed_file_is_not_read_twice_around_a_reload(plant):
    """A poll that is in flight during a reload, and the next one, read each line once."""
    here = plant(sources=[{"name": "m", "file": "m.jsonl"}])
    (here.root / "m.jsonl").write_bytes(b'{"n":0}\n{"n":1}\n')
    late = []
    here.pipeline._opened["file"].start(["m"], late.append)
    until(lambda: late)
    here.pipeline.reload(here.loaded)
    here.pipeline.poller.deliver(late[0])
    here.tick()
    assert [line["n"] for line in here.records("raw")] == [0, 1]
