"""`timezone: local`: the zone of the machine by its name, or a problem where it cannot be named."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.configs import MINIMAL, ROOT, check, written
from tests.support.process import Site, end, until

ZONES = Path("/usr/share/zoneinfo")


@pytest.fixture
def etc(tmp_path):
    """A copy of /etc to change, and `etl check` on a machine that has it."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("only root can give a process an /etc of its own")
    folder = tmp_path / "etc"
    shutil.copytree("/etc", folder, symlinks=True, ignore=shutil.ignore_patterns("ssl", "ssh*", "shadow*"))
    for name in ("timezone", "localtime"):
        (folder / name).unlink(missing_ok=True)
    return folder


def check_with(etc, tmp_path, *mounts, **variables):
    """Run `etl check` with this /etc, with further (source, target) files mounted; TZ is unset unless it is given."""
    mounted = "".join(f"mount --bind {source} {target} && " for source, target in [(etc, "/etc"), *mounts])
    command = f"{mounted} exec {sys.executable} -m etl check --config {written(tmp_path, MINIMAL)}"
    environment = {name: value for name, value in os.environ.items() if name != "TZ"} | variables
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, cwd=ROOT, env=environment
    )


def refused(ended) -> bool:
    """Whether a command was refused with the key to set; else it must have ended well."""
    if ended.returncode == 0:
        return False
    assert ended.returncode == 78
    assert ended.stderr.count("\n") == 1
    assert "timezone local is unknown: " in ended.stderr
    assert "set timezone: Europe/Berlin" in ended.stderr
    return True


@pytest.mark.parametrize(
    "tz",
    [
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "AEST-10AEDT,M10.1.0,M4.1.0/3",
        "CET-1CEST",
        "<-03>3",
        "IST-5:30",
        "XYZ0DST,J100,J101",
        "Europe/Berln",
        '"Europe/Berlin"',
        "/etc/passwd",
        "/no/such/file",
        "../zoneinfo",
        "Berlin",
        "\x1b[31m",
    ],
)
def test_a_zone_without_a_name_is_refused(tz, tmp_path):
    """A value of TZ that names no zone is refused with the key to set, unless it means UTC all year."""
    ended = check(written(tmp_path, MINIMAL), ROOT, TZ=tz)
    assert refused(ended)
    assert "\x1b" not in ended.stderr


@pytest.mark.parametrize(
    ("tz", "name"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":Europe/Berlin", "Europe/Berlin"),
        (str(ZONES / "Australia/Lord_Howe"), "Australia/Lord_Howe"),
        ("America/Sao_Paulo", "America/Sao_Paulo"),
        ("Antarctica/Troll", "Antarctica/Troll"),
        ("EST5EDT", "EST5EDT"),
        ("GMT", "GMT"),
        ("UTC", "UTC"),
    ],
)
def test_a_zone_that_tz_names_is_used(tz, name, tmp_path):
    """A name in TZ is the zone, with a colon and as the path of its file too."""
    ended = check(written(tmp_path, MINIMAL), ROOT, TZ=tz)
    assert not refused(ended)
    assert f"next reports ({name}):" in ended.stdout


def test_a_name_in_tz_counts_without_data_of_the_system(tmp_path):
    """A container without the system's zone data has the zone that TZ names, from the Python package."""
    ended = check(written(tmp_path, MINIMAL), ROOT, TZ="Europe/Berlin", TZDIR=str(tmp_path), PYTHONTZPATH="")
    assert not refused(ended)
    assert "next reports (Europe/Berlin):" in ended.stdout


@pytest.mark.parametrize("tz", [None, "", ":", "UTC0", "WET0", "<+00>0", ":UTC0"])
def test_utc_without_a_name_is_utc(tz, etc, tmp_path):
    """Where nothing names a zone and the time is UTC all year, the zone is UTC."""
    ended = check_with(etc, tmp_path, **({} if tz is None else {"TZ": tz}))
    assert not refused(ended)
    assert "next reports (UTC):" in ended.stdout


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/Santiago", "Asia/Kolkata", "Africa/Casablanca", "Europe/London"]
)
def test_a_plain_localtime_is_refused(name, etc, tmp_path):
    """A copy of a zone's file as /etc/localtime has no name: in summer or winter, its time is not UTC."""
    shutil.copy(ZONES / name, etc / "localtime")
    assert refused(check_with(etc, tmp_path))


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Santiago", "Asia/Kolkata"])
def test_a_plain_localtime_with_its_name_beside_it_is_used(name, etc, tmp_path):
    """A copy of a zone's file is the zone that /etc/timezone names, if both have the same time."""
    shutil.copy(ZONES / name, etc / "localtime")
    (etc / "timezone").write_text(f"{name}\n")
    ended = check_with(etc, tmp_path)
    assert not refused(ended)
    assert f"next reports ({name}):" in ended.stdout


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("Europe/Berlin", "Africa/Lagos"),
        ("Africa/Lagos", "Europe/Berlin"),
        ("America/New_York", "America/Panama"),
        ("Australia/Sydney", "Australia/Brisbane"),
        ("Etc/UTC", "Europe/Berlin"),
        ("No/Zone", "Europe/Berlin"),
    ],
)
def test_a_name_with_the_time_of_another_zone_is_refused(name, time, etc, tmp_path):
    """A zone in /etc/timezone is refused where /etc/localtime has another time, if only for a part of the year."""
    shutil.copy(ZONES / time, etc / "localtime")
    (etc / "timezone").write_text(f"{name}\n")
    assert refused(check_with(etc, tmp_path))


def test_a_link_to_nothing_is_refused(etc, tmp_path):
    """A link to the file of a zone that is not installed is UTC for the system; only where UTC was meant is it used."""
    (etc / "localtime").symlink_to("/no/zoneinfo/Europe/Berlin")
    assert refused(check_with(etc, tmp_path))
    (etc / "localtime").unlink()
    (etc / "localtime").symlink_to("/no/zoneinfo/Etc/UTC")
    assert "next reports (UTC):" in check_with(etc, tmp_path).stdout


def test_an_empty_tz_means_utc(etc, tmp_path):
    """An empty TZ is UTC for the system, so that it contradicts another zone in /etc."""
    (etc / "localtime").symlink_to(ZONES / "Asia/Tokyo")
    assert refused(check_with(etc, tmp_path, TZ=""))


@pytest.mark.parametrize("tz", [":/etc/localtime", "/etc/localtime", "localtime"])
def test_a_tz_that_means_the_file_is_as_good_as_the_file(tz, etc, tmp_path):
    """TZ as the path of /etc/localtime is the zone that it links to; a plain copy stays without a name."""
    (etc / "localtime").symlink_to(ZONES / "Asia/Tokyo")
    assert "next reports (Asia/Tokyo):" in check_with(etc, tmp_path, TZ=tz).stdout
    (etc / "localtime").unlink()
    shutil.copy(ZONES / "Asia/Tokyo", etc / "localtime")
    assert refused(check_with(etc, tmp_path, TZ=tz))


def test_a_link_is_the_zone_it_points_to(etc, tmp_path):
    """A symbolic link names its zone, whatever an old /etc/timezone says."""
    (etc / "localtime").symlink_to(ZONES / "Asia/Tokyo")
    (etc / "timezone").write_text("Europe/Berlin\n")
    ended = check_with(etc, tmp_path)
    assert not refused(ended)
    assert "next reports (Asia/Tokyo):" in ended.stdout


def test_a_localtime_mounted_over_the_file_of_utc_is_refused(etc, tmp_path):
    """A container runtime that follows the link of /etc/localtime mounts the host's file over the data of UTC."""
    (etc / "localtime").symlink_to(ZONES / "Etc/UTC")
    assert refused(check_with(etc, tmp_path, (ZONES / "Europe/Berlin", ZONES / "Etc/UTC")))


def test_a_reload_does_not_take_a_zone_that_has_no_name(tmp_path, monkeypatch):
    """A reload with `timezone: local` keeps the old config where the zone has no name, and the process runs on."""
    site = Site(tmp_path)
    site.save(timezone="UTC", interval="100ms", sources=[{"name": "m", "file": "m.json"}], api={"serve": False})
    (tmp_path / "m.json").write_text('{"id": 1}')
    monkeypatch.setenv("TZ", "CET-1CEST")
    with site.running() as process:
        until(lambda: site.lines("raw"))
        site.save(timezone="local")
        process.send_signal(signal.SIGHUP)
        until(lambda: "timezone local is unknown: TZ is CET-1CEST" in (tmp_path / "stderr").read_text())
        count = len(site.lines("raw"))
        until(lambda: len(site.lines("raw")) > count)
        end(process)
