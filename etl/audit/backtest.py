"""What the alarms of a config would have raised on the recorded averages."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from math import inf

import msgspec

from etl.readings.alarms.conditions import Change
from etl.readings.alarms.fold import AlarmFold, sample_decoder
from etl.readings.records import AlarmRule, RejectedError
from etl.storage.folder import Progress
from etl.storage.settings_log import SettingsLog

LINES_PER_REPORT = 10_000
"""Lines after which the progress is reported: with each line it would take longer than the line."""


def backtest(
    settings_log: SettingsLog, rules: tuple[AlarmRule, ...], days: list[str], progress: Progress
) -> Iterator[Change]:
    """The changes of these rules on the averages of these days, in order; nothing is raised before the first one.

    `progress` is called with the bytes of averages, as stored, that were read since its last call.
    """
    folder = settings_log.folder
    fold: AlarmFold | None = None
    for day in days:
        stored, reported = folder.stored_bytes("averages", [day]), 0
        is_plain = folder.path("averages", day).exists()
        lines = folder.lines("averages", day)
        for first, end, governing in settings_log.segments(day):
            settings = msgspec.structs.replace(governing, alarms=rules)
            fold = fold or AlarmFold(settings, day)
            decode = sample_decoder(settings.parameters)
            for number, (offset, line) in enumerate(islice(lines, _length(first, end)), start=first):
                if is_plain and number % LINES_PER_REPORT == 0:
                    progress(offset - reported)
                    reported = offset
                with suppress(RejectedError):
                    yield from fold.add(day, settings, decode(line))
        progress(stored - reported)


def _length(first: int, end: float) -> int | None:
    return None if end == inf else int(end) - first
