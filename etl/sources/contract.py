"""What every transport keeps to: the `Transport` protocol, what one is opened with, size caps, failure sentences.

Imports no client library, so that naming a source costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from etl.config.sources.base import Source
from etl.readings.records import Answer, Failure, Poll, Position, RejectedError, Restart
from etl.sources.intake import Intake

MAX_BODY_BYTES = 5 << 20
"""Size limit of one decoded answer; a reading has some hundred bytes, a gateway's answer some hundred KiB."""
MAX_OVERHEAD_BYTES = 1 << 20
"""Further bytes an answer may take on the wire: status line, headers, chunk framing."""
AGENT = "machine-telemetry-etl"
"""The User-Agent of every request."""
TOO_LARGE = Failure("too_large", f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB")


Deliver = Callable[[Sequence[Poll]], None]
"""Takes results that were complete at about the same time; must not raise."""


class Transport(Protocol):
    """Polls sources of one kind.

    Each source that is started is delivered exactly once, from any thread: by its deadline, which counts from the
    moment its request leaves. A poll that finds no place within its timeout, because too many others are in flight,
    fails as busy: so each is delivered within twice its timeout.
    What a source sends on its own is delivered in further polls, to the receiver of the last start.

    An answer may have a mark, which says where its source goes on after it. Nobody else looks into it; what is split
    from an answer by `records` has the mark of the answer. A Position is written into the raw lines: after a restart,
    `Context.positions` has that of the last durable line, so that no line of a file is lost or read twice.
    """

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; returns without waiting for answers."""

    def close(self) -> None:
        """Start no further poll and release connections and threads.

        Polls in flight are delivered as CLOSED, those without a deadline when they return.
        """


@runtime_checkable
class Acknowledging(Protocol):
    """A transport that tells its sources what is written: the receipts of its polls are given back after `close`."""

    def settle(self, seconds: float) -> None:
        """Tell the sources of all receipts that were given back; wait up to so many seconds for it."""


class Context(NamedTuple):
    """What a transport is opened with, beside its sources."""

    clock: Callable[[], float]
    """Seconds since the epoch."""
    intake: Intake
    """Bounds the answers of all transports that are not written yet."""
    folder: Path
    """The config's folder, at which relative paths start."""
    default_timeout: float
    """The deadline of a poll in seconds, for sources without `timeout`."""
    http_client: str = "requests"
    """`transport` in the config."""
    positions: Callable[[set[str]], Mapping[str, Position]] = lambda _: {}
    """The position in the last raw line of each of these sources that has one; reads the raw log."""
    previous: Transport | None = None
    """The transport that polled this kind before a reload: a followed file continues where it is."""
    is_trial: bool = False
    """Whether answers are only shown: no source may be told that they are written, no other process disturbed."""

    def timeout(self, source: Source) -> float:
        """The total deadline of a poll in seconds."""
        return source.timeout or self.default_timeout


class Target(NamedTuple):
    """A machine behind a URL.

    `timeout` is the total deadline of a poll in seconds, from the moment it leaves. `ca_file` replaces the trusted
    certificates. With a `body` the request is a POST, and only the status of its answer counts. The login in `url` is
    sent as basic authentication, or with `digest` only as an answer to a digest challenge.
    """

    name: str
    url: str
    timeout: float
    headers: Mapping[str, str]
    ca_file: str | None = None
    body: bytes | None = None
    digest: bool = False


@dataclass
class Content:
    """What a poll found: answers, why others were rejected, why reading a followed file started over."""

    answers: list[Answer] = field(default_factory=list)
    rejections: list[RejectedError] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)


def timed_out(timeout: float) -> Failure:
    """The failure of a poll that reached its deadline of `timeout` seconds."""
    return Failure("timeout", f"no answer within {timeout:g} s")


def no_place(timeout: float) -> Failure:
    """The failure of a poll that could not leave within `timeout` seconds."""
    return Failure("busy", f"too many other polls are in flight: this one could not start within {timeout:g} s")
