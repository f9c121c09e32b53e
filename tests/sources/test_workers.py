"""Workers run every job once, on few threads, and no job waits for another that is stuck."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from etl.sources.workers import Workers


class Done:
    """Takes note of what was done, when, and on which threads."""

    def __init__(self) -> None:
        self.jobs: list[object] = []
        self.late: list[float] = []
        self.threads: set[int] = set()
        self._began = time.monotonic()
        self._changed = threading.Condition()

    def __call__(self, job: object) -> None:
        with self._changed:
            self.jobs.append(job)
            self.late.append(time.monotonic() - self._began)
            self.threads.add(threading.get_ident())
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.jobs) >= count, 10), f"{len(self.jobs)} of {count} were done"


@pytest.fixture
def workers():
    """Workers under a name of their own, closed when the test ends: no thread of theirs may be left."""
    workers = Workers("tested")
    yield workers
    workers.close()
    await_threads(0)


@pytest.fixture
def stuck():
    """A job that hangs until it is told to end, or the test ends."""
    event = threading.Event()
    yield event
    event.set()


def await_threads(count: int) -> None:
    """Wait until there are just so many threads of the tested workers."""
    deadline = time.monotonic() + 5
    while (alive := sum(thread.name == "tested" for thread in threading.enumerate())) != count:
        assert time.monotonic() < deadline, f"{alive} threads, not {count}"
        time.sleep(0.005)


def test_every_job_is_done_once(workers):
    """Ten thousand quick jobs are each done once, in any order."""
    done = Done()
    workers.run(partial(done, job) for job in range(10_000))
    done.wait(10_000)
    assert sorted(done.jobs) == list(range(10_000))


def test_quick_jobs_share_few_threads(workers):
    """Jobs that do not hang need no more than the usual threads."""
    done = Done()
    for _ in range(20):
        workers.run([partial(done, None)] * 100)
    done.wait(2000)
    assert len(done.threads) <= 8


def prompt(attempt: Callable[[Done], None], count: int) -> bool:
    """Whether so many jobs are all done within a quarter of a second: other processes may prevent it now and then."""
    for _ in range(5):
        done = Done()
        attempt(done)
        done.wait(count)
        if max(done.late) < 0.25:
            return True
    return False


@pytest.mark.parametrize("hanging", [4, 8, 200])
def test_stuck_jobs_delay_no_other(workers, stuck, hanging):
    """Jobs behind others that hang begin within a quarter of a second."""
    assert prompt(lambda done: workers.run([stuck.wait] * hanging + [partial(done, None)] * 20), 20)


def test_slow_jobs_delay_no_other(workers):
    """A hundred jobs of 40 ms each are all done within a quarter of a second."""

    def slow(done: Done) -> None:
        time.sleep(0.04)
        done(None)

    assert prompt(lambda done: workers.run([partial(slow, done)] * 100), 100)


def test_jobs_begin_while_an_earlier_call_waits(workers, stuck):
    """A call does not hold up the jobs of another call, nor hang with them."""

    def calls(done: Done) -> None:
        earlier = [threading.Thread(target=workers.run, args=([stuck.wait] * 50,)) for _ in range(4)]
        for call in earlier:
            call.start()
        workers.run([partial(done, None)] * 20)
        for call in earlier:
            call.join(5)

    assert prompt(calls, 20)


def test_threads_beyond_the_usual_end(workers, stuck):
    """The threads that stuck jobs needed end with them."""
    workers.run([stuck.wait] * 50)
    await_threads(50)
    stuck.set()
    await_threads(8)


def test_a_job_that_raises_costs_no_worker(workers, monkeypatch):
    """After jobs that raised, against their contract, others are still done."""
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    done = Done()
    workers.run([lambda: 1 / 0] * 20)
    workers.run([partial(done, None)] * 20)
    done.wait(20)
    await_threads(8)
    assert len(told) == 20


def test_no_further_thread(workers, stuck, monkeypatch):
    """Where the system gives no further thread, the jobs are done by those there are."""
    done = Done()
    workers.run([partial(done, None)] * 8)
    workers.run([stuck.wait] * 7)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    workers.run([partial(done, None)] * 100)
    done.wait(108)


def test_what_waits_is_done_after_closing(stuck):
    """Jobs that wait when the workers are closed, or come later, are done; then all threads end."""
    workers = Workers("tested", usual=1, patience=30)
    done = Done()
    call = threading.Thread(target=workers.run, args=([stuck.wait, partial(done, "waiting")],))
    call.start()
    await_threads(1)
    workers.close()
    stuck.set()
    call.join(5)
    workers.run([partial(done, "later")])
    done.wait(2)
    assert done.jobs == ["waiting", "later"]
    await_threads(0)
