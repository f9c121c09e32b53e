"""The answers that wait to be written take a bounded amount of memory, of all sources together."""

from __future__ import annotations

import threading
import time

import pytest

from etl.config.sources.file import FileSource
from etl.sources import intake
from etl.sources.file.transport import FileTransport
from etl.sources.intake import Intake
from tests.support.http_sources import TRANSPORTS, machine, poll_all
from tests.support.kinds import context
from tests.support.process import until
from tests.support.servers import Server, answer, says

LARGE = b'{"text":"' + b"x" * 300_000 + b'"}'


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch):
    """Room for three large answers."""
    monkeypatch.setattr(intake, "MAX_RECEIVED_BYTES", 1_000_000)


@pytest.fixture
def machines():
    """The URLs of a machine that sends large answers, and of one that sends small ones."""
    servers = Server(says(answer(LARGE))), Server(says(answer(b'{"n":1}')))
    yield [server.url for server in servers]
    for server in servers:
        server.close()


@pytest.fixture(params=TRANSPORTS)
def transport(request, machines):
    """A transport of ten sources with large answers and ten with small ones, and the bytes it has taken."""
    sources = [
        machine(url, f"{kind}-{n}") for kind, url in zip(("large", "small"), machines, strict=True) for n in range(10)
    ]
    opened = request.param(sources, time.time, Intake())
    yield opened
    opened.close()


def test_answers_beyond_the_limit_fail_as_busy_and_small_ones_never_do(transport):
    """Of ten large answers that nobody takes three are kept, the others are busy; the small ones all arrive."""
    inbox = poll_all(transport, [f"large-{n}" for n in range(10)])
    reasons = [poll.failure.reason for poll in inbox.polls if poll.failure]
    assert 0 < len(inbox.polls) - len(reasons) <= 3
    assert set(reasons) == {"busy"}
    small = poll_all(transport, [f"small-{n}" for n in range(10)])
    assert [poll.failure for poll in small.polls] == [None] * 10


def test_what_was_written_makes_room(transport):
    """Once a poll is dropped its bytes count no more, whether it was answered or failed."""
    for names in [["large-0"], ["large-1"], [f"large-{n}" for n in range(10)]] * 3:
        inbox = poll_all(transport, names)
        assert any(poll.failure is None for poll in inbox.polls)
        inbox.polls.clear()
        until(lambda: not transport._intake._bytes)  # a thread may still be on its way out of a poll


def test_a_followed_file_waits_until_there_is_room(tmp_path):
    """Lines that there is no room for are read by a later poll."""
    line = b'{"text":"' + b"x" * 400_000 + b'"}\n'
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_bytes(line)
    files = FileTransport([FileSource(name=name, file=f"{name}.jsonl") for name in "abc"], context(tmp_path))
    kept = [poll_all(files, [name]).of(name) for name in "ab"]
    assert [poll.failure for poll in kept] == [None, None]
    assert poll_all(files, ["c"]).of("c").failure.reason == "busy"
    kept.clear()
    assert len(poll_all(files, ["c"]).of("c").answers) == 1
    files.close()


def test_leases_of_many_threads_add_up():
    """However many threads take and give back, nothing stays counted."""
    shared = Intake()

    def use() -> None:
        for size in range(2000):
            lease = shared.lease()
            lease.grow(size)
            lease.release()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared._bytes == 0
