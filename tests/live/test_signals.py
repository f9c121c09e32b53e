"""Signals and other influences from outside: ended, reloaded, stopped for a while, its files moved or deleted."""

from __future__ import annotations

import fcntl
import gzip
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import orjson
import pytest
import yaml

from etl.config import load as config
from etl.live.pipeline import NeedsRestartError
from etl.nightly.report import encode
from etl.readings.records import Settings, SettingsEntry
from etl.storage.derivation import Derivation
from etl.storage.folder import Folder
from etl.storage.lock import take_lock
from etl.storage.recovery import write_settings
from etl.storage.retention import compress
from etl.storage.settings_log import SettingsLog
from tests.support.plant import FIXTURE
from tests.support.process import HANG_S, Site, caused_by_load, end, until
from tests.support.reports import make_report

NUMBERED = orjson.dumps([{"n": n, "temperature": n % 9, "fan_speed": 5} for n in range(5000)])


@pytest.fixture
def site(tmp_path):
    """A folder with one source of numbered readings, read every 100 ms."""
    return numbered(tmp_path)


def numbered(root: Path) -> Site:
    site = Site(root)
    (root / "numbered.json").write_bytes(NUMBERED)
    site.save(
        interval="100ms",
        timezone="UTC",
        sources=[{"name": "numbered", "file": "numbered.json"}],
        api={"serve": False},
    )
    return site


def folder_of(site: Site) -> Folder:
    return Folder(site.root / "output")


SETTINGS = Settings(5, {}, "UTC", 10.0, 0.2)


def entries_of(site: Site) -> list[SettingsEntry]:
    """The entries of settings.jsonl."""
    return SettingsLog(folder_of(site), SETTINGS).entries


def numbers(lines: list[dict], source: str = "numbered") -> list[int]:
    return [line["n"] for line in lines if line["_source"] == source]


def stderr(site: Site) -> str:
    return (site.root / "stderr").read_text()


def check_averages(site: Site) -> None:
    """The averages follow from the raw log."""
    folder = folder_of(site)
    derivation = Derivation(SettingsLog(folder, config.load(site.root / "config.yaml").settings))
    for day in folder.days("raw"):
        assert b"".join(derivation.day(day)) == folder.path("averages", day).read_bytes()


@contextmanager
def mute():
    """The URL of a machine that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_during_a_tick_everything_printed_is_whole(site, number):
    """Ended when a reading is written, again and again, the process exits with 0 and each reading has its average."""
    (site.root / "followed.jsonl").touch()
    site.save(sources=[*site.config["sources"], {"name": "followed", "file": "followed.jsonl"}])
    for start in range(0, 300, 100):
        before = len(site.lines("raw"))
        with (site.root / "followed.jsonl").open("a") as file:
            file.writelines(f'{{"n":{n},"temperature":1}}\n' for n in range(start, start + 100))
        with site.running() as process:
            until(lambda before=before: len(site.lines("raw")) > before)
            end(process, number)
        assert len(site.lines("raw")) == len(site.lines("averages"))
        assert site.events("stop")[-1]["reason"] == number.name
    assert numbers(site.lines("raw"), "followed") == list(range(300))
    check_averages(site)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_twice_it_ends_at_once(site, number):
    """A second signal does not wait for a poll that hangs; the next start finds everything whole."""
    with mute() as url:
        sources = [{"name": "mute", "url": url, "timeout": "20m"}, {"name": "file", "file": str(FIXTURE)}]
        site.save(interval="30m", sources=sources)
        with site.running() as process:
            until(lambda: site.lines("averages"))
            until(lambda: process.poll() is not None or process.send_signal(number))
            assert process.returncode == 128 + number
    site.save(sources=sources[1:])
    assert site.etl("once").returncode == 0
    assert site.events("repaired") == []
    check_averages(site)


def test_ended_during_a_report_it_is_left_for_the_next_start(site):
    """Ended in the middle of a big day's report the process exits with 0 and leaves none; the next start makes it."""
    site.etl("once")
    folder = folder_of(site)
    line = b'{"temperature":%d,"_source":"m","_polled_at":"2026-01-05T10:00:00.%03dZ"}\n'
    block = b"".join(line % (20 + 9 * (n == 7), n) for n in range(1000))
    with gzip.open(folder.packed_path("raw", "2026-01-05"), "wb", 1) as file:
        file.writelines([block] * 120)
    with site.running() as process:
        until(lambda: "2026-01-05.jsonl.gz" in open_files(process))
        end(process)
    assert "the next start writes the report" in stderr(site)
    assert os.listdir(folder.reports_path) == []
    with site.running() as process:
        until(folder.reports)
        end(process)
    report = make_report(SettingsLog(folder, config.load(site.root / "config.yaml").settings), "2026-01-05")
    assert report["machines"][0]["readings"] == 120_000
    assert folder.report_path("2026-01-05").read_bytes() == encode(report)


def open_files(process: subprocess.Popen) -> set[str]:
    """The names of the files a process and its children have open."""
    names = set()
    children = [
        pid for task in Path(f"/proc/{process.pid}/task").glob("*/children") for pid in task.read_text().split()
    ]
    for pid in (process.pid, *children):
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(FileNotFoundError):
                names.add(fd.readlink().name)
    return names


# Reloading


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
        (site.root / "config.yaml").unlink()
        process.send_signal(signal.SIGHUP)
        until(lambda: "config.yaml:1:1: cannot be read" in stderr(site))
        known = len(site.lines("raw"))
        until(lambda: len(site.lines("raw")) > known + 3)
        end(process)
    assert numbers(site.lines("raw")) == list(range(len(site.lines("raw"))))
    assert len(entries_of(site)) == 1
    assert not (site.root / "elsewhere").exists()


def test_a_reload_takes_over_retention(plant):
    """The next night deletes and compresses as the reloaded config says."""
    here = plant(start=1_795_392_000.0 - 20)
    for _ in range(6):
        here.tick(4)
        here.clock.now += 86_400 - 40
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
    here.pipeline._files.start(["m"], late.append)
    until(lambda: late)
    here.pipeline.reload(here.loaded)
    here.pipeline.poller.deliver(late[0])
    here.tick()
    assert [line["n"] for line in here.records("raw")] == [0, 1]


# stdout


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


# Stopped and doubled


def test_stopped_for_a_while_there_is_one_gap_and_no_burst(site):
    """After SIGSTOP and SIGCONT one event records the gap, and there are no more polls than slots since then."""
    interval = 0.2
    site.save(interval="200ms")
    with site.running() as process:
        until(lambda: len(site.lines("raw")) > 3)
        process.send_signal(signal.SIGSTOP)
        before, stopped = len(site.lines("raw")), time.time()
        until(lambda: time.time() > stopped + 2.7)
        woken = time.time()
        process.send_signal(signal.SIGCONT)
        until(lambda: len(site.lines("averages")) > before + 5)
        end(process)
    (gap,) = [gap for gap in site.events("gap") if moment(gap["since"]) < stopped + 1 and moment(gap["at"]) >= woken]
    assert gap["reason"] == "stalled"
    assert gap["seconds"] >= 2.7
    polled = [moment(line["_polled_at"]) for line in site.lines("raw")]
    after = [at for at in polled if at >= woken - 0.001]
    assert len(polled) - len(after) <= before + 1
    assert len(after) <= (after[-1] - after[0]) / interval + 2


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


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


# Files disturbed by others


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


def test_settings_for_lines_that_were_cut_off_never_govern_others(tmp_path):
    """An entry for a line that a truncated file no longer has is superseded before it could govern a new line."""
    folder = Folder(tmp_path)
    one, two = (Settings(window, {"t": "t"}, "UTC", 10.0, 0.2) for window in (3, 5))
    day, path = "2026-11-22", folder.path("raw", "2026-11-22")
    path.parent.mkdir()
    for settings, lines in ((one, 10), (two, 20), (one, 3)):
        path.write_bytes(b"{}\n" * lines)
        write_settings(folder, settings, day, lambda *_, **__: None)
    assert SettingsLog(folder, one).entries == [
        SettingsEntry(day, 11, one),
        SettingsEntry(day, 21, two),
        SettingsEntry(day, 4, one),
    ]


def test_a_start_derives_the_averages_of_a_day_that_lacks_them(plant, monkeypatch):
    """At the next start a day in the middle without averages gets them again; compressed days stay as they are."""
    monkeypatch.setattr("etl.storage.recovery.TAIL_BYTES", 1)
    here = plant(start=1_795_392_000.0 - 20)
    for _ in range(6):
        here.tick(4)
        here.clock.now += 86_400 - 40
    here.pipeline.writer.finish()
    wanted = here.bytes_of("averages")
    _, gone, packed, *_ = wanted
    for kind in ("raw", "averages"):
        path = here.folder.path(kind, packed)
        here.folder.packed_path(kind, packed).write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    here.folder.path("averages", gone).unlink()
    here.open()
    here.pipeline.writer.tick()
    assert not here.folder.path("averages", packed).exists()
    assert {
        day: b"".join(line for _, line in here.folder.lines("averages", day)) for day in here.folder.days("averages")
    } == wanted


def test_compression_waits_until_the_folder_is_recovered(plant):
    """Before recovery has run, nothing is compressed and nothing is deleted."""
    here = plant(start=1_795_392_000.0 - 20)
    for _ in range(4):
        here.tick(4)
        here.clock.now += 86_400 - 40
    here.night()
    here.config["output"] = {"keep_days": 1, "compress": "gzip"}
    before = {kind: here.bytes_of(kind) for kind in ("raw", "averages", "events")}
    here.open()
    here.night()
    assert {kind: here.bytes_of(kind) for kind in before} == before
    here.tick()
    here.night()
    assert here.folder.days("averages")[0] > min(before["averages"])


def test_compression_stops_where_it_is_when_the_process_ends(plant):
    """Asked to stop, compression leaves the plain file as it is and no other file beside it."""
    here = plant(start=1_795_392_000.0 - 20)
    here.tick(4)
    here.clock.now += 86_400
    here.tick()
    here.night()
    before = here.bytes_of("raw")
    assert compress(here.folder, lambda: True) == []
    assert here.bytes_of("raw") == before
    assert not [path for path in (here.folder.root / "raw").iterdir() if path.suffix != ".jsonl"]
