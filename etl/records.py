"""The records that pass between the modules. No behaviour lives here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

Machine = tuple[str, str | int | float | None]
"""A machine is a source's name and the `id` of its reading (a string, a number or None)."""


class Failure(NamedTuple):
    """Why a source gave no reading: a short stable code for machines, a sentence for people."""

    reason: str
    why: str


CLOSED = Failure("closed", "the poll was cut off because polling ends")
"""What a poll that was begun gives when its transport is closed: it says nothing of the source."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One body as a source sent it; `position` is the byte offset after it in a followed file."""

    body: bytes
    position: int | None = None


class Poll(msgspec.Struct, frozen=True, gc=False):
    """What one poll of one source gave, complete at `at` (seconds since the epoch): answers, or a failure."""

    source: str
    at: float
    answers: tuple[Answer, ...] = ()
    failure: Failure | None = None


class Reading(msgspec.Struct, frozen=True, gc=False):
    """The part of a raw line that averages and reports need.

    `polled_at` in seconds since the epoch, exact to the millisecond; `timestamp` is None where the machine sent none;
    `values` stand in the order of the parameters.
    """

    machine: Machine
    polled_at: float
    timestamp: Any
    status: Any
    name: Any
    values: Sequence[Any]


class Rows(NamedTuple):
    """A block of raw lines as columns, with an item for each line.

    The machine (None: the line is damaged), when it was polled (seconds since the epoch), the name as sent, and for
    each parameter the value as a float, None where there is no number.
    """

    machines: list[Machine | None]
    times: list[float]
    names: list[Any]
    values: list[list[float | None]]


class Settings(msgspec.Struct, frozen=True):
    """What averages and reports depend on, beside the raw log. `interval` in seconds, `timezone` an IANA name."""

    window: Annotated[int, msgspec.Meta(ge=1)]
    parameters: dict[str, str]
    timezone: str
    interval: Annotated[float, msgspec.Meta(gt=0)]
    threshold: float


class Governed(msgspec.Struct, frozen=True):
    """An entry of settings.jsonl: `settings` hold from this line (counted from 1) of this day on."""

    day: str
    line: int
    settings: Settings
