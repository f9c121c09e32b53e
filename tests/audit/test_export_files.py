"""`etl export`: which days are read, and what becomes of the file, also where something fails."""

from __future__ import annotations

import gzip
import os
import re
import resource
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from etl.audit.export.columns import MAX_COLUMNS
from etl.audit.export.rows import stored_blocks
from etl.audit.export.target import written_aside
from etl.readings.lines import raw_line
from tests.support.exports import DAY, averages_line, export, leftovers, make_site, table, write_day
from tests.support.folders import MIDNIGHT
from tests.support.process import until


@pytest.fixture
def site(tmp_path):
    """A folder with a config, and its output folder."""
    return make_site(tmp_path)


def test_days_without_a_log_are_skipped(site):
    """Days from the first to the last are exported, compressed ones too; those without a log are named."""
    for day in ("2026-11-20", DAY, "2026-11-25"):
        write_day(site, "averages", averages_line(status=day), day=day)
    path = site.path("averages", DAY)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    done = export(site, days="2026-11-19..2026-11-24")
    assert "no averages of 2026-11-19, 2026-11-21 to 2026-11-22, 2026-11-24" in done.stderr
    assert [row[5] for row in table(site, days="2026-11-19..2026-11-24")[1:]] == ["2026-11-20", DAY]
    assert (
        "has no averages of 2027-01-01 to 2027-01-02"
        in export(site, days="2027-01-01..2027-01-02", to="x.csv", code=1).stderr
    )
    assert leftovers(site.root.parent) == ["out.csv"]


@pytest.mark.parametrize(
    "days", ["2026-11-31", "today", "20261123", "2026-11-23..", "..2026-11-23", "2026-11-24..2026-11-23", "2026-W47-1",
             "2026-11-23..2026-11-24..2026-11-25", "2026-11-23...2026-11-24"]
)  # fmt: skip
def test_a_bad_day_is_a_usage_error(site, days):
    """Only days as they name the files, the earlier one first, are accepted."""
    write_day(site, "averages", averages_line())
    assert f"'{days}'" in export(site, days=days, code=2).stderr


def test_all_days_there_can_be_are_accepted(site):
    """A range may span the whole calendar."""
    write_day(site, "averages", averages_line())
    assert "0001-01-01 to 2026-11-22, 2026-11-24 to 9999-12-31" in export(site, days="0001-01-01..9999-12-31").stderr


@pytest.mark.parametrize("kind", ["averages", "raw"])
@pytest.mark.parametrize("to", ["out.csv", "out.parquet"])
def test_damaged_lines_are_left_out_and_named(site, kind, to):
    """The others are exported; the exit code is 1. A torn last line is not complete yet, and no damage."""
    sound = averages_line() if kind == "averages" else raw_line({"a": 1}, "m", MIDNIGHT)
    time_key = b'polled_at":"2026'
    damaged = [
        b"{}\n",
        b"nonsense\n",
        b"\n",
        sound.replace(b"m", b"\xff", 1),
        sound.replace(time_key, time_key[:-4] + b"x"),
    ]
    write_day(site, kind, sound, *damaged, sound, sound[:-9])
    done = export(site, "--kind", kind, to=to, code=1)
    assert "2 lines of 1 day, 5 damaged lines" in done.stdout
    found = re.findall(rf"{kind}/{DAY}.jsonl:(\d+): left out", done.stderr)
    assert found == ["2", "3", "4", "5", "6"]


def test_many_damaged_lines_are_counted(site):
    """Twenty are listed, the others counted."""
    write_day(site, "averages", averages_line(), *[b"x\n"] * 25)
    done = export(site, code=1)
    assert done.stderr.count("left out") == 20
    assert "and 5 more damaged lines" in done.stderr


def test_averages_with_other_keys_are_not_lost_silently(site):
    """A line with a parameter that settings.jsonl does not have is damaged, as `etl verify` says too."""
    write_day(site, "averages", averages_line(), averages_line(average_heat=1.0))
    assert "average_heat" in export(site, code=1).stderr


def test_a_damaged_compressed_file_is_an_error(site):
    """The error names the file, and nothing is left of the export."""
    data = gzip.compress(averages_line() * 1000)
    site.packed_path("averages", DAY).write_bytes(data[:-20])
    assert f"{DAY}.jsonl.gz: the file is damaged" in export(site, code=74).stderr
    assert leftovers(site.root.parent) == []


def test_more_keys_than_columns_are_an_error(site):
    """A machine that invents keys does not fill the memory."""
    keys = ({f"k{number * 1000 + i}": 1 for i in range(1000)} for number in range(MAX_COLUMNS // 1000 + 1))
    write_day(site, "raw", *(raw_line(reading, "m", MIDNIGHT) for reading in keys))
    assert "more than 10,000 different keys" in export(site, "--kind", "raw", code=1).stderr


def test_a_file_is_not_replaced_without_force(site):
    """An existing file is left alone; with --force it is replaced."""
    write_day(site, "averages", averages_line())
    (site.root.parent / "out.csv").write_text("mine")
    assert "--force" in export(site, code=73).stderr
    assert (site.root.parent / "out.csv").read_text() == "mine"
    export(site, "--force")
    assert (site.root.parent / "out.csv").read_bytes().startswith(b"timestamp,")


@pytest.mark.parametrize(
    ("to", "code", "problem"),
    [("output/out.csv", 73, "in the output folder"), ("link/out.csv", 73, "in the output folder"),
     ("folder.csv", 73, "a folder"), ("fifo.csv", 73, "a FIFO"), ("away.csv", 73, "a symbolic link"),
     ("missing/out.csv", 73, "missing is not a folder"), ("config.yaml/out.csv", 73, "config.yaml is not a folder"),
     ("out.xlsx", 2, "neither with .csv nor with .parquet"), ("out", 2, "neither"),
     ("x" * 252 + ".csv", 74, "File name too long")],
)  # fmt: skip
def test_a_place_that_cannot_be_written_is_an_error(site, to, code, problem):
    """The error names the path and what is wrong, and nothing is written or replaced."""
    root = site.root.parent
    write_day(site, "averages", averages_line())
    (root / "folder.csv").mkdir()
    os.mkfifo(root / "fifo.csv")
    (root / "link").symlink_to("output/averages")
    (root / "away.csv").symlink_to("config.yaml")
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    stderr = export(site, "--force", to=to, code=code).stderr
    assert problem in stderr
    assert stderr.count("\n") <= 3
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before


def test_parquet_has_no_decimal_sign(site):
    """--decimal with Parquet is a usage error."""
    write_day(site, "averages", averages_line())
    assert "--decimal" in export(site, "--decimal", ",", to="out.parquet", code=2).stderr


def run(folder, *arguments, **options):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "etl", "export", DAY, *arguments]
    return subprocess.run(command, cwd=folder.root.parent, capture_output=True, text=True, **options)


def limit_files():
    """Let no file of this process grow beyond 8 KiB, which is an error like that of a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, 1 << 13))


@pytest.mark.parametrize("to", ["out.csv", "out.parquet"])
def test_a_full_disk_leaves_nothing(site, to):
    """The error names the file, and the file that was there remains."""
    write_day(site, "averages", *(averages_line(average_temperature=i / 7, timestamp=f"{i}") for i in range(9000)))
    (site.root.parent / to).write_text("mine")
    done = run(site, "--to", to, "--force", preexec_fn=limit_files)
    assert (done.returncode, done.stdout) == (74, "")
    assert f"{to}: File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert leftovers(site.root.parent) == [to]
    assert (site.root.parent / to).read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to", ["out.csv", "out.parquet"])
def test_an_interrupted_export_leaves_nothing(site, to, number):
    """Ctrl-C, and what ends a process otherwise, deletes what was written so far; the exit code is 130."""
    site.packed_path("averages", DAY).write_bytes(gzip.compress(averages_line() * 500_000, 1))
    root = site.root.parent
    command = [sys.executable, "-m", "etl", "export", DAY, "--to", to]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: any(name.endswith(".tmp") for name in os.listdir(root)))
        process.send_signal(number)
        _, stderr = process.communicate()
    assert process.returncode == 130
    assert "Interrupted" in stderr
    assert "Traceback" not in stderr
    assert leftovers(root) == []


def test_stdout_gets_csv_and_nothing_else(site):
    """With --to - the table goes to stdout and the summary to stderr; a full disk behind it is an error."""
    write_day(site, "averages", averages_line())
    done = run(site, "--to", "-")
    export(site)
    assert done.stdout.encode() == (site.root.parent / "out.csv").read_bytes().replace(b"\r\n", b"\n")
    assert done.stderr == "1 line of 1 day, 0 damaged lines: stdout\n"
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "etl", "export", DAY, "--to", "-"]
        failed = subprocess.run(command, cwd=site.root.parent, stdout=full, stderr=subprocess.PIPE, text=True)
    assert failed.returncode == 74
    assert failed.stderr.startswith("stdout: No space left on device")


def test_a_line_that_is_being_written_is_no_damage(site):
    """A running process may write the rest of the last line at any moment."""
    write_day(site, "averages", averages_line(), averages_line()[:50])
    blocks = stored_blocks(site, "averages", DAY)
    read = next(blocks)
    with site.path("averages", DAY).open("ab") as file:
        file.write(averages_line()[50:] + averages_line())
    assert read + b"".join(blocks) == averages_line()


def test_lines_appended_meanwhile_are_left_out(site, monkeypatch):
    """A line with a new key that a running process appends after the keys were read is no damage."""
    write_day(site, "raw", raw_line({"a": 1}, "m", MIDNIGHT))

    def appending(folder, kind, day, end=None):
        yield from stored_blocks(folder, kind, day, end)
        with folder.path(kind, day).open("ab") as file:
            file.write(raw_line({"b": 1}, "m", MIDNIGHT))

    monkeypatch.setattr("etl.audit.export.table.stored_blocks", appending)
    assert [row[0] for row in table(site, "--kind", "raw")] == ["a", "1"]


def test_memory_does_not_grow_with_the_day(site):
    """Ten times the lines take as much memory."""
    peaks = []
    for lines in (20_000, 200_000):
        site.packed_path("averages", DAY).write_bytes(gzip.compress(averages_line() * lines, 1))
        script = (
            "import sys, resource, etl.cli.command as c\n"
            "c.leave = lambda code: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, code, file=sys.stderr)\n"
            f"sys.argv = ['etl', 'export', '{DAY}', '--to', 'out.csv', '--force']\n"
            "from etl.cli.main import main\nmain()"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=site.root.parent, capture_output=True, text=True)
        peak, code = done.stderr.split()
        assert code == "0"
        peaks.append(int(peak))
    assert peaks[1] < peaks[0] + (4 << 10)


@pytest.mark.parametrize("size", [1, 3 << 20])
def test_an_interrupt_that_python_ignores_leaves_nothing(tmp_path, size):
    """Python ignores exceptions in some callbacks; the file is not completed all the same."""

    def write_on():
        with written_aside(tmp_path / "out.csv") as file:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            file.write(bytes(size))

    with pytest.raises(KeyboardInterrupt):
        write_on()
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
