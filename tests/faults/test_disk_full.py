"""A real process on a disk that is full, read-only or gone, and readers of the files it writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, groupby
from operator import itemgetter

import pytest

from etl.config import load as config
from etl.storage.folder import Folder
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.plant import FIXTURE
from tests.support.process import HANG_S, Site, end, until
from tests.support.small_disk import full, limited, mount, mounted, read_only, small_disk


class Numbers(ThreadingHTTPServer):
    """A machine that answers with one number after the other, each in half a KiB.

    `given` counts the answers. While `answering` is not set, requests wait.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        self.given = 0
        self.lock = threading.Lock()
        self.answering = threading.Event()
        self.answering.set()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def handle_error(self, *_):
        """Ignore that a client is gone: requests that waited are answered when nobody listens any more."""

    def __exit__(self, *_):
        self.answering.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.answering.wait(HANG_S)
        with self.server.lock:
            number = self.server.given
            self.server.given += 1
        body = json.dumps({"temperature": 20, "fan_speed": 900, "pad": "x" * 400, "n": number}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def numbers():
    with Numbers() as server:
        yield server


def configure(site: Site, numbers: Numbers) -> None:
    """Read the machine ten times a second, as 50 sources: each of them has four seconds to answer."""
    source = {"name": "m-{n}", "url": numbers.url, "count": 50}
    site.save(interval="5s", sources=[source], output={"stdout": []})


def written(site: Site) -> list[int]:
    """The numbers in the raw log, sorted; those of each source are in order there."""
    paths = sorted((site.root / "output" / "raw").glob("*.jsonl"))
    lines = chain.from_iterable(path.read_bytes().splitlines(keepends=True) for path in paths)
    readings = [json.loads(line) for line in lines if line.endswith(b"\n")]
    for _, group in groupby(sorted(readings, key=itemgetter("_source")), itemgetter("_source")):
        of_source = [reading["n"] for reading in group]
        assert of_source == sorted(of_source)
    return sorted(reading["n"] for reading in readings)


def stop_answering(site: Site, numbers: Numbers) -> int:
    """Let the machine answer no more, and wait until the process has every answer; how many there were."""
    numbers.answering.clear()
    with numbers.lock:
        given = numbers.given
    until(lambda: site.metric('telemetry_polls_total{result="answered"}') == given)
    return given


def whole(site: Site) -> bool:
    """Whether no file of lines has a torn end."""
    paths = [path for kind in ("raw", "averages", "events") for path in (site.root / "output" / kind).glob("*.jsonl")]
    return all(path.read_bytes()[-1:] in (b"", b"\n") for path in paths)


def ready(site: Site) -> tuple[int, str]:
    """What /readyz says: the status and the reasons."""
    try:
        return 200, " ".join(site.ask("/readyz")["reasons"])
    except urllib.error.HTTPError as error:
        with error:
            return error.code, " ".join(json.load(error)["reasons"])


def follows(site: Site) -> bool:
    """Whether the averages are what the raw log implies."""
    loaded = config.load(site.root / "config.yaml")
    folder = Folder(site.root / "output")
    derivation = Derivation(SettingsLog(folder, loaded.settings))
    return all(b"".join(derivation.day(day)) == folder.path("averages", day).read_bytes() for day in folder.days("raw"))


DISKS = pytest.mark.parametrize("broken", [full, read_only, limited], ids=lambda broken: broken.__name__)


@DISKS
def test_what_is_polled_while_the_disk_takes_nothing_is_written_later(site, numbers, broken):
    """The process goes on, reports it everywhere, leaves no torn line, and later writes everything in order."""
    configure(site, numbers)
    with small_disk(site, broken), site.running() as process:
        until(lambda: len(written(site)) >= 3)
        with broken(site, process) as reason:
            until(lambda: f"cannot be written: {reason}" in ready(site)[1])
            assert ready(site)[0] == 503
            polled = numbers.given
            until(lambda: numbers.given >= polled + 5)
            until(lambda: whole(site))
            assert process.poll() is None
            assert "Cannot write to output: " in (site.root / "stderr").read_text()
        until(lambda: ready(site) == (200, ""))
        (dropped,) = until(lambda: site.events("dropped"))
        assert (dropped["reason"], dropped["lines"]) == (reason, 0)
        given = stop_answering(site, numbers)
        until(lambda: len(written(site)) == given)
        end(process)
        assert written(site) == list(range(given))
        assert follows(site)
        assert whole(site)
    errors = (site.root / "stderr").read_text()
    assert errors.count("ERROR Cannot write to") == errors.count("WARNING output can be written again") == 1


@DISKS
def test_ended_while_the_disk_takes_nothing_it_logs_how_much_is_lost(site, numbers, broken):
    """A process asked to end in that state exits with 74 and the number of readings that were not written."""
    configure(site, numbers)
    with small_disk(site, broken), site.running() as process:
        until(lambda: len(written(site)) >= 3)
        with broken(site, process):
            until(lambda: "cannot be written" in ready(site)[1])
            polled = numbers.given
            until(lambda: numbers.given >= polled + 5)
            given = stop_answering(site, numbers)
            end(process, code=74)
        kept = written(site)
        assert len(set(kept)) == len(kept)
        lost = given - len(kept)
        assert lost >= 5
        assert f"{lost} readings could not be written to output" in (site.root / "stderr").read_text()
        assert whole(site)


@pytest.mark.parametrize("before", [False, True], ids=["new folder", "used before"])
def test_started_on_a_read_only_disk_it_says_where_and_what_to_do(site, numbers, before):
    """It exits with 73, the path and a hint before it polls anything, whether the folder was written before or not."""
    configure(site, numbers)
    with mounted(site.root / "output"):
        if before:
            site.etl("once")
        polled = numbers.given
        mount("-o", "remount,ro", str(site.root / "output"))
        refused = site.etl("run")
    assert numbers.given == polled
    assert refused.returncode == 73
    assert refused.stderr.startswith("output cannot be created or written: Read-only file system.")
    assert "output.folder" in refused.stderr


def test_a_folder_deleted_at_runtime_is_created_again(site, numbers):
    """With its folder deleted the process goes on in a new one, and writes the settings there again."""
    configure(site, numbers)
    with site.running() as process:
        until(lambda: len(written(site)) >= 3)
        # Renamed first: the process writes into the folder while it is being deleted.
        shutil.rmtree((site.root / "output").rename(site.root / "deleted"))
        deleted = numbers.given
        until(lambda: len(written(site)) >= 3)
        given = stop_answering(site, numbers)
        end(process)
    kept = written(site)
    assert set(kept) >= set(range(deleted, given))
    assert len(set(kept)) == len(kept)
    assert follows(site)
    assert len((site.root / "output" / "settings.jsonl").read_bytes().splitlines()) == 1
    assert site.events("truncated")[0]["reason"] == "renamed or deleted"


def test_a_reader_never_meets_a_damaged_line_but_the_last(site, numbers):
    """Read at any moment, also while the disk is full, every line is JSON but for an unfinished last one."""
    configure(site, numbers)
    with small_disk(site, full), site.running() as process:
        until(lambda: len(written(site)) >= 3 and (site.root / "output" / "averages.jsonl").exists())
        counts = list(read_while_polled(site, numbers))
        with full(site, process):
            until(lambda: ready(site)[0] == 503)
            counts += read_while_polled(site, numbers)
        counts += read_while_polled(site, numbers)
        end(process)
    # A write that fails half-way is taken back, with lines that a reader may have seen whole; they are written again.
    assert counts[-1] == max(counts) > counts[0]


def read_while_polled(site: Site, numbers: Numbers):
    """Read today's lines over and over, a hundred times and during ten polls; how many there were each time."""
    polled, reads = numbers.given, 0
    while numbers.given < polled + 10 or reads < 100:
        count = 0
        for kind in ("raw", "averages"):
            *lines, _last = (site.root / "output" / f"{kind}.jsonl").read_bytes().split(b"\n")
            assert all(isinstance(json.loads(line), dict) for line in lines)
            count += len(lines)
        reads += 1
        yield count


@pytest.mark.skipif(not shutil.which("tail"), reason="there is no tail here")
@pytest.mark.parametrize("kind", ["raw", "averages"])
def test_tail_follows_every_line_once_over_midnight(plant, kind):
    """`tail -F` on the link to today's file prints each line once, in order, also when the day changes."""
    here = plant(1_795_391_970.0, sources=[{"name": "machine-1", "file": str(FIXTURE)}])
    here.tick()
    command = ["tail", "-s", "0.02", "-n", "+1", "-F", str(here.folder.root / f"{kind}.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tail:
        lines = [tail.stdout.readline()]
        for n in range(9):
            here.clock.now += (n % 3 == 2) * 86_400
            here.tick()
            lines.append(tail.stdout.readline())
        tail.terminate()
        lines += tail.stdout.readlines()
    assert lines == b"".join(here.bytes_of(kind).values()).splitlines(keepends=True)
    assert len(here.folder.days(kind)) == 4
