"""The fold from raw lines to averages lines. Live polling, start, replay, rebuild and verify share it. Pure."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from etl.readings.averages.window import Window, means, silence_s, step
from etl.readings.lines import averages_encoder, raw_decoder
from etl.readings.records import Machine, Reading, RejectedError, Settings

Windows = dict[Machine, Window]
"""The state of the fold."""


class Fold(NamedTuple):
    """What the fold needs of the settings, prepared once."""

    decode: Callable[[bytes], Reading]
    encode: Callable[[Reading, Sequence[float | None], int], bytes]
    size: int
    silence: float


class Update(msgspec.Struct, frozen=True, gc=False):
    """What the fold makes of a raw line: the machine, its averages line and its window after this reading.

    `means` has the average of each parameter; `values` has its value as it was sent, None where its field is missing.
    """

    machine: Machine
    averages: bytes
    window: Window
    values: Sequence[Any]
    line: bytes
    means: Sequence[float | None]
    status: Any


def fold_of(settings: Settings) -> Fold:
    """Prepare the fold for these settings."""
    decode = raw_decoder(tuple(settings.parameters.values()))
    return Fold(decode, averages_encoder(settings.parameters), settings.window, silence_s(settings.interval))


def forget(windows: Windows, before: float) -> None:
    """Remove the windows of the machines without a reading since `before` (seconds)."""
    for machine in [machine for machine, window in windows.items() if window.at < before]:
        del windows[machine]


def derive(windows: Windows, lines: Iterable[bytes], fold: Fold) -> Iterator[Update]:
    """Yield an update for each undamaged raw line, in order; updates `windows` in place."""
    for line in lines:
        try:
            reading = fold.decode(line)
        except RejectedError:
            continue
        window = step(windows.get(reading.machine), reading.polled_at, reading.values, fold.size, fold.silence)
        windows[reading.machine] = window
        values = means(window)
        averages = fold.encode(reading, values, window.readings)
        yield Update(reading.machine, averages, window, reading.values, line, values, reading.status)
