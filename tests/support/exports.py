"""Folders to export from, and the tables that `etl export` writes."""

from __future__ import annotations

import csv
import io
import os

import orjson
import pytest

from etl.storage.folder import Folder
from tests.support.commands import etl

DAY = "2026-11-23"
CONFIG = "timezone: UTC\nsources: [{name: m, file: m.json}]\n"


def make_site(root):
    (root / "config.yaml").write_text(CONFIG)
    folder = Folder(root / "output")
    for kind in ("raw", "averages", "alarms"):
        (root / "output" / kind).mkdir(parents=True)
    return folder


def averages_line(**changes) -> bytes:
    line = {
        "timestamp": "2026-11-23T10:00:00.000+00:00", "source": "m", "id": 1, "average_temperature": 20.25,
        "average_speed": None, "status": "IDLE", "readings": 5, "polled_at": "2026-11-23T10:00:00.012Z",
    }  # fmt: skip
    return orjson.dumps({**line, **changes}) + b"\n"


def write_day(folder, kind, *lines, day=DAY):
    folder.path(kind, day).write_bytes(b"".join(lines))


def export(folder, *arguments, days=DAY, to="out.csv", code=0):
    """Run the command in the site of a folder; what it did."""
    done = etl(folder.root.parent, "export", days, "--to", to, *arguments)
    assert done.returncode == code, done.stderr
    return done


def table(folder, *arguments, **options):
    """Export as CSV; the rows as a CSV reader has them."""
    export(folder, *arguments, "--force", **options)
    text = (folder.root.parent / "out.csv").read_bytes().decode()
    return list(
        csv.reader(io.StringIO(text, newline=""), delimiter=";" if "--decimal" in arguments else ",", strict=True)
    )


def parquet(folder, *arguments, **options):
    """Export as Parquet; the file read by pyarrow."""
    pq = pytest.importorskip("pyarrow.parquet")
    export(folder, *arguments, "--force", to="out.parquet", **options)
    return pq.ParquetFile(folder.root.parent / "out.parquet")


def leftovers(root):
    return [name for name in os.listdir(root) if name not in ("config.yaml", "output")]
