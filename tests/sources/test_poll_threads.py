"""Each started poll is delivered exactly once, on few threads, and none waits for another that hangs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from math import inf

import pytest

from etl.readings.records import Answer, Failure
from etl.sources import poll_threads
from etl.sources.contract import Content
from etl.sources.poll_threads import PendingPoll, PollThreads
from tests.support.http_sources import DEADLINE, PATIENCE, Inbox

HANGING = "hanging"


class Rig:
    """Poll threads whose polls of names that begin with "hanging" block until the test ends."""

    def __init__(self, sources: int) -> None:
        self.end = threading.Event()
        self.reads: list[str] = []
        self.threads = PollThreads(
            "tested", sources, self._read, lambda poll, error: Failure("failed", str(error)), int
        )

    def _read(self, poll: PendingPoll) -> Content:
        self.reads.append(poll.name)
        if poll.name.startswith(HANGING):
            self.end.wait(PATIENCE)
        if poll.name == "raises":
            raise ValueError("no answer")
        return Content([Answer(b"{}")])

    def start(self, names, inbox, timeout: float = PATIENCE) -> None:
        self.threads.start([PendingPoll(name, timeout, inbox) for name in names])


@pytest.fixture
def rig():
    """Build rigs; no thread of theirs may be left when the test ends."""
    rigs = []

    def build(sources: int) -> Rig:
        rigs.append(Rig(sources))
        return rigs[-1]

    yield build
    for built in rigs:
        built.end.set()
        built.threads.close()
    for thread in threading.enumerate():
        if thread.name.startswith("tested"):
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_every_poll_is_delivered_once(rig):
    """A thousand quick polls are each read and delivered once."""
    built, inbox = rig(1000), Inbox()
    names = [f"m-{n}" for n in range(1000)]
    built.start(names, inbox)
    inbox.wait(names)
    assert Counter(poll.source for poll in inbox.polls) == Counter(built.reads) == Counter(names)


def test_polls_that_are_not_slow_share_few_threads(rig, monkeypatch):
    """While no poll counts as slow, no more threads exist than polls may be new."""
    monkeypatch.setattr(poll_threads, "SLOW_S", PATIENCE)
    built, inbox = rig(1000), Inbox()
    names = [f"{HANGING}-{n}" for n in range(1000)]
    built.start(names, inbox)
    assert len(built.threads._executor._threads) <= poll_threads.MAX_NEW_POLLS
    built.end.set()
    inbox.wait(names)


def test_polls_behind_hanging_ones_are_read(rig):
    """Three hundred sources that hang delay no other, although no thread of theirs returns."""
    built, inbox = rig(320), Inbox()
    good = [f"m-{n}" for n in range(20)]
    built.start([*(f"{HANGING}-{n}" for n in range(300)), *good], inbox)
    inbox.wait(good)
    assert len(inbox.polls) == len(good)


def test_the_deadline_counts_from_the_moment_a_poll_leaves(rig, one_place):
    """The time that a poll waited for a place is not taken from the time its machine has."""
    built, inbox = rig(2), Inbox()
    waiting = PendingPoll("m", PATIENCE, inbox)
    built.start([HANGING], inbox)
    built.threads.start([waiting])
    released = time.monotonic()
    built.end.set()
    inbox.wait([HANGING, "m"])
    assert waiting.deadline - PATIENCE >= released


def test_a_poll_without_a_place_is_busy(rig, one_place):
    """A poll that cannot leave within its timeout fails as busy, and is never read."""
    built, inbox = rig(2), Inbox()
    built.start([HANGING], inbox)
    built.start(["m"], inbox, DEADLINE)
    inbox.wait(["m"])
    assert inbox.of("m").failure.reason == "busy"
    built.end.set()
    inbox.wait([HANGING])
    assert built.reads == [HANGING]


def test_a_source_that_never_returns_occupies_one_thread(rig):
    """Polls of a source whose thread is stuck beyond its deadline time out, and take no thread from others."""
    built = rig(2)
    for _ in range(3):
        inbox = Inbox()
        built.start([HANGING, "m"], inbox, DEADLINE)
        inbox.wait([HANGING, "m"])
        assert inbox.of(HANGING).failure.reason == "timeout"
        assert inbox.of("m").answers
    assert built.reads.count(HANGING) == 1


def test_a_source_is_read_again_once_its_thread_returns(rig):
    """A poll that found its source's thread stuck is read when that thread returns in time."""
    built, first, second = rig(1), Inbox(), Inbox()
    built.start([HANGING], first, DEADLINE)
    first.wait([HANGING])
    built.start([HANGING], second)
    built.end.set()
    second.wait([HANGING])
    assert second.of(HANGING).answers
    assert len(first.polls) == 1


def test_a_read_that_raises_is_a_failure(rig):
    """What `read` raises becomes the failure of its poll only."""
    built, inbox = rig(2), Inbox()
    built.start(["raises", "m"], inbox)
    inbox.wait(["raises", "m"])
    assert inbox.of("raises").failure == Failure("failed", "no answer")
    assert inbox.of("m").answers


def test_a_receiver_that_raises_is_logged(rig, caplog):
    """A receiver that fails, against its contract, is logged and costs no later poll."""
    built, inbox = rig(1), Inbox()

    def fails(_) -> None:
        raise ValueError("the receiver failed")

    built.start(["lost"], fails)
    built.start(["after"], inbox)
    inbox.wait(["after"])
    assert "The poll of lost was lost" in caplog.text


def test_no_further_thread(rig, monkeypatch):
    """Where the system creates no further thread, existing ones run the polls."""
    built, inbox = rig(100), Inbox()
    built.start(["first"], inbox)
    inbox.wait(["first"])

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    names = [f"m-{n}" for n in range(99)]
    built.start(names, inbox)
    inbox.wait(names)


def test_a_running_poll_without_a_deadline_survives_closing(rig):
    """What is read from a file that returns after closing is delivered, not dropped."""
    built, inbox = rig(1), Inbox()
    built.start([HANGING], inbox, inf)
    built.threads.close()
    assert not inbox.polls
    built.end.set()
    inbox.wait([HANGING])
    assert inbox.of(HANGING).answers


def test_closing_delivers_what_is_pending(rig):
    """Polls that are in flight, queued, or started later are delivered as closed, without waiting for a thread."""
    built, inbox = rig(100), Inbox()
    names = [f"{HANGING}-{n}" for n in range(100)]
    built.start(names, inbox)
    built.threads.close()
    built.start(["later"], inbox)
    inbox.wait([*names, "later"])
    assert {poll.failure.reason for poll in inbox.polls} == {"closed"}
