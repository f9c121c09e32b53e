"""One child at a time: a short queue of what is to be made, and what was made last."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitTimeoutError
from typing import NamedTuple

from etl.live.children.content import Content

KEPT_S = 60.0
"""What was made is kept for a minute: a page that several people look at costs one child."""
MAX_WAITING = 3
"""Requests that wait for a child: the one it works for, and two more. The server's other threads stay free."""
WAIT_S = 50.0
"""A request waits for so long: proxies give up after a minute. The child goes on; a later request finds its work."""
RETRY_S = 5
"""When to ask again."""


class BusyError(Exception):
    """Others are waiting already, or the child needs longer; try again after RETRY_S."""


class _Kept(NamedTuple):
    """A content, when it was made (seconds), and what it was made of: it is fresh while that is the same."""

    content: Content
    at: float
    version: Hashable


class ChildQueue:
    """Contents by key, each made by a child, one child at a time.

    `clock` gives seconds on any scale; the `kept` contents that were asked for last are kept, as temporary files.
    """

    def __init__(self, clock: Callable[[], float], kept: int) -> None:
        self._clock = clock
        self._max_kept = kept
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="pages")
        self._pending: dict[Hashable, Future[Content]] = {}
        self._kept: dict[Hashable, _Kept] = {}
        self._waiting = 0

    def get(self, key: Hashable, make: Callable[[], Content], version: Hashable = None) -> Content:
        """The content of a key: a fresh one, or else the one that `make` returns, or else the last one.

        With a `version` a content is fresh while that stays the same, else for KEPT_S. What has an error is not kept.

        Raises:
            BusyError: there is none, and others wait already, or the child needs longer than WAIT_S.
            Exception: what `make` raised.

        """
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept:
                self._kept[key] = kept  # now the last one
            if kept and self._is_fresh(kept, version):
                return kept.content
            future = self._pending.get(key)
            if self._waiting >= MAX_WAITING or (future is None and len(self._pending) >= MAX_WAITING):
                return _last(kept)
            if future is None:
                future = self._pending[key] = self._executor.submit(self._make, key, make, version)
            self._waiting += 1
        try:
            return future.result(WAIT_S)
        except WaitTimeoutError:
            return _last(kept)
        finally:
            with self._lock:
                self._waiting -= 1

    def _is_fresh(self, kept: _Kept, version: Hashable) -> bool:
        return kept.version == version if version is not None else self._clock() - kept.at < KEPT_S

    def _make(self, key: Hashable, make: Callable[[], Content], version: Hashable) -> Content:
        try:
            content = make()
        except BaseException:
            with self._lock:
                del self._pending[key]
            raise
        with self._lock:
            del self._pending[key]
            if not content.head.error:
                self._kept.pop(key, None)
                self._kept[key] = _Kept(content, self._clock(), version)
                while len(self._kept) > self._max_kept:
                    del self._kept[next(iter(self._kept))]
        return content


def _last(kept: _Kept | None) -> Content:
    if kept is None:
        raise BusyError
    return kept.content
