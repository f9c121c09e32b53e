"""What every source and transport keeps to: the source structs, the `Transport` protocol, size caps, failure sentences.

Imports no HTTP library, so that naming a source costs nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from etl.readings.records import Answer, Failure, Poll, RejectedError, Restart

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
    """

    def start(self, names: Iterable[str], deliver: Deliver) -> None:
        """Start one poll of each source; returns without waiting for answers."""

    def close(self) -> None:
        """Start no further poll and release connections and threads.

        Polls in flight are delivered as CLOSED, those without a deadline when they return.
        """


class HttpSource(NamedTuple):
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


class FileSource(NamedTuple):
    """A machine that writes its readings to a file; polls of it have no deadline."""

    name: str
    path: Path


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
