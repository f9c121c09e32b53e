"""A folder with a source of numbered readings, and what its output must satisfy."""

from __future__ import annotations

from pathlib import Path

import orjson

from etl.config import load as config
from etl.readings.records import Settings, SettingsEntry
from etl.storage.folder import Folder
from etl.storage.recovery.derivation import Derivation
from etl.storage.settings_log import SettingsLog
from tests.support.process import Site

NUMBERED = orjson.dumps([{"n": n, "temperature": n % 9, "fan_speed": 5} for n in range(5000)])


def numbered(root: Path) -> Site:
    site = Site(root)
    (root / "numbered.json").write_bytes(NUMBERED)
    site.save(
        interval="100ms",
        timezone="UTC",
        sources=[{"name": "numbered", "file": "numbered.json"}],
        api={"serve": False},
    )
    return site


def folder_of(site: Site) -> Folder:
    return Folder(site.root / "output")


SETTINGS = Settings(5, {}, "UTC", 10.0, 0.2)


def entries_of(site: Site) -> list[SettingsEntry]:
    """The entries of settings.jsonl."""
    return SettingsLog(folder_of(site), SETTINGS).entries


def numbers(lines: list[dict], source: str = "numbered") -> list[int]:
    return [line["n"] for line in lines if line["_source"] == source]


def stderr(site: Site) -> str:
    return (site.root / "stderr").read_text()


def check_averages(site: Site) -> None:
    """The averages follow from the raw log."""
    folder = folder_of(site)
    derivation = Derivation(SettingsLog(folder, config.load(site.root / "config.yaml").settings))
    for day in folder.days("raw"):
        assert b"".join(derivation.day(day)) == folder.path("averages", day).read_bytes()
