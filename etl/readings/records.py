"""The records that pass between the modules. No behaviour lives here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

Machine = tuple[str, str | int | float | None]
"""A machine is a source's name and the `id` of its reading (a string, a number or None)."""


DetectorName = Literal["telemetry", "status_band", "history_mad"]
"""The detectors that can be asked for."""

MEMORY = 2000
"""Readings a reading is compared with: 5.5 hours at 10 s, a week at 5 minutes. Short enough that a new way of running
is soon normal, long enough that its third extremes are those of 1 reading in 700."""


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

    The source (None: the line is damaged) and the id, which name the machine, the name as sent, and for each parameter
    the value as a float, None where there is no number; where they are asked for, when it was polled (seconds since the
    epoch) and the status, a text or None.
    """

    sources: list[str | None]
    ids: list[str | int | float | None]
    names: list[Any]
    values: list[list[float | None]]
    times: list[float] | None = None
    statuses: list[str | None] | None = None


class Tail(msgspec.Struct, frozen=True):
    """The last readings with a number of one parameter of a machine, at most MEMORY, and the incident that is open.

    `times` (seconds) and `values` are doubles, `codes` bytes, each the place of the reading's status in `statuses`.
    """

    times: bytes
    values: bytes
    codes: bytes
    statuses: list[str | None]
    carried: dict[str, Any] | None


class Past(msgspec.Struct, frozen=True):
    """What is known of a machine: when its last reading was polled (seconds), and a Tail for each parameter."""

    last: float
    tails: list[Tail]


class History(msgspec.Struct, frozen=True):
    """What is known of each machine after the readings of `day`, by these fields and detectors."""

    day: str
    fields: tuple[str, ...]
    detectors: tuple[str, ...]
    machines: dict[str, Past]


class Judging(NamedTuple):
    """What a machine's day is judged by.

    `detectors` are their names; `since` and `end` are moments (seconds): what is older than `since` is forgotten, and
    the day ends at `end`.
    """

    detectors: tuple[DetectorName, ...]
    threshold: float
    interval: float
    since: float
    end: float


class Settings(msgspec.Struct, frozen=True):
    """What averages and reports depend on, beside the raw log. `interval` in seconds, `timezone` an IANA name.

    Entries that older versions wrote name no detectors, and their reports have none.
    """

    window: Annotated[int, msgspec.Meta(ge=1)]
    parameters: dict[str, str]
    timezone: str
    interval: Annotated[float, msgspec.Meta(gt=0)]
    threshold: float
    detectors: tuple[DetectorName, ...] = ()


class Governed(msgspec.Struct, frozen=True):
    """An entry of settings.jsonl: `settings` hold from this line (counted from 1) of this day on."""

    day: str
    line: int
    settings: Settings
