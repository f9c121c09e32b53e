"""The records that pass between the rooms. They have no behaviour."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Self

import msgspec

Machine = tuple[str, str | int | float | None]
"""A machine is the pair of its source's name and the `id` of its reading (a string, a number or None)."""

DetectorName = Literal["telemetry", "status_band", "history_mad"]
"""The detectors a config can name."""
REMOVED_DETECTORS = {"history_mad"}
"""Those of earlier versions: read in settings.jsonl, and ignored."""


class RejectedError(ValueError):
    """An answer or a line that is not a reading: `reason` is a stable code, the message a sentence."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason = reason

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.reason, str(self))


class Failure(NamedTuple):
    """Why a poll gave no reading: a short stable code for programs, a sentence for people."""

    reason: str
    why: str


CLOSED = Failure("closed", "the poll was cancelled because polling stops")
"""The failure of a poll in flight when its transport is closed; it says nothing about the source."""


class Position(NamedTuple):
    """The byte offset after a line of a file, and the digest (hex) of the up to 1 KiB before it.

    Positions written by version 0.1 have no digest.
    """

    offset: int
    before: str | None


START = Position(0, None)
"""The position before the first line of any file."""


class Restart(NamedTuple):
    """Why a followed file is read from its start again: `reason` is "replaced" or "cut", `why` a sentence."""

    reason: str
    why: str


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One body as a source sent it, or a record of it.

    `mark` says where the source goes on after it: only its transport knows what it means. The Position of a followed
    file is written into the raw lines. An `id` that the source did not write into the body replaces the one in there.
    """

    body: bytes
    mark: object = None
    id: str | None = None


class Receipt(Protocol):
    """What a transport wants to know of a poll: that the source need not send it again."""

    def written(self) -> None:
        """The raw lines of the poll are as durable as `output.fsync` says, or it has none; it must not block."""


class Poll(msgspec.Struct, frozen=True, gc=False):
    """The result of one poll of one source, complete `at` (seconds since the epoch): answers, or a failure.

    `rejections` says why other answers of it have no records, `restarts` why a followed file is read from its start.
    While the poll exists, `lease` keeps its bytes counted. A poll with a `receipt` is never refused, however much waits
    for the disk: its transport bounds what is in flight.
    """

    source: str
    at: float
    answers: tuple[Answer, ...] = ()
    failure: Failure | None = None
    rejections: tuple[RejectedError, ...] = ()
    restarts: tuple[Restart, ...] = ()
    lease: object = None
    receipt: Receipt | None = None


class Reading(msgspec.Struct, frozen=True, gc=False):
    """The part of a raw line that averages and reports need; `values` have the order of the parameters.

    `polled_at` is in seconds since the epoch, exact to the millisecond; `timestamp` is None where none was sent.
    """

    machine: Machine
    polled_at: float
    timestamp: Any
    status: Any
    name: Any
    values: Sequence[Any]


class Rows(NamedTuple):
    """A block of raw lines as columns, one item per line.

    A damaged line has no source. `values` has a column per parameter, None without a number; `times` are in seconds.
    """

    sources: list[str | None]
    ids: list[str | int | float | None]
    names: list[Any]
    values: list[list[float | None]]
    times: Collection[float] | None = None
    statuses: list[str | None] | None = None


class AlarmRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """An alarm of the config: while an average is `above` or `below` a limit, or while a machine has a `status`.

    It is raised once the condition has held for `hold_ms`, and ended when the average is back inside by `deadband`, for
    machines whose source matches the shell pattern `sources`.
    """

    name: str
    parameter: str | None = None
    above: float | None = None
    below: float | None = None
    deadband: float = 0.0
    hold_ms: int = 0
    status: str | None = None
    sources: str = "*"


class Settings(msgspec.Struct, frozen=True):
    """What averages and reports depend on, beside the raw log. `interval` in seconds, `timezone` an IANA name.

    Entries of versions without detectors have none, and neither have their reports.
    """

    window: Annotated[int, msgspec.Meta(ge=1)]
    parameters: dict[str, str]
    timezone: str
    interval: Annotated[float, msgspec.Meta(gt=0)]
    threshold: float
    detectors: tuple[DetectorName, ...] = ()
    alarms: tuple[AlarmRule, ...] = ()

    @property
    def shape(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """What makes every window start over when it changes: size and parameters, in the order of the averages."""
        return self.window, tuple(self.parameters.items())


class SettingsEntry(msgspec.Struct, frozen=True):
    """An entry of settings.jsonl: `settings` apply from this line (counted from 1) of this day on."""

    day: str
    line: int
    settings: Settings
