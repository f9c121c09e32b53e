"""FIFOs, folders, links and sockets in the places of files: named in a message, never waited for or followed."""

from __future__ import annotations

import errno
import os
import signal
import socket
from contextlib import chdir
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.process import Site, end, until

DAY = "2026-01-05"
PLACES = [
    f"raw/{DAY}.jsonl",
    f"raw/{DAY}.jsonl.gz",
    f"raw/{DAY}.jsonl.torn",
    f"raw/.{DAY}.jsonl.gz.tmp",
    f"averages/{DAY}.jsonl",
    f"averages/.{DAY}.jsonl.tmp",
    f"events/{DAY}.jsonl",
    f"reports/{DAY}.json",
    f"reports/{DAY}.html",
    f"reports/.{DAY}.json.tmp",
    f"reports/history/{DAY}.msgpack",
    "settings.jsonl",
    "settings.jsonl.torn",
    ".settings.jsonl.tmp",
    ".lock",
    "raw.jsonl",
    "events.jsonl.tmp",
    "raw",
    "events",
    "reports",
    "reports/history",
    ".replay",
]
COMMANDS = [["run"], ["once"], ["report"], ["replay", "a.json"], ["verify"], ["rebuild"], ["status"]]


def make_irregular(path: Path, file_type: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if file_type == "a FIFO":
        os.mkfifo(path)
    elif file_type == "a folder":
        path.mkdir()
    elif file_type == "a socket":
        with chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    else:
        path.symlink_to("/dev/zero")


def types_at(place: str) -> list[str]:
    """The types that are refused there: folders belong at some places, links at others."""
    if place in ("raw", "events", "reports", "reports/history", ".replay"):
        return ["a FIFO", "a socket"]
    if place in ("raw.jsonl", "events.jsonl.tmp") or place.startswith("reports"):
        return ["a FIFO", "a folder", "a socket"]
    return ["a FIFO", "a folder", "a socket", "a symbolic link"]


@pytest.fixture(autouse=True)
def _signal_handlers():
    """Put back the handlers that `etl run` replaces in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def site(tmp_path):
    built = Site(tmp_path)
    (tmp_path / "a.json").write_text('{"temperature":20,"timestamp":"2026-01-05T10:00:00Z"}')
    built.save(sources=[{"name": "a", "file": "a.json"}], timezone="UTC", api={"serve": False})
    return built


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("place", PLACES)
def test_a_start_names_what_stands_in_the_place_of_a_file(site, place, command):
    """Every command ends with 73 and names the path, whatever stands there; nothing else is changed."""
    path = site.root / "output" / place
    for file_type in types_at(place):
        make_irregular(path, file_type)
        finished = commands.etl(site.root, *command)
        assert (finished.returncode, finished.stdout) == (73, "")
        assert f"output/{place} is {file_type}" in finished.stderr
        assert "Traceback" not in finished.stderr
        path.rmdir() if file_type == "a folder" else path.unlink()


def test_a_process_outlives_a_fifo_in_the_place_of_its_file(site):
    """A FIFO that appears while the process runs is reported and waited out; the readings go on behind it."""
    with site.running() as process:
        until(lambda: site.lines("averages"))
        (today,) = (site.root / "output" / "raw").glob("*.jsonl")
        today.unlink()
        os.mkfifo(today)
        until(lambda: "it is a FIFO" in (site.root / "stderr").read_text())
        today.unlink()
        until(lambda: today.exists() and today.stat().st_size)
        end(process)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_listed_is_an_io_error(site, command, code, monkeypatch):
    """EIO and ESTALE of a broken disk or mount end a command with 73 or 74 and the path."""
    site.etl("once")
    listdir = os.listdir

    def broken(path="."):
        if "output" in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", broken)
    finished = commands.etl(site.root, *command)
    assert finished.returncode in (73, 74)
    assert "output/" in finished.stderr
    assert os.strerror(code) in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("place", ["config.yaml", "sources.yaml"])
def test_a_fifo_in_the_place_of_the_config_is_a_bad_config(site, place):
    """Nothing waits for a FIFO where the config or the file of sources belongs."""
    if place == "sources.yaml":
        site.save(sources="sources.yaml")
    (site.root / place).unlink(missing_ok=True)
    os.mkfifo(site.root / place)
    finished = site.etl("check")
    assert finished.returncode == 78
    assert f"{place}:1:1: cannot be read: it is a FIFO" in finished.stderr


def test_a_config_from_a_pipe_is_read(site):
    """`--config /dev/stdin` reads the config that another program writes."""
    assert site.etl("check", "--config", "/dev/stdin", input=(site.root / "config.yaml").read_text()).returncode == 0


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_fifo_is_no_source(site, name):
    """A source whose file is a FIFO fails at each poll instead of waiting for ever."""
    site.save(sources=[{"name": "a", "file": name}])
    (site.root / name).unlink(missing_ok=True)
    os.mkfifo(site.root / name)
    assert site.etl("once").returncode == 69
    assert site.events("source_down")[0]["why"] == f"it is not a regular file ({name})"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl.gz"])
def test_a_fifo_is_no_recording(site, name):
    """`etl replay` of a FIFO ends with a message; a link to a recording is followed."""
    (site.root / name).unlink(missing_ok=True)
    os.mkfifo(site.root / name)
    finished = site.etl("replay", name)
    assert finished.returncode == 73
    assert f"{name}: it is a FIFO" in finished.stderr
    (site.root / "real.json").write_text('{"temperature":20,"timestamp":"2026-01-05T10:00:00Z"}')
    (site.root / "link.json").symlink_to("real.json")
    assert site.etl("replay", "link.json").returncode == 0


@pytest.mark.parametrize("command", ["check", "once", "status", "verify"])
def test_a_folder_that_cannot_be_reached_is_an_error_with_its_path(tmp_path, command):
    """Links that form a circle, for example, end each command with 74."""
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "config.yaml").write_text("output: {folder: circle}\nsources: [{name: a, file: a.json}]\n")
    ended = commands.etl(tmp_path, command)
    assert ended.returncode == 74
    assert "circle" in ended.stderr
    assert "Traceback" not in ended.stderr
