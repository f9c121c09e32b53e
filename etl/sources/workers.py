"""Daemon threads that run polls, so that no poll waits for another and none can hold up the end of the process."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable

Job = Callable[[], None]


class Workers:
    """Runs jobs on as few threads as keep up with them.

    `usual` threads share the work. Where some of them have been stuck with one job for `patience` seconds, as large a
    share of the jobs that wait get threads of their own, which end when there is nothing left to do. Threads are
    daemons: a job that hangs is abandoned when the process ends.
    """

    def __init__(self, name: str, usual: int = 8, patience: float = 0.02) -> None:
        self._name = name
        self._usual = usual
        self._patience = patience
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._all_begun = threading.Condition(self._lock)
        self._threads = 0  # of these: to be started, on their way to their first job, idle, busy with a fresh job
        self._wanted = 0
        self._coming = 0
        self._idle = 0
        self._fresh = 0
        self._round = 0
        self._watched = False
        self._closed = False

    def run(self, jobs: Iterable[Job]) -> None:
        """Begin every job; return when the last one has begun, or at once if another call sees to that already."""
        with self._lock:
            self._jobs.extend(jobs)
            self._more.notify(len(self._jobs))
            self._want(min(len(self._jobs) - self._idle, self._usual - self._threads))
            watched, self._watched = self._watched, True
        self._start()
        if not watched:
            while self._watch():
                self._start()

    def _watch(self) -> bool:
        """Wait a moment; want threads for as many of the jobs that wait as would likely be stuck; False if none do."""
        with self._lock:
            self._round += 1
            self._fresh = 0
            if self._jobs and not self._all_begun.wait(self._patience):
                stuck = self._threads - self._coming - self._idle - self._fresh
                share = stuck / self._threads if self._threads else 1.0
                self._want(math.ceil(len(self._jobs) * share) - self._coming)
            self._watched = bool(self._jobs)
            return self._watched

    def _want(self, count: int) -> None:
        count = max(count, 0)
        self._threads += count
        self._coming += count
        self._wanted += count

    def _start(self) -> None:
        """Start the threads that are wanted. Each new one helps first, since starting one is mostly waiting for it."""
        while True:
            with self._lock:
                if not self._wanted:
                    return
                self._wanted -= 1
            try:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            except RuntimeError:  # the system gives no further thread: those there are do the work, later
                with self._lock:
                    self._threads -= 1
                    self._coming -= 1

    def _work(self) -> None:
        self._start()
        began = -1
        with self._lock:
            self._coming -= 1
        try:
            while True:
                with self._lock:
                    self._fresh -= began == self._round
                    if not self._await_job():
                        return
                    began = self._round
                    self._fresh += 1
                    job = self._jobs.popleft()
                    if not self._jobs:
                        self._all_begun.notify()
                job()
        finally:
            with self._lock:
                self._threads -= 1

    def _await_job(self) -> bool:
        """Wait until a job waits; False if this thread may end instead."""
        while not self._jobs:
            if self._closed or self._threads > self._usual:
                return False
            self._idle += 1
            self._more.wait()
            self._idle -= 1
        return True

    def close(self) -> None:
        """Let the threads end once the jobs that wait are done."""
        with self._lock:
            self._closed = True
            self._more.notify_all()
