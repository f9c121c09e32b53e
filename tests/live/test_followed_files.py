"""A followed file in the running pipeline: positions in the raw log, events, and where a restarted process goes on."""

from __future__ import annotations

from hashlib import blake2b

import orjson
import pytest

SOURCES = [{"name": "press", "file": "m.jsonl"}]


@pytest.fixture
def followed(plant):
    """A plant that follows m.jsonl."""
    here = plant(sources=SOURCES)
    here.feed = here.root / "m.jsonl"
    return here


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"id":1,"n":%d}\n' % number for number in numbers)


def numbers(here) -> list[int]:
    return [record["n"] for record in here.records("raw")]


def events(here) -> list[tuple[str, str, str]]:
    """Event, source and reason of what happened to the file."""
    names = ("truncated", "rejected")
    return [(e["event"], e["source"], e["reason"]) for e in here.records("events") if e["event"] in names]


def test_a_raw_line_identifies_the_content_before_its_position(followed):
    """`_before` stands directly after `_position`: the BLAKE2b digest of the up to 1 KiB before it."""
    content = b'{"id":1,"pad":"%s"}\n' % (b"x" * 900) + b'{"id":1,"_before":"mine","n":2}\n' + lines(3)
    followed.feed.write_bytes(content)
    followed.tick()
    records = followed.records("raw")
    assert [[*record][-4:] for record in records] == [["_source", "_polled_at", "_position", "_before"]] * 3
    for record in records:
        before = content[max(0, record["_position"] - 1024) : record["_position"]]
        assert record["_before"] == blake2b(before, digest_size=8).hexdigest()


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_file_made_anew_is_read_from_its_start_and_said_so(followed, stopped):
    """A new file with lines of the same length is an event `truncated` with reason `replaced`, its lines are read."""
    followed.feed.write_bytes(lines(1, 2))
    followed.tick()
    if stopped:
        followed.open()
    followed.feed.rename(followed.root / "m.jsonl.1")
    followed.feed.write_bytes(lines(3, 4))
    followed.tick(2)
    assert numbers(followed) == [1, 2, 3, 4]
    assert events(followed) == [("truncated", "press", "replaced")]


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_cut_file_is_read_from_its_start_and_said_so(followed, stopped):
    """A file that is shorter than it was is an event `truncated` with reason `cut`, its lines are read."""
    followed.feed.write_bytes(lines(1, 2))
    followed.tick()
    if stopped:
        followed.open()
    followed.feed.write_bytes(lines(3))
    followed.tick(2)
    assert numbers(followed) == [1, 2, 3]
    assert events(followed) == [("truncated", "press", "cut")]


def test_a_longer_copy_continues_after_a_restart(followed):
    """A longer copy that another program put in place while the process was stopped adds its new lines only."""
    followed.feed.write_bytes(lines(1, 2))
    followed.tick()
    followed.close()
    copy = followed.root / "copy"
    copy.write_bytes(lines(1, 2, 3))
    copy.replace(followed.feed)
    followed.open()
    followed.tick()
    assert numbers(followed) == [1, 2, 3]
    assert events(followed) == []


def test_a_position_of_version_0_1_is_trusted(followed):
    """A raw line without `_before` is where following resumes, if a line of the file ends there."""
    followed.feed.write_bytes(lines(1, 2))
    followed.tick()
    followed.close()
    day = followed.folder.path("raw", followed.folder.days("raw")[-1])
    old = [{key: value for key, value in record.items() if key != "_before"} for record in followed.records("raw")]
    day.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in old))
    with followed.feed.open("ab") as file:
        file.write(lines(3))
    followed.open()
    followed.tick()
    assert numbers(followed) == [1, 2, 3]
    assert events(followed) == []


def test_a_line_over_the_limit_costs_itself(followed):
    """A line of 7 MiB is one event `rejected` with reason `too_large`; the lines around it become readings."""
    followed.feed.write_bytes(lines(1) + b"x" * (7 << 20))
    followed.tick(2)
    with followed.feed.open("ab") as file:
        file.write(b"\n" + lines(2))
    followed.tick(2)
    assert numbers(followed) == [1, 2]
    assert events(followed) == [("rejected", "press", "too_large")]


def test_records_apply_to_each_line(followed):
    """With `records` a line is several readings, which share its position; following resumes after them."""
    followed.config["sources"] = [{**SOURCES[0], "records": "m"}]
    followed.open()
    followed.feed.write_bytes(b'{"m":[{"id":1,"n":1},{"id":2,"n":2}]}\n' + b"x" * (6 << 20) + b"\n")
    followed.tick(2)
    followed.open()
    with followed.feed.open("ab") as file:
        file.write(b'{"m":[{"id":1,"n":3}]}\n')
    followed.tick()
    assert numbers(followed) == [1, 2, 3]
    assert [record["_position"] for record in followed.records("raw")][:2] == [38, 38]
    assert events(followed) == [("rejected", "press", "too_large")] * 2
