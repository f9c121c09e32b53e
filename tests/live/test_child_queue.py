"""What is made by one child at a time: who waits for it, and what is kept."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etl.live.children import child_queue
from etl.live.children.child_queue import BusyError, ChildQueue
from etl.live.children.content import Content
from etl.nightly.on_demand.orders import PageHead
from tests.support.process import until


def content(text: bytes = b"", error: str = "") -> Content:
    """What a child answered."""
    made = Content()
    made.append(b'{"sizes":[%d],"error":"%b"}\n' % (len(text), error.encode()) + text)
    return made.finish()


class Kitchen:
    """A queue with a clock that the test sets, and children that the test lets end."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queue = ChildQueue(lambda: self.now, kept=3)
        self.made: list[str] = []
        self.working = 0
        self.most_working = 0
        self.may_end = threading.Event()
        self.may_end.set()

    def make(self, key: str) -> Content:
        self.working += 1
        self.most_working = max(self.working, self.most_working)
        self.made.append(key)
        self.may_end.wait()
        self.working -= 1
        return content(f"{key} {len(self.made)}".encode())

    def get(self, key: str, version=None) -> bytes:
        return self.queue.get(key, lambda: self.make(key), version).part(0).read()


@pytest.fixture
def kitchen():
    return Kitchen()


@pytest.fixture
def clients():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_a_page_is_kept_for_a_minute(kitchen):
    """Within a minute a page is not made again, after it it is."""
    assert [kitchen.get("a"), kitchen.get("b")] == [b"a 1", b"b 2"]
    kitchen.now = 59.9
    assert kitchen.get("a") == b"a 1"
    kitchen.now = 60.0
    assert kitchen.get("a") == b"a 3"


def test_a_version_keeps_a_page_for_longer_or_shorter(kitchen):
    """A page with a version stays fresh while it is the same, and no longer."""
    assert kitchen.get("a", 1) == b"a 1"
    kitchen.now = 1e6
    assert kitchen.get("a", 1) == b"a 1"
    assert kitchen.get("a", 2) == b"a 2"


def test_one_child_works_and_two_requests_wait(kitchen, clients):
    """Of five requests at the same time three get their pages, made one after the other; two are busy at once."""
    kitchen.may_end.clear()
    waiting = [clients.submit(kitchen.get, key) for key in "abc"]
    until(lambda: kitchen.queue._waiting == 3)
    for key in "de":
        with pytest.raises(BusyError):
            kitchen.get(key)
    kitchen.may_end.set()
    assert [future.result() for future in waiting] == [b"a 1", b"b 2", b"c 3"]
    assert kitchen.most_working == 1


def test_requests_for_the_same_page_share_a_child(kitchen, clients):
    """Three requests for a page make it once; a fourth one is busy, as no further thread may wait."""
    kitchen.may_end.clear()
    waiting = [clients.submit(kitchen.get, "a") for _ in range(3)]
    until(lambda: kitchen.queue._waiting == 3)
    with pytest.raises(BusyError):
        kitchen.get("a")
    kitchen.may_end.set()
    assert {future.result() for future in waiting} == {b"a 1"}


def test_who_cannot_wait_gets_the_last_page(kitchen, clients):
    """While others wait, a page that is older than a minute is answered as it is."""
    kitchen.get("a")
    kitchen.now = 1000.0
    kitchen.may_end.clear()
    waiting = [clients.submit(kitchen.get, key) for key in "bcd"]
    until(lambda: kitchen.queue._waiting == 3)
    assert kitchen.get("a") == b"a 1"
    kitchen.may_end.set()
    for future in waiting:
        future.result()


def test_a_request_does_not_wait_for_ever(kitchen, monkeypatch):
    """Who waited long enough is busy; the child goes on, and the next request finds what it made."""
    monkeypatch.setattr(child_queue, "WAIT_S", 0.01)
    kitchen.may_end.clear()
    with pytest.raises(BusyError):
        kitchen.get("a")
    kitchen.may_end.set()
    until(lambda: not kitchen.queue._pending)
    assert kitchen.get("a") == b"a 1"


def test_an_error_is_not_kept(kitchen):
    """After an error, raised or answered, the next request tries again."""

    def fail() -> Content:
        raise ChildProcessError("killed")

    with pytest.raises(ChildProcessError):
        kitchen.queue.get("a", fail)
    assert kitchen.queue.get("a", lambda: content(error="no such day")).head.error == "no such day"
    assert kitchen.get("a") == b"a 1"


def test_few_pages_are_kept(kitchen):
    """A new page takes the place of the one that was asked for longest ago."""
    for key in "abcad":
        kitchen.get(key)
    assert kitchen.made == list("abcd")
    assert [kitchen.get(key) for key in "acdb"] == [b"a 1", b"c 3", b"d 4", b"b 5"]


def test_a_part_is_read_from_any_position():
    """Each opened part has a position of its own within its range, and outlives the content."""
    made = Content()
    head = b'{"sizes":[4,6]}\n'
    for piece in (head[:5], head[5:] + b"jso", b"nthe page"):
        made.append(piece)
    with pytest.raises(ValueError, match="28 bytes, not 26"):
        made.finish()
    made = Content()
    made.append(head + b"jsonpage 1")
    made.finish()
    assert made.head == PageHead(sizes=(4, 6))
    first, second, again = made.part(0), made.part(1), made.part(1)
    del made
    assert (first.read(), second.read(4), second.tell()) == (b"json", b"page", 4)
    second.seek(1)
    assert (second.read(), again.read(100), again.read()) == (b"age 1", b"page 1", b"")
    assert again.seek(-2, 2) == 4
    second.close()
    assert (len(again), again.read()) == (6, b" 1")


def test_an_answer_that_cannot_be_stored_names_the_directory():
    """Where the directory for temporary files is full, the error says which one it is."""
    made = Content()
    with Path("/dev/full").open("wb", buffering=0) as full:
        made._file = full
        with pytest.raises(OSError, match=r"No space left.*TMPDIR"):
            made.append(b"page")
