"""One machine's day of averages as CSV."""

from __future__ import annotations

import gzip

import pytest

from etl.audit.export.machine import machine_day_csv
from etl.readings import exact
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog
from tests.support.folders import FIVE

DAY = "2026-11-23"
MACHINES = [
    ("m", 7), ("m", "7"), ("m", 70), ("m", 7.5), ("m", None), ("m", ""), ("m", "x,y"), ("mm", 7), ('m","id":7', None),
    ("ü", "ü"), ("m", 10**23), ("m", -7), ("=m", "\t"),
]  # fmt: skip


def line(source, key, **changes):
    fields = {"average_temperature": 20.25, "average_speed": None, "status": "IDLE", "readings": 5}
    line = {"timestamp": "t", "source": source, "id": key, **fields, "polled_at": "2026-11-23T10:00:00.012Z", **changes}
    return exact.dumps(line) + b"\n"


@pytest.fixture
def settings_log(tmp_path):
    folder = Folder(tmp_path)
    folder.path("averages", DAY).parent.mkdir()
    lines = [line(*machine, readings=number) for number in (1, 2) for machine in MACHINES]
    folder.path("averages", DAY).write_bytes(b"".join(lines))
    return SettingsLog(folder, FIVE)


def rows(settings_log, machine):
    pieces = machine_day_csv(settings_log, DAY, machine)
    return pieces and b"".join(pieces).decode().split("\r\n")[1:-1]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_has_its_own_lines(settings_log, machine):
    """Each machine is found by its source and id, whatever these are, and gets the lines of no other."""
    found = rows(settings_log, machine)
    assert [row.rsplit(",", 2)[1] for row in found] == ["1", "2"]


@pytest.mark.parametrize("machine", [("n", 7), ("m", 8), ("m", "70"), ("m", 7.25), ("", None)])
def test_a_machine_without_lines_has_no_table(settings_log, machine):
    """A machine that sent nothing on that day has none; neither has a day without averages."""
    assert rows(settings_log, machine) is None
    assert machine_day_csv(settings_log, "2026-11-24", ("m", 7)) is None


def test_an_integer_and_the_same_float_are_one_machine(settings_log):
    """As in the averages themselves: 7 and 7.0 are the same id."""
    path = settings_log.folder.path("averages", DAY)
    path.write_bytes(path.read_bytes() + line("m", 7.0, readings=3))
    assert len(rows(settings_log, ("m", 7))) == len(rows(settings_log, ("m", 7.0))) == 3


def test_what_a_machine_sends_does_not_look_like_a_line(settings_log):
    """A status or a timestamp that contains the bytes of another machine's line is not taken for one."""
    path = settings_log.folder.path("averages", DAY)
    for status in ({"source": "spy", "id": 7, "x": 1}, '"source":"spy","id":7,'):
        path.write_bytes(path.read_bytes() + line("m", 9, status=status))
    assert rows(settings_log, ("spy", 7)) is None


def test_damaged_lines_and_a_torn_end_are_left_out(settings_log):
    """The sound lines of the machine are there."""
    path = settings_log.folder.path("averages", DAY)
    torn = line("m", 7)
    path.write_bytes(torn.replace(b"20.25", b"x") + path.read_bytes() + torn[:-5])
    assert len(rows(settings_log, ("m", 7))) == 2


def test_compressed_days_are_read_and_damage_is_an_error(settings_log):
    """A damaged file is an OSError that names it, as the API expects."""
    folder = settings_log.folder
    data = gzip.compress(folder.path("averages", DAY).read_bytes())
    folder.path("averages", DAY).unlink()
    folder.packed_path("averages", DAY).write_bytes(data)
    assert len(rows(settings_log, ("m", 7))) == 2
    folder.packed_path("averages", DAY).write_bytes(data[:-9])
    with pytest.raises(OSError, match="the file is damaged"):
        rows(settings_log, ("m", 7))


def test_the_columns_are_those_of_the_day(settings_log):
    """The parameters are those of the settings that govern the day."""
    settings = Settings(5, {"temperature": "temperature", "speed": "fan_speed", "heat": "heat"}, "UTC", 10.0, 0.2)
    pieces = machine_day_csv(SettingsLog(settings_log.folder, settings), DAY, ("m", 7))
    assert next(pieces).startswith(b"timestamp,source,id,average_temperature,average_speed,average_heat,status")
