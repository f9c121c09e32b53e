"""The n-th call into the system fails, for every n, once and for good, or the process dies in it."""

from __future__ import annotations

import errno
import os

import orjson
import pytest

from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.plant import Plant

CALLS = ("open", "write", "fsync", "replace", "ftruncate", "close", "symlink", "makedirs")
START = 1_795_392_000.0 - 45
"""2026-11-22T23:59:15Z: the ticks of a test run across midnight."""


class Crash(BaseException):
    """The process is killed at this call."""


class Faulty:
    """The module os, whose n-th counted call fails; a write may take a part of its data before."""

    def __init__(self, nth: int, error: int | None, *, sticky: bool, short: bool) -> None:
        self.nth, self.error, self.sticky, self.short = nth, error, sticky, short
        self.calls = 0
        self.healed = False

    def __getattr__(self, name):
        function = getattr(os, name)
        if name not in CALLS:
            return function

        def call(*arguments, **named):
            self.calls += 1
            hit = self.calls == self.nth or (self.sticky and self.calls > self.nth)
            if not hit or self.healed:
                return function(*arguments, **named)
            if name == "write" and self.short:
                function(arguments[0], arguments[1][: max(1, len(arguments[1]) // 2)])
            if name == "close":
                function(*arguments)
            if self.error is None:
                raise Crash
            raise OSError(self.error, os.strerror(self.error))

        return call


class Printed:
    """Takes lines as stdout does: its lines are acknowledged."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def put(self, lines):
        self.lines += lines


def acknowledged(printed: Printed) -> list[bytes]:
    return [line for line in printed.lines if b'"_source"' in line]


def run(root, faulty) -> Plant:
    """Ten ticks across midnight; the fault may hit any of them, and is over before the last two."""
    here = Plant(root, START, system=faulty, stdout=Printed(), timezone="UTC")
    reader = here.pipeline._opened["file"]._by_name["machine-1"]
    try:
        here.tick(8)
    except Crash:
        faulty.healed = True
        here.close()
        here.open()
        here.pipeline._opened["file"]._by_name["machine-1"]._next_item = reader._next_item
        here.clock.now += 10
        here.tick(8 - round((here.clock.now - START) / 10))
    faulty.healed = True
    here.tick(2)
    here.pipeline.writer.tick()
    here.close()
    return here


def check(here: Plant, *, crashed: bool) -> None:
    """No acknowledged line lost, none doubled, every line JSON, averages as the raw log implies, nothing refused."""
    raw = [line for day in here.folder.days("raw") for _, line in here.folder.lines("raw", day)]
    assert [line for line in raw if line in set(acknowledged(here.stdout))] == acknowledged(here.stdout)
    assert len(set(raw)) == len(raw)
    assert len(raw) >= (9 if crashed else 10)
    for kind in ("raw", "averages", "events"):
        for data in here.bytes_of(kind).values():
            assert data.endswith(b"\n") or not data
            assert all(isinstance(orjson.loads(line), dict) for line in data.splitlines())
    derivation = Derivation(SettingsLog(here.folder, here.loaded.settings))
    derived = {day: b"".join(derivation.day(day)) for day in here.folder.days("raw")}
    assert here.bytes_of("averages") == {day: data for day, data in derived.items() if data}


def count(tmp_path) -> int:
    """How many calls an undisturbed run makes."""
    (tmp_path / "count").mkdir()
    faulty = Faulty(0, errno.EIO, sticky=False, short=False)
    check(run(tmp_path / "count", faulty), crashed=False)
    return faulty.calls


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
@pytest.mark.parametrize(
    ("error", "short"),
    [(errno.EIO, False), (errno.ENOSPC, True), (errno.EDQUOT, False), (errno.EINTR, False)],
    ids=["EIO", "ENOSPC-short", "EDQUOT", "EINTR"],
)
def test_the_nth_call_fails(tmp_path, error, short, sticky):
    """Whichever call fails, once or for a while, the process goes on and the folder is whole in the end."""
    for n in range(1, count(tmp_path) + 1):
        (tmp_path / str(n)).mkdir()
        check(run(tmp_path / str(n), Faulty(n, error, sticky=sticky, short=short)), crashed=False)


@pytest.mark.parametrize("short", [False, True], ids=["before", "half"])
def test_the_process_dies_in_the_nth_call(tmp_path, short):
    """Whichever call the process dies in, the folder is whole after the next start; one poll may be missing."""
    for n in range(1, count(tmp_path) + 1):
        (tmp_path / str(n)).mkdir()
        check(run(tmp_path / str(n), Faulty(n, None, sticky=False, short=short)), crashed=True)
