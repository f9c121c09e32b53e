"""The last readings of every machine, kept in one block of memory for whoever looks at them."""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from math import nan
from typing import NamedTuple

from etl.readings.records import Machine
from etl.readings.window import Window

LENGTH = 60
"""Readings kept of each machine."""
RECENT = 1 << 16
"""Readings whose order is remembered: who asks before so many have come gets those that are new to them."""

Row = tuple[float, ...]
"""When a reading was polled (seconds since the epoch), then the value of each parameter, NaN where it had none."""


class News(NamedTuple):
    """Of each machine, the numbers of the readings to show; `whole`: all that are kept, not only the new ones."""

    mark: int
    whole: bool
    numbers: dict[Machine, range]


class Traces:
    """A ring of readings for each machine; 10,000 machines of two parameters take 8 MB. For any thread.

    Marks count the readings. They go on from `now` (seconds since the epoch), so that a mark of an earlier process is
    not known here.
    """

    def __init__(self, parameters: int, now: float) -> None:
        self._width = 1 + parameters
        self._lock = threading.Lock()
        self._forget(int(now) * RECENT)

    def _forget(self, mark: int) -> None:
        self._slots: dict[Machine, int] = {}
        self._rows = array("f")  # a reading is the seconds since the one before, then its values
        self._last = array("d")
        self._counts = array("Q")
        self._recent = array("I")
        self._mark = mark

    def add(self, machine: Machine, window: Window) -> None:
        """Keep the reading that a machine's window has just been stepped by."""
        values = (v[-1] if v and seen == window.at else nan for v, seen in zip(window.values, window.seen, strict=True))
        with self._lock:
            self._add(machine, window.at, values)

    def _add(self, machine: Machine, at: float, values: Iterator[float]) -> None:
        slot = self._slots.get(machine)
        if slot is None:
            slot = self._slots[machine] = len(self._slots)
            self._rows.frombytes(bytes(4 * LENGTH * self._width))
            self._last.append(at)
            self._counts.append(0)
        place = (slot * LENGTH + self._counts[slot] % LENGTH) * self._width
        self._rows[place : place + self._width] = array("f", (at - self._last[slot], *values))
        self._last[slot] = at
        self._counts[slot] += 1
        if len(self._recent) < RECENT:
            self._recent.append(slot)
        else:
            self._recent[self._mark % RECENT] = slot
        self._mark += 1

    def of(self, machine: Machine, numbers: range | None = None) -> list[Row]:
        """The readings of a machine that are kept, or those of these numbers, oldest first; none of an unknown one."""
        with self._lock:
            slot = self._slots.get(machine)
            return [] if slot is None else self._take(slot, numbers or self._kept(slot))

    def since(self, mark: int) -> News:
        """What was added after `mark`, or everything where that mark is not known (any more)."""
        with self._lock:
            if mark <= self._mark <= mark + RECENT:
                machines = list(self._slots)
                new = Counter(self._recent[n % RECENT] for n in range(mark, self._mark))
                numbers = {machines[slot]: self._kept(slot)[-count:] for slot, count in new.items()}
                return News(self._mark, False, numbers)
            return News(self._mark, True, {machine: self._kept(slot) for machine, slot in self._slots.items()})

    def keep(self, sources: Collection[str]) -> None:
        """Forget the machines of other sources."""
        with self._lock:
            kept = [(machine, self._take(slot, self._kept(slot))) for machine, slot in self._slots.items()
                    if machine[0] in sources]  # fmt: skip
            self._forget((self._mark // RECENT + 2) * RECENT)
            for machine, rows in kept:
                for at, *values in rows:
                    self._add(machine, at, iter(values))

    def _kept(self, slot: int) -> range:
        return range(max(0, self._counts[slot] - LENGTH), self._counts[slot])

    def _take(self, slot: int, numbers: range) -> list[Row]:
        rows: list[Row] = []
        at, step = self._last[slot], 0.0
        for n in reversed(self._kept(slot)):
            at -= step
            place = (slot * LENGTH + n % LENGTH) * self._width
            step, *values = self._rows[place : place + self._width]
            if n in numbers:
                rows.append((at, *values))
        return rows[::-1]
