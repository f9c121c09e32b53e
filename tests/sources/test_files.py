"""Readings from files: objects, arrays and lines that grow."""

from __future__ import annotations

import threading

import orjson
import pytest

from etl.config.sources.file import FileSource
from etl.readings.records import Position
from etl.sources.file import following
from etl.sources.file.transport import FileTransport
from tests.support.kinds import context

CLOCK = 1_000.5


@pytest.fixture
def poll(tmp_path):
    """Poll the file of this name once, through the same transport each time."""
    opened = {}

    def once(name: str, position: int = 0):
        if name not in opened:
            stored = {"m": Position(position, None)}
            how = context(tmp_path, clock=lambda: CLOCK, positions=lambda names: stored)
            opened[name] = FileTransport([FileSource(name="m", file=name)], how)
        polls, done = [], threading.Event()

        def deliver(results):
            polls.extend(results)
            done.set()

        opened[name].start(["m"], deliver)
        assert done.wait(5)
        assert len(polls) == 1
        assert (polls[0].source, polls[0].at) == ("m", CLOCK)
        return polls[0]

    yield once
    for transport in opened.values():
        transport.close()


def bodies(result):
    return [orjson.loads(answer.body) for answer in result.answers]


def test_an_object_is_read_anew_each_time(tmp_path, poll):
    """A document with an object is delivered as it is at each poll."""
    (tmp_path / "now.json").write_text('{"temperature": 1}')
    assert bodies(poll("now.json")) == [{"temperature": 1}]
    (tmp_path / "now.json").write_text('{"temperature": 22}')
    assert bodies(poll("now.json")) == [{"temperature": 22}]


def test_an_array_gives_one_reading_a_poll_round_and_round(tmp_path, poll):
    """An array delivers one item a poll, and starts over after the last."""
    (tmp_path / "loop.json").write_text('[{"n": 1}, {"n": 2}, 3]')
    assert [bodies(poll("loop.json"))[0] for _ in range(4)] == [{"n": 1}, {"n": 2}, 3, {"n": 1}]


def test_lines_are_followed_as_they_are_appended(tmp_path, poll):
    """A followed file delivers its new complete lines with the offset after each; an incomplete line waits."""
    path = tmp_path / "feed.jsonl"
    path.write_bytes(b'{"n":1}\n\n{"n":2}\n{"n":')
    first = poll("feed.jsonl")
    assert bodies(first) == [{"n": 1}, {"n": 2}]
    assert [answer.mark.offset for answer in first.answers] == [8, 17]
    assert poll("feed.jsonl").answers == ()
    with path.open("ab") as file:
        file.write(b"3}\n")
    assert bodies(poll("feed.jsonl")) == [{"n": 3}]


def test_following_resumes_where_it_was_left(tmp_path, poll):
    """With a position, following resumes after the line that ends there."""
    (tmp_path / "feed.jsonl").write_bytes(b'{"n":1}\n{"n":2}\n')
    assert bodies(poll("feed.jsonl", 8)) == [{"n": 2}]


@pytest.mark.parametrize("position", [3, 1000])
def test_a_file_that_was_replaced_is_read_from_its_start(tmp_path, poll, position):
    """A position that is not the end of a line belongs to an earlier file: reading starts over."""
    (tmp_path / "feed.jsonl").write_bytes(b'{"n":1}\n{"n":2}\n')
    assert bodies(poll("feed.jsonl", position)) == [{"n": 1}, {"n": 2}]


def test_a_rotated_file_is_read_from_its_start(tmp_path, poll):
    """A new file under the same name is followed from its first line."""
    path = tmp_path / "feed.jsonl"
    path.write_bytes(b'{"n":1}\n')
    poll("feed.jsonl")
    path.rename(tmp_path / "feed.1")
    path.write_bytes(b'{"n":2}\n{"n":3}\n')
    assert bodies(poll("feed.jsonl")) == [{"n": 2}, {"n": 3}]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.json", None, "no_file"),
        ("gone.jsonl", None, "no_file"),
        ("broken.json", b"[1, 2", "not_json"),
        ("none.json", b"[]", "empty"),
    ],
)
def test_a_file_that_gives_nothing_is_a_failure_with_a_reason(tmp_path, poll, name, content, reason):
    """A missing, broken or empty file fails with a stable code."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = poll(name)
    assert result.answers == ()
    assert result.failure.reason == reason


def test_more_lines_than_one_poll_takes_are_read_by_the_next(tmp_path, poll, monkeypatch):
    """A poll takes a limited number of lines, however short; the next one goes on after them."""
    monkeypatch.setattr(following, "MAX_LINES", 3)
    (tmp_path / "lines.jsonl").write_bytes(b"".join(b"%d\n" % n for n in range(7)))
    assert [bodies(poll("lines.jsonl")) for _ in range(4)] == [[0, 1, 2], [3, 4, 5], [6], []]
