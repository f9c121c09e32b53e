"""Reduces a day's series to the readings its chart needs, with numpy: a machine sends up to 864,000 readings a day."""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from etl.nightly.column_store import ColumnStore
from etl.pages.charts import Segments
from etl.readings.days import begins, day_after
from etl.readings.records import Settings
from etl.readings.times import SILENT_AFTER_INTERVALS

BUCKETS = 288
"""Time buckets of a day: five minutes each. A chart keeps the lowest and the highest reading of each bucket."""


class ThinnedSeries(Sequence[dict[str, Segments]]):
    """The thinned readings of each machine by parameter; a machine's columns are read when it is accessed."""

    def __init__(self, day: str, settings: Settings, store: ColumnStore) -> None:
        zone = ZoneInfo(settings.timezone)
        self._start, self._end = begins(day, zone), begins(day_after(day), zone)
        self._settings, self._store, self._machines = settings, store, store.machines

    def __len__(self) -> int:
        return len(self._machines)

    def __getitem__(self, place: Any) -> Any:
        columns = self._store.columns(self._machines[place])
        return {
            parameter: thin(columns.times, values, self._start, self._end, self._settings.interval)
            for parameter, values in zip(self._settings.parameters, columns.values, strict=True)
        }


def thin(
    times: NDArray[np.float64], values: NDArray[np.float64], start: float, end: float, interval: float
) -> Segments:
    """The first lowest and highest reading of each bucket and both readings beside each gap, split at the gaps.

    `times`, `start` and `end` are seconds since the epoch; a value is NaN where a reading has none.
    """
    finite = np.isfinite(values)
    times, values = times[finite], values[finite]
    count = len(times)
    if not count:
        return []
    if (np.diff(times) < 0).any():  # the clock was set back
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
    after_gaps = np.flatnonzero(np.diff(times) > SILENT_AFTER_INTERVALS * interval) + 1
    edges = np.searchsorted(times, start + np.arange(1, BUCKETS) * ((end - start) / BUCKETS))
    firsts = np.unique(np.concatenate([[0], after_gaps, edges[edges < count]]))
    buckets = np.repeat(np.arange(len(firsts)), np.diff(firsts, append=count))
    kept = [np.array([0, count - 1]), after_gaps, after_gaps - 1]
    for extreme in (np.minimum, np.maximum):
        equal = np.flatnonzero(values == extreme.reduceat(values, firsts)[buckets])
        kept.append(equal[np.searchsorted(equal, firsts)])  # the first of each bucket
    rows = np.unique(np.concatenate(kept))
    segments = np.split(rows, np.searchsorted(rows, after_gaps))
    return [list(zip(times[part].tolist(), values[part].tolist(), strict=True)) for part in segments]
