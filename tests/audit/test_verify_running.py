"""Verify: beside a running process, and as a command."""

from __future__ import annotations

import os
from itertools import count

from freezegun import freeze_time

from etl.audit.verify import Proof
from etl.readings.lines import raw_line
from etl.storage.folder import Folder
from etl.storage.lock import is_held
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.commands import etl as run
from tests.support.folders import FIVE, MIDNIGHT, prove, small, wrong_in
from tests.support.plant import FIXTURE
from tests.support.process import Site, end, until


def test_a_torn_end_of_the_raw_log_is_wrong_unless_it_is_being_written(tmp_path):
    """A torn last raw line is wrong unless a process is writing, and the finding names the command that repairs it."""
    folder = small(tmp_path)
    with folder.path("raw", "2026-11-23").open("ab") as file:
        file.write(b'{"temperature":')
    (found,) = wrong_in(folder)
    assert "2026-11-23.jsonl:5: the line is torn" in found
    assert "`etl rebuild`" in found
    assert wrong_in(folder, running=True) == []
    with folder.path("averages", "2026-11-23").open("ab") as file:
        file.write(b'{"timestamp":')
    assert "1 surplus line at the end" in wrong_in(folder, running=True)[0]


def test_the_unfinished_end_beside_a_process_may_span_midnight(past):
    """Beside a process the averages may lack their end over several days, but no line before an existing one."""
    here = past()
    path = here.folder.path("averages", "2026-11-24")
    os.truncate(path, path.stat().st_size - 100)
    assert prove(here, running=True)[0][0].startswith("averages/2026-11-24.jsonl: 1 missing or torn line at the end")
    here.folder.path("averages", "2026-11-25").unlink()
    assert prove(here, running=True)[0] == []
    assert len(prove(here)[0]) == 2


def test_a_folder_that_grows_during_the_snapshot_is_sound(tmp_path):
    """Whatever a process writes while the snapshot is taken, no averages line seems to lack its raw line."""
    written = count()

    class Busy(Folder):
        """A folder that another process writes to whenever it is looked at."""

        def days(self, kind):
            self.write()
            return super().days(kind)

        def write(self):
            for _ in range(3):
                n = next(written)
                day = f"2026-11-{23 + n // 50}"
                reading = raw_line({"id": 1, "temperature": n}, "m", MIDNIGHT + n)
                for kind, lines in (("raw", [reading]), ("averages", fold.fold(day, iter([reading])))):
                    with self.path(kind, day).open("ab") as file:
                        file.writelines(lines)

    folder = Busy(tmp_path)
    for kind in ("raw", "averages"):
        (tmp_path / kind).mkdir()
    fold = Derivation(SettingsLog(folder, FIVE))
    folder.write()
    for _ in range(40):
        assert wrong_in(folder, running=True) == []
    assert len(folder.days("raw")) > 3


def test_lines_added_after_the_snapshot_are_not_checked(tmp_path):
    """Only what the folder held when the check began is checked."""
    folder = small(tmp_path)
    proof = Proof(SettingsLog(folder, FIVE), [], lambda _: False)
    for kind in ("raw", "averages"):
        with folder.path(kind, "2026-11-23").open("ab") as file:
            file.write(b"{}\n{")
    assert not any(finding.wrong for finding in proof.findings())
    assert proof.summary() == "1 day, 4 raw lines, 4 averages lines, 1 report checked: sound"


@freeze_time("2026-11-24T12:00:00Z")
def test_the_commands_and_their_exit_codes(tmp_path):
    """`etl verify` exits with 0 or 1 and prints findings; `etl rebuild` repairs the folder and prints what changed."""
    site = Site(tmp_path)
    site.save(interval="10s", sources=[{"name": "fixture", "file": str(FIXTURE)}], timezone="UTC")
    nothing = run(site.root, "verify")
    assert (nothing.returncode, run(site.root, "rebuild").returncode) == (1, 1)
    assert nothing.stdout.startswith("wrong: output: the folder does not exist")
    assert not (tmp_path / "output").exists()
    small(tmp_path / "output")
    path = tmp_path / "output" / "averages" / "2026-11-23.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"20.25", b"20.26", 1))
    wrong = run(site.root, "verify")
    assert (wrong.returncode, wrong.stderr) == (1, "")
    assert wrong.stdout.splitlines()[0] == (
        "wrong: output/averages/2026-11-23.jsonl:1: average_temperature is 20.26, expected 20.25"
    )
    rebuilt = run(site.root, "rebuild")
    assert rebuilt.returncode == 0
    assert rebuilt.stdout.splitlines() == [
        "output/averages/2026-11-23.jsonl: derived again",
        "0 averages files already correct",
        "1 report already correct",
        "1 day, 4 raw lines, 4 averages lines, 1 report checked: sound",
    ]
    assert path.read_bytes() == whole
    assert run(site.root, "verify").returncode == 0
    assert [event["reason"] for event in site.lines("events")] == ["averages"]


def test_verify_beside_a_running_process(tmp_path):
    """While `etl run` writes every 100 ms, verify finds nothing wrong, and rebuild exits with 75."""
    site = Site(tmp_path)
    site.save(
        interval="100ms", sources=[{"name": f"m{i}", "file": str(FIXTURE)} for i in range(20)], api={"serve": False}
    )
    folder = Folder(tmp_path / "output")
    with site.running() as process:
        until(lambda: site.lines("averages"))
        assert is_held(folder.root)
        assert site.etl("rebuild").returncode == 75
        summaries = set()

        def check() -> bool:
            proof = Proof(SettingsLog(folder, FIVE), [])
            assert [finding for finding in proof.findings() if finding.wrong] == []
            summaries.add(proof.summary())
            return len(summaries) > 5

        until(check)
        checked = site.etl("verify")
        assert (checked.returncode, checked.stdout.splitlines()[-1].endswith(": sound")) == (0, True)
        end(process)
    assert not is_held(folder.root)
    assert site.etl("verify").returncode == 0
