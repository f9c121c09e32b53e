"""Verify: beside a running process, and as a command."""

from __future__ import annotations

import os
import time
from itertools import count

from etl.audit.verify import Proof
from etl.readings.lines import raw_line
from etl.storage.derivation import Derivation
from etl.storage.folder import Folder
from etl.storage.lock import is_held
from etl.storage.settings_log import SettingsLog
from tests.support.folders import FIVE, MIDNIGHT, prove, small, wrong_in
from tests.support.plant import FIXTURE
from tests.support.process import Site, end, until


def test_a_torn_end_of_the_raw_log_is_wrong_unless_it_is_being_written(tmp_path):
    """Where no process is writing, a last raw line that is not whole is wrong, and the finding says what cuts it."""
    folder = small(tmp_path)
    with folder.path("raw", "2026-11-23").open("ab") as file:
        file.write(b'{"temperature":')
    (found,) = wrong_in(folder)
    assert "2026-11-23.jsonl:5: the line is torn" in found
    assert "`etl rebuild`" in found
    assert wrong_in(folder, running=True) == []
    with folder.path("averages", "2026-11-23").open("ab") as file:
        file.write(b'{"timestamp":')
    assert "1 lines at the end are surplus" in wrong_in(folder, running=True)[0]


def test_the_unfinished_end_beside_a_process_may_span_midnight(past):
    """While a process writes, averages may lack their end over any days, but nothing before what stands there."""
    here = past()
    path = here.folder.path("averages", "2026-11-24")
    os.truncate(path, path.stat().st_size - 100)
    assert prove(here, running=True)[0][0].startswith("averages/2026-11-24.jsonl: 1 lines at the end are")
    here.folder.path("averages", "2026-11-25").unlink()
    assert prove(here, running=True)[0] == []
    assert len(prove(here)[0]) == 2


def test_what_is_written_after_the_walk_began_is_not_looked_at(tmp_path):
    """However much a process writes meanwhile, nothing that is looked at seems to lack its reason."""
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


def test_lines_added_after_the_walk_began_are_left_for_the_next(tmp_path):
    """What stood in the folder when the walk began is proved, whatever is appended before it comes there."""
    folder = small(tmp_path)
    proof = Proof(folder, FIVE, [], lambda _: False)
    for kind in ("raw", "averages"):
        with folder.path(kind, "2026-11-23").open("ab") as file:
            file.write(b"{}\n{")
    assert not any(finding.wrong for finding in proof.findings())
    assert proof.counts["raw lines"] == proof.counts["averages lines"] == 4


def test_the_commands_and_their_exit_codes(tmp_path):
    """The first exits with 0 or 1, the second puts right what it can; both say what they found and did."""
    site = Site(tmp_path)
    site.save(interval="10s", sources=[{"name": "fixture", "file": str(FIXTURE)}], timezone="UTC")
    nothing = site.etl("verify")
    assert (nothing.returncode, site.etl("rebuild").returncode) == (1, 1)
    assert nothing.stdout.startswith("wrong: output: there is no such folder")
    assert not (tmp_path / "output").exists()
    small(tmp_path / "output")
    path = tmp_path / "output" / "averages" / "2026-11-23.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"20.25", b"20.26", 1))
    wrong = site.etl("verify")
    assert (wrong.returncode, wrong.stderr) == (1, "")
    assert wrong.stdout.splitlines()[0] == (
        "wrong: output/averages/2026-11-23.jsonl:1: average_temperature is 20.26, expected 20.25"
    )
    rebuilt = site.etl("rebuild")
    assert rebuilt.returncode == 0
    assert rebuilt.stdout.splitlines() == [
        "output/averages/2026-11-23.jsonl: derived anew",
        "0 days of averages were right already",
        "1 reports were right already",
        "1 days, 4 raw lines, 4 averages lines, 1 reports checked: sound",
    ]
    assert path.read_bytes() == whole
    assert site.etl("verify").returncode == 0
    assert [event["reason"] for event in site.lines("events")] == ["averages"]


def test_verify_beside_a_running_process(tmp_path):
    """However often it is called while `etl run` writes every 100 ms, nothing is wrong; rebuild exits 75."""
    site = Site(tmp_path)
    site.save(
        interval="100ms", sources=[{"name": f"m{i}", "file": str(FIXTURE)} for i in range(20)], api={"serve": False}
    )
    folder = Folder(tmp_path / "output")
    with site.running() as process:
        until(lambda: site.lines("averages"))
        assert is_held(folder.root)
        assert site.etl("rebuild").returncode == 75
        deadline = time.monotonic() + 1
        sums = set()
        while time.monotonic() < deadline:
            proof = Proof(folder, FIVE, [])
            assert [finding for finding in proof.findings() if finding.wrong] == []
            sums.add(proof.counts["raw lines"])
        assert len(sums) > 5
        checked = site.etl("verify")
        assert (checked.returncode, checked.stdout.splitlines()[-1].endswith(": sound")) == (0, True)
        end(process)
    assert not is_held(folder.root)
    assert site.etl("verify").returncode == 0
