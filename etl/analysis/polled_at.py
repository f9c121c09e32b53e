"""When the lines of a block were polled, parsed by numpy: in a third of the time that a datetime of each takes."""

from datetime import datetime

import numpy as np

from etl.analysis.columns import Floats
from etl.readings.times import LAST_S

_KEY, _DATE, _CLOCK, _END = b',"_polled_at":"', b"2026-11-22T", b"00:00:00.000", b'Z"}\n'
"""How a raw line ends as `raw_line` writes it, unless a position follows."""
_MILLISECONDS = np.array([36e6, 36e5, 0, 6e5, 6e4, 0, 1e4, 1e3, 0, 100, 10, 1])
"""What each character of the time of day counts."""


def polled_times(block: bytes) -> Floats | None:
    """The times of a block of whole lines, in seconds since the epoch; None if one has another form or date.

    They are those of the decoded lines. No text of a machine looks like the end of a line, as its quotes are escaped;
    for a line that cannot be decoded the time means nothing.
    """
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
    size, day = len(_KEY + _DATE + _CLOCK + _END), len(_KEY + _DATE)
    if not len(ends) or ends[0] < size:
        return None
    # A view of the bytes from each place on; only those at the end of a line are copied.
    views = np.ndarray((len(block) - size + 1,), f"V{size}", block, strides=(1,))
    tails = views[ends - size].view(np.uint8).reshape(-1, size)
    date = tails[0, len(_KEY) : day].tobytes()
    begin, end = np.frombuffer(_KEY + date, np.uint8), np.frombuffer(_END, np.uint8)
    if (tails[:, :day] != begin).any() or (tails[:, -len(end) :] != end).any():
        return None
    try:
        midnight = datetime.fromisoformat(date.decode() + "00Z").timestamp()
    except ValueError:  # the first line is damaged
        return None
    milliseconds = (tails[:, day : -len(end)] - float(ord("0"))) @ _MILLISECONDS + 1000 * midnight
    times: Floats = np.minimum(milliseconds / 1000, LAST_S)
    return times
