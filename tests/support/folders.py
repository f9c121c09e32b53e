"""Output folders to check and to rebuild."""

from __future__ import annotations

from etl.audit.rebuild import rebuild
from etl.audit.verify import Proof
from etl.config import load as config
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.reports import write_report

MIDNIGHT = 1_795_392_000.0
"""2026-11-23T00:00:00Z."""
FIELDS = {"temperature": "temperature", "speed": "fan_speed"}
FIVE = Settings(5, FIELDS, "UTC", 10.0, 0.2)


class Past:
    """A folder of four days with restarts, changed settings, gaps, and reports of the first three days."""

    def __init__(self, root) -> None:
        self.folder = Folder(root / "output")
        self.settings = config.load(root / "config.yaml").settings

    def bytes_of(self, kind: str) -> dict[str, bytes]:
        return {day: self.folder.path(kind, day).read_bytes() for day in self.folder.days(kind)}


def prove(here, unreported=(), *, running=False, deleted=()):
    """What is wrong, the notes, and the summary."""
    proof = Proof(SettingsLog(here.folder, here.settings), list(unreported), lambda _: running, deleted)
    findings = list(proof.findings())
    texts = [finding.text.removeprefix(f"{here.folder.root}/") for finding in findings]
    wrong = [text for text, finding in zip(texts, findings, strict=True) if finding.wrong]
    return wrong, [text for text in texts if text not in wrong], proof.summary()


def redo(here, *, deleted=(), unreported=()):
    """Rebuild; the lines about what changed, and the names of the recorded events."""
    events = []
    lines = list(
        rebuild(
            SettingsLog(here.folder, here.settings),
            list(unreported),
            deleted,
            lambda event, **fields: events.append(event),
        )
    )
    return [line.removeprefix(f"{here.folder.root}/") for line in lines], events


def state(here):
    """The bytes of everything that is derived."""
    return here.bytes_of("averages"), {day: here.folder.report_path(day).read_bytes() for day in here.folder.reports()}


def small(root, lines=4, machines=1, report=True):
    """Make a folder of one closed day by hand, without a process."""
    folder = Folder(root)
    for kind in ("raw", "averages", "reports"):
        (root / kind).mkdir(parents=True)
    readings = [
        raw_line({"id": i % machines, "temperature": 20.25 + i * i, "fan_speed": 100}, "m", MIDNIGHT + 10 * i)
        for i in range(lines)
    ]
    folder.path("raw", "2026-11-23").write_bytes(b"".join(readings))
    averages = Derivation(SettingsLog(folder, FIVE)).day("2026-11-23")
    folder.path("averages", "2026-11-23").write_bytes(b"".join(averages))
    if report:
        write_report(SettingsLog(folder, FIVE), "2026-11-23")
    return folder


def wrong_in(folder, *, running=False):
    """The texts of what is wrong in a folder."""
    proof = Proof(SettingsLog(folder, FIVE), [], lambda _: running)
    return [finding.text for finding in proof.findings() if finding.wrong]
