"""Daemon threads that run polls, so that no poll waits for another and none can hold up the end of the process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

Job = Callable[[], None]


class Workers:
    """Runs jobs on as few threads as keep up with them.

    Up to `usual` threads share the work; more are started only while those there are all stuck, one for each job
    that waits. Threads are daemons: a job that hangs is abandoned when the process ends.
    """

    def __init__(self, name: str, usual: int = 16, patience: float = 0.02) -> None:
        self._name = name
        self._usual = usual
        self._patience = patience
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._begun = 0
        self._closed = False

    def run(self, jobs: Iterable[Job]) -> None:
        """Begin every job, and return when the last one has begun. A job must not raise."""
        with self._changed:
            self._jobs.extend(jobs)
            self._grow(min(len(self._jobs) - self._idle, self._usual - self._threads))
            self._changed.notify(len(self._jobs))
            while self._jobs and not self._closed:
                begun = self._begun
                self._changed.wait_for(lambda: not self._jobs or self._closed, timeout=self._patience)
                if self._begun == begun:
                    self._grow(len(self._jobs))

    def _grow(self, count: int) -> None:
        for _ in range(count):
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._jobs and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if self._closed:
                    return
                job = self._jobs.popleft()
                self._begun += 1
                if not self._jobs:
                    self._changed.notify_all()
            job()

    def close(self) -> None:
        """Begin no further job; idle threads end, busy ones end with their job."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()
