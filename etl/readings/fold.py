"""Averages lines follow from raw lines: the one fold that live polling, the start, replay and verify share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from etl.readings.records import Machine, Reading, Settings
from etl.readings.window import Window, means, silence, step
from etl.readings.wire import RejectedError, averages_encoder, raw_decoder

Windows = dict[Machine, Window]


class Rules(NamedTuple):
    """What the fold needs of the settings, worked out once."""

    decode: Callable[[bytes], Reading]
    encode: Callable[[Reading, Sequence[float | None], int], bytes]
    size: int
    silence: float


def rules(settings: Settings) -> Rules:
    """Prepare the fold for these settings."""
    decode = raw_decoder(tuple(settings.parameters.values()))
    return Rules(decode, averages_encoder(settings.parameters), settings.window, silence(settings.interval))


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
        yield reading.machine, by.encode(reading, means(window), window.readings)
