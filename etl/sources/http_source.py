"""Machines read over HTTP: what a source is, what an answer may cost, why a poll fails. Every transport keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http.client import responses
from typing import NamedTuple, Protocol

from etl.readings.records import Failure, Poll

CAP = 5 << 20
"""Bytes of one answer, decoded, at most."""
HEAD = 1 << 20
"""Bytes that may come on top of them: headers, and what chunks are wrapped in."""
AGENT = "machine-telemetry-etl"
TOO_LARGE = Failure("too_large", f"the answer is larger than {CAP >> 20} MiB")


class Transport(Protocol):
    """Polls sources. Each source that is started is delivered exactly once, from any thread, by its deadline."""

    def start(self, names: Iterable[str], deliver: Callable[[Poll], None]) -> None:
        """Start one poll of each source."""

    def close(self) -> None:
        """Start no further poll."""


class HttpSource(NamedTuple):
    """One machine's URL, read within `timeout` seconds; `ca_file` replaces the certificates trusted otherwise."""

    name: str
    url: str
    timeout: float
    headers: Mapping[str, str]
    ca_file: str | None = None


def refusal(code: int) -> Failure | None:
    """Why an answer with this status is none; None if it is one."""
    if code < 300:
        return None
    if code in (301, 302, 303, 307, 308):
        return Failure("redirect", f"HTTP {code}: redirects are not followed")
    return Failure("http_status", f"HTTP {code} {responses.get(code, '')}".rstrip())


def timed_out(timeout: float) -> Failure:
    """A poll that met its deadline, `timeout` seconds."""
    return Failure("timeout", f"no answer within {timeout:g} s")
