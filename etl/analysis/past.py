"""What passes from one day to the next for each machine. It does not load numpy."""

from typing import Any

import msgspec

RULES = 1
"""The number of the detectors' rules. Increment it with every change of what they compute: incidents are compared, and
histories continued, only under the same rules."""
BASELINE_READINGS = 2000
"""Earlier readings that a reading is compared with: 5.5 hours at 10 s, a week at 5 minutes. Few enough that a new mode
of operation becomes normal soon; enough that the third-lowest and third-highest are a quantile of 1 in 700."""

OpenIncident = dict[str, Any]
"""An incident to be continued on the next day: {"incident": Incident or None, "quiet": readings after its last one}."""


class Tail(msgspec.Struct, frozen=True):
    """The last readings of one parameter that have a number, at most BASELINE_READINGS, and its open incident.

    `times` (seconds since the epoch) and `values` are bytes of float64, `codes` (indices into `statuses`) of uint8.
    """

    times: bytes
    values: bytes
    codes: bytes
    statuses: list[str | None]
    open_incident: OpenIncident | None


class Past(msgspec.Struct, frozen=True):
    """The past of a machine: when its last reading was polled (seconds since the epoch), and a Tail per parameter."""

    last: float
    tails: list[Tail]
