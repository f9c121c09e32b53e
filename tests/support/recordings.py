"""Recorded files imported into a folder, and the folder compared."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import jmespath

from etl.audit.recording.files import RecordedSource, Recording
from etl.audit.replay import replay
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog

BERLIN = ZoneInfo("Europe/Berlin")
SETTINGS = Settings(5, {"temperature": "temperature", "speed": "fan_speed"}, "Europe/Berlin", 10.0, 0.2)
DAY = 86_400
START = 1_795_341_600.0
"""2026-11-22T10:00:00Z."""


def import_files(root, *files, settings=SETTINGS, sources=None, records=None, watch=lambda _: None):
    """Replay files into a folder; the result, and the rejected lines.

    `sources` has the names of a file's sources, with + between them, `records` the expressions of sources.
    """
    rejected = []
    zone = ZoneInfo(settings.timezone)
    expressions = {name: jmespath.compile(expression) for name, expression in (records or {}).items()}
    by_path = {
        path: [RecordedSource(name, expressions.get(name)) for name in names.split("+")]
        for path, names in (sources or {}).items()
    }
    recording = Recording(by_path, zone, "2027-01-31", watch)
    return replay(SettingsLog(Folder(root), settings), recording, files, rejected.append, watch), rejected


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder except symbolic links."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def logs(root: Path) -> dict[str, bytes]:
    """The raw and averages files of a folder."""
    return {name: data for name, data in tree(root).items() if name.split("/")[0] in ("raw", "averages")}
