"""What the alarms of a config would have raised on the recorded averages."""

from collections.abc import Iterator
from contextlib import suppress

import msgspec

from etl.readings.alarms.conditions import Change
from etl.readings.alarms.fold import AlarmFold, sample_decoder
from etl.readings.records import AlarmRule, RejectedError
from etl.storage.folder import Progress
from etl.storage.settings_log import SettingsLog


def backtest(
    settings_log: SettingsLog, rules: tuple[AlarmRule, ...], days: list[str], progress: Progress
) -> Iterator[Change]:
    """The changes of these rules on the averages of these days, in order; nothing is raised before the first one.

    `progress` is called with the bytes of averages read since its last call.
    """
    fold: AlarmFold | None = None
    for day in days:
        lines = settings_log.folder.lines("averages", day)
        for first, end, governing in settings_log.segments(day):
            settings = msgspec.structs.replace(governing, alarms=rules)
            fold = fold or AlarmFold(settings, day)
            decode = sample_decoder(settings.parameters)
            number = first
            while number < end:
                line = next(lines, None)
                if line is None:
                    break
                number += 1
                progress(len(line[1]))
                with suppress(RejectedError):
                    yield from fold.add(day, settings, decode(line[1]))
