"""Rebuild: averages and reports are derived again."""

from __future__ import annotations

import gzip
import os
from itertools import count

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.storage.retention import compress
from tests.support.folders import prove, redo, state

anew = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


damages = st.tuples(
    st.sampled_from(["averages", "reports"]),
    st.integers(0, 3),
    st.sampled_from(["cut", "change", "double", "delete"]),
    st.integers(0, 10**6),
)


def damage(here, kind, index, how, byte):
    paths = [
        here.folder.path(kind, day) if kind == "averages" else here.folder.report_path(day)
        for day in ("2026-11-22", "2026-11-23", "2026-11-24", "2026-11-25")
    ]
    path = paths[index]
    if not path.exists():
        return
    data = path.read_bytes()
    byte %= max(1, len(data))
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:byte])
    elif how == "double":
        path.write_bytes(data + data[:byte])
    else:
        path.write_bytes(data[:byte] + b"9" + data[byte + 1 :])


@settings(anew, max_examples=30)
@given(st.lists(damages, min_size=1, max_size=4))
def test_rebuild_restores_any_damaged_folder(past, hurts):
    """Averages and reports that were changed in any way get their bytes back, and each change is recorded."""
    here = past()
    before = state(here)
    for hurt in hurts:
        damage(here, *hurt)
    changed = state(here) != before
    lines, events = redo(here, unreported=["2026-11-22", "2026-11-23", "2026-11-24"])
    assert state(here) == before
    assert bool(events) == (len(lines) > 2) == changed
    assert prove(here)[0] == []
    assert redo(here) == (["4 averages files already correct", "3 reports already correct"], [])
    assert not [path for path in here.folder.root.rglob("*") if path.suffix == ".tmp"]


def test_rebuild_cuts_a_torn_raw_end_and_keeps_it(past):
    """A torn raw line of any day is moved to `*.torn`, and its averages line is removed."""
    here = past()
    for day in ("2026-11-23", "2026-11-25"):
        path = here.folder.path("raw", day)
        os.truncate(path, path.stat().st_size - 20)
    _, events = redo(here)
    assert events.count("repaired") == 5  # two raw ends, and the averages of three days
    assert prove(here)[0] == []
    assert len(list(here.folder.root.glob("raw/*.torn"))) == 2


def test_rebuild_derives_compressed_days_too(past):
    """Wrong compressed averages are replaced by a plain file; a damaged raw log is reported and left unchanged."""
    here = past()
    before = state(here)
    compress(here.folder, lambda: False)
    packed = here.folder.packed_path("averages", "2026-11-23")
    packed.write_bytes(gzip.compress(before[0]["2026-11-23"][:-300]))
    damaged = here.folder.packed_path("averages", "2026-11-22")
    damaged.write_bytes(damaged.read_bytes()[:40])
    lines, _ = redo(here)
    assert [line for line in lines if "again" in line] == [
        f"averages/2026-11-{day}.jsonl: derived again" for day in (22, 23)
    ]
    assert here.folder.path("averages", "2026-11-22").read_bytes() == before[0]["2026-11-22"]
    assert here.folder.path("averages", "2026-11-23").read_bytes() == before[0]["2026-11-23"]
    assert not packed.exists()
    assert prove(here)[0] == []
    here.folder.packed_path("raw", "2026-11-24").write_bytes(b"no gzip")
    lines, _ = redo(here)
    assert any("2026-11-24.jsonl.gz: cannot be read, so its averages were left unchanged" in line for line in lines)
    assert any("reports/2026-11-24.json: cannot be computed again" in line for line in lines)


def test_rebuild_interrupted_leaves_each_day_whole(past, monkeypatch):
    """Interrupted at any fsync, each averages file is unchanged or complete; the next call does the others."""
    here = past()
    before = state(here)
    for fail_at in count(1):
        for day in here.folder.days("averages"):
            os.truncate(here.folder.path("averages", day), 40)
        broken = state(here)[0]
        calls = count(1)

        def fsync(fd, real=os.fsync, calls=calls, fail_at=fail_at):
            if next(calls) == fail_at:
                raise KeyboardInterrupt
            real(fd)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                redo(here)
                done = True
            except KeyboardInterrupt:
                done = False
        for day, data in here.bytes_of("averages").items():
            assert data in (broken[day], b"", before[0][day])
        redo(here)
        assert state(here) == before
        if done:
            break
    assert fail_at > 8
