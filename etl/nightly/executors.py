"""Where the parts of a day are analyzed: in this process, in worker processes, or on a dask cluster."""

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from typing import Any, NamedTuple, TypeVar

from etl.nightly.job import safe_path

CLUSTER_TIMEOUT_S = 10
"""A cluster that does not answer the first request within this time is not used."""
CLUSTER_CHECK_S = 5.0
"""The time between two checks whether the cluster has workers; without them a task would never complete."""
CALLS_AHEAD = 2
"""Calls per worker that are submitted before their results are needed; arguments and results take memory meanwhile."""

Result = TypeVar("Result")


class Mapper(NamedTuple):
    """How many parts a day is split into, and a `map` that returns results in order and runs only a few calls ahead."""

    parts: int
    map: Callable[..., Iterator[Any]]


SERIAL = Mapper(1, map)


def run_parallel(
    work: Callable[[Mapper], Result], workers: int, cluster: str | None, warn: Callable[[str], None]
) -> Result:
    """Run the work on the cluster, if there is one, else in `workers` processes; if that fails, in this process.

    After a failure `warn` receives a sentence, and `work` is called again from its start.
    """
    if cluster:
        try:
            with _on_cluster(cluster) as mapper:
                return work(mapper)
        except Exception as error:  # whatever fails there, this machine can make the report
            why = str(error) or type(error).__name__
            warn(f"The cluster {cluster} failed: {why}. The report is made on this machine.")
    if workers > 1:
        try:
            with _in_processes(workers) as mapper:
                return work(mapper)
        except BrokenExecutor as error:
            warn(f"A worker process died: {error}. The report is made by one process.")
    return work(SERIAL)


@contextmanager
def _in_processes(workers: int) -> Iterator[Mapper]:
    """A mapper over this process and `workers - 1` others; this one works while the others start."""
    spawned = workers - 1
    pending: list[Future[Any]] = []
    context = get_context("spawn")
    with _safe_path(), ProcessPoolExecutor(spawned, mp_context=context, initializer=_exit_with_parent) as executor:
        for _ in range(spawned):
            _submit(executor, int)  # starts a worker while this process imports its modules

        def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            pending[:] = [task for task in pending if not task.done()]
            if len(pending) < CALLS_AHEAD * spawned:
                pending.append(_submit(executor, function, *arguments))
                return pending[-1]
            local: Future[Any] = Future()
            local.set_result(function(*arguments))
            return local

        yield Mapper(workers, partial(_map_ahead, workers, submit, Future.result))


@contextmanager
def _safe_path() -> Iterator[None]:
    """What multiprocessing starts meanwhile, its resource tracker too, has no current folder in its `sys.path`."""
    before = os.environ.copy()
    os.environ.update(safe_path())
    try:
        yield
    finally:
        for name in safe_path():
            os.environ.pop(name)
        os.environ.update(before)


def _submit(executor: Executor, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Submit a call. Workers that this starts inherit a blocked SIGINT: the parent handles Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return executor.submit(function, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _map_ahead(
    workers: int,
    submit: Callable[..., Future[Result]],
    wait: Callable[[Future[Result]], Result],
    function: Callable[..., Result],
    *iterables: Iterable[Any],
) -> Iterator[Result]:
    """Like the builtin map, with a few calls submitted ahead."""
    pending: deque[Future[Result]] = deque()
    for arguments in zip(*iterables, strict=False):
        pending.append(submit(function, *arguments))
        while pending and (pending[0].done() or len(pending) > 2 * CALLS_AHEAD * workers):
            yield wait(pending.popleft())
    while pending:
        yield wait(pending.popleft())


def _exit_with_parent() -> None:
    """Start a thread that ends this worker when its parent dies; otherwise it would wait for work forever."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


@contextmanager
def _on_cluster(address: str) -> Iterator[Mapper]:
    from distributed import Client  # noqa: PLC0415  an optional dependency, and 60 MB

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with Client(address, timeout=CLUSTER_TIMEOUT_S, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        threads = sum(client.nthreads().values())
        if not threads:
            raise ConnectionError("it has no workers")
        executor = client.get_executor(pure=False)  # never closed: that would wait for workers that may be dead

        yield Mapper(threads, partial(_map_ahead, threads, executor.submit, partial(_checked_result, client)))


def _checked_result(client: Any, task: Future[Any]) -> Any:
    """Wait for the result of a task, as long as the cluster has a scheduler and workers."""
    while True:
        try:
            return task.result(timeout=CLUSTER_CHECK_S)
        except TimeoutError:
            if client.status != "running" or not client.nthreads():
                raise ConnectionError("it lost its workers") from None
