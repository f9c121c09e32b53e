"""What passes from one day to the next for each machine. It does not load numpy."""

from typing import Any

import msgspec

from etl.readings.records import DetectorName

RULES = 2
"""The number of the detectors' rules. Increment it with every change of what they compute: incidents are compared, and
histories continued, only under the same rules."""
BLOCK_READINGS = 30
"""A band is computed once for this many readings. The block before is left out of its baseline, so that a developing
fault cannot widen its own band; with many more, a slow wave would leave its band."""
BASELINE_BLOCKS = 67
BASELINE_READINGS = BASELINE_BLOCKS * BLOCK_READINGS
"""The readings that a reading is compared with: 5.6 hours at 10 s, a week at 5 minutes. Few enough that a new mode of
operation becomes normal soon; enough that the third-lowest and third-highest are a quantile of 1 in 700."""
TAIL_READINGS = BASELINE_READINGS + BLOCK_READINGS
"""The readings before a day that its first block depends on."""
LASTING_DAYS = 7
"""For so many days after it became one, a lasting change is reported again; then it is the new normal."""

FrozenBands = dict[str, list[float]]
"""The figures of a Band as they were before an incident, by the key of the readings that are compared with it."""


class OpenIncident(msgspec.Struct, frozen=True):
    """An incident that the next day continues, or a lasting change.

    `quiet` is the number of readings after its last one. `bands` are those of `detector`, which flagged its first
    reading, as they were then; `key` is the key of that reading, and `level` the median of the readings before with it.
    """

    incident: dict[str, Any]
    quiet: int
    detector: DetectorName
    bands: FrozenBands
    key: str
    level: float


class Tail(msgspec.Struct, frozen=True):
    """The last readings of one parameter that have a number, at most TAIL_READINGS, and its open incidents.

    `times` (seconds since the epoch) and `values` are bytes of float64, `codes` (indices into `statuses`) of uint8.
    """

    times: bytes = b""
    values: bytes = b""
    codes: bytes = b""
    statuses: list[str | None] = []
    current: OpenIncident | None = None
    lasting: list[OpenIncident] = []


class Past(msgspec.Struct, frozen=True):
    """The past of a machine: when its last reading was polled (seconds since the epoch), and a Tail per parameter."""

    last: float
    tails: list[Tail]
