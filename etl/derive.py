"""Averages lines follow from raw lines: the one fold that live polling, the start, replay and verify share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from etl.averages import Window, means, silence, step
from etl.records import Machine, Reading, Settings
from etl.wire import RejectedError, averages_line, raw_decoder

Windows = dict[Machine, Window]


class Rules(NamedTuple):
    """What the fold needs of the settings, worked out once."""

    decode: Callable[[bytes], Reading]
    names: tuple[str, ...]
    size: int
    silence: float


def rules(settings: Settings) -> Rules:
    """Prepare the fold for these settings."""
    names = tuple(f"average_{parameter}" for parameter in settings.parameters)
    decode = raw_decoder(tuple(settings.parameters.values()))
    return Rules(decode, names, settings.window, silence(settings.interval))


def derive(windows: Windows, lines: Iterable[bytes], by: Rules) -> Iterator[tuple[Machine, bytes]]:
    """Give the averages line of each raw line, in order; `windows` is stepped in place.

    A damaged raw line gives none.
    """
    for line in lines:
        try:
            reading = by.decode(line)
        except RejectedError:
            continue
        window = step(windows.get(reading.machine), reading.polled_at, reading.values, by.size, by.silence)
        windows[reading.machine] = window
        yield reading.machine, averages_line(reading.machine, reading, by.names, means(window), window.readings)
