"""Where the parts of a day are analyzed: here in turn, in processes beside this one, or on a cluster that exists."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

REACHED = 10
"""Seconds within which a cluster must answer."""
LOOK = 5.0
"""Seconds between two looks whether a cluster still has workers."""
AHEAD = 2
"""Calls for each worker that are begun before they are asked for; arguments and results wait in memory."""

Result = TypeVar("Result")


class Executing(NamedTuple):
    """How many parts a day is split into, and what maps a function over them, in order and not all at once."""

    parts: int
    map: Callable[..., Iterator[Any]]


HERE = Executing(1, map)


def executed(
    work: Callable[[Executing], Result], workers: int, cluster: str | None, tell: Callable[[str], None]
) -> Result:
    """Do the work on the cluster, if there is one, else in `workers` processes; where that breaks, here in turn.

    `work` may be called again from its start; `tell` is given a sentence for people when that happens.
    """
    if cluster:
        try:
            with _on_cluster(cluster) as executing:
                return work(executing)
        except Exception as error:  # whatever breaks there, the report is made here
            why = str(error) or type(error).__name__
            tell(f"The cluster {cluster} cannot do it: {why}. The report is made on this machine.")
    if workers > 1:
        try:
            with _in_processes(workers) as executing:
                return work(executing)
        except BrokenExecutor as error:
            tell(f"A worker process died: {error}. The report is made by one process.")
    return work(HERE)


@contextmanager
def _in_processes(workers: int) -> Iterator[Executing]:
    """Work in this process and in others beside it; this one works from the first moment, while they are starting."""
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415  one process needs none of this
    from multiprocessing import get_context  # noqa: PLC0415

    others = workers - 1
    begun: list[Future[Any]] = []

    with ProcessPoolExecutor(others, mp_context=get_context("spawn"), initializer=_follow_parent) as executor:
        for _ in range(others):
            _submit(executor, int)  # they start now, while this process loads what it needs

        def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            begun[:] = [task for task in begun if not task.done()]
            if len(begun) < AHEAD * others:
                begun.append(_submit(executor, function, *arguments))
                return begun[-1]
            here: Future[Any] = Future()
            here.set_result(function(*arguments))
            return here

        yield Executing(workers, partial(_mapped, workers, submit, Future.result))


def _submit(executor: Executor, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Submit a call; the process this may start is deaf to Ctrl-C, which is for the one that ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return executor.submit(function, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _mapped(
    workers: int,
    submit: Callable[..., Future[Result]],
    wait: Callable[[Future[Result]], Result],
    function: Callable[..., Result],
    *arguments: Iterable[Any],
) -> Iterator[Result]:
    """What the builtin map gives, with a few calls begun before they are asked for."""
    begun: deque[Future[Result]] = deque()
    for each in zip(*arguments, strict=False):
        begun.append(submit(function, *each))
        while begun and (begun[0].done() or len(begun) > 2 * AHEAD * workers):
            yield wait(begun.popleft())
    while begun:
        yield wait(begun.popleft())


def _follow_parent() -> None:
    """End this worker when its parent is killed; otherwise it would wait for work forever."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    from multiprocessing import parent_process  # noqa: PLC0415

    if parent := parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def _on_cluster(address: str) -> Iterator[Executing]:
    from distributed import Client  # noqa: PLC0415  an extra, and 60 MB

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with Client(address, timeout=REACHED, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        threads = sum(client.nthreads().values())
        if not threads:
            raise ConnectionError("it has no workers")
        executor = client.get_executor(pure=False)  # closing it would wait for workers that may be gone

        yield Executing(threads, partial(_mapped, threads, executor.submit, partial(_watched, client)))


def _watched(client: Any, task: Future[Any]) -> Any:
    """The result of a task; a cluster that lost its workers or its scheduler would let us wait forever."""
    while True:
        try:
            return task.result(timeout=LOOK)
        except TimeoutError:
            if client.status != "running" or not client.nthreads():
                raise ConnectionError("it lost its workers") from None
