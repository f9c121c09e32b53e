"""What notifications say: sources that go down or answer again, the disk, alarms, reports. Plain dicts. Pure."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self
from zoneinfo import ZoneInfo

import msgspec

from etl.live.standing import MAX_PENDING_BYTES, Down
from etl.pages.text import clock, plain
from etl.readings.alarms.conditions import Change, crossed_limit
from etl.readings.alarms.fold import alarm_line
from etl.readings.digits import quantity
from etl.readings.text import duration, plural
from etl.readings.times import rfc3339

MAX_LISTED = 100
"""Sources or alarms that one notification lists; the text names the first few."""
TEXT_SOURCES = 5
TEXT_ALARMS = 3

Message = dict[str, Any]
"""A notification: `event`, `at`, `text` (a sentence for people), and what else belongs to the event."""


class Notified(NamedTuple):
    """What was notified by now, with the time since when: the sources as down, the disk as taking no lines."""

    sources: Mapping[str, float] = {}
    stuck_since: float | None = None


def outages(
    down: Mapping[str, Down],
    long_down: Mapping[str, Down],
    notified: Mapping[str, float],
    names: Collection[str],
    now: float,
) -> tuple[list[Message], dict[str, float]]:
    """The notifications to send now, and the sources that were `notified` as down by then, with the time since when.

    `long_down` are those of the `down` sources that are down long enough to notify somebody. A source that was notified
    and answers again is notified once more, unless it is not among the `names` of the config any more.
    """
    now_notified = {name: state.since for name, state in down.items() if name in notified or name in long_down}
    fell = [(name, down[name].since, down[name].failure.why) for name in now_notified if name not in notified]
    rose = [(name, since, "") for name, since in notified.items() if name not in down and name in names]
    messages = []
    for event, state, sources in (("source_down", "down", fell), ("source_up", "answering again", rose)):
        if sources:
            messages.append(_outage(event, state, sorted(sources), now))
    return messages, now_notified


def _outage(event: str, state: str, sources: list[tuple[str, float, str]], now: float) -> Message:
    name, since, why = sources[0]
    if len(sources) == 1:
        text = f"{name} is {state}" + (f" since {rfc3339(since)}: {why}" if why else f", down since {rfc3339(since)}")
    else:
        names = ", ".join(name for name, _, _ in sources[:TEXT_SOURCES])
        text = f"{len(sources)} sources are {state}: {names}{' ...' if len(sources) > TEXT_SOURCES else ''}"
    shown = sources[:MAX_LISTED]
    listed = [{"source": name, "since": rfc3339(since), "why": why or None} for name, since, why in shown]
    return {"event": event, "at": rfc3339(now), "text": text, "count": len(sources), "sources": listed}


def disk_changes(
    stuck: OSError | None, stuck_since: float | None, folder: object, now: float
) -> tuple[list[Message], float | None]:
    """The notification that the folder takes no lines, or takes them again; and since when it was notified not to."""
    if stuck and stuck_since is None:
        why = stuck.strerror or str(stuck)
        text = f"{folder} takes no lines: {why}. Readings wait in memory, up to {MAX_PENDING_BYTES >> 20} MiB of them."
        return [{"event": "not_writable", "at": rfc3339(now), "text": text, "why": why}], now
    if stuck is None and stuck_since is not None:
        text = f"{folder} takes lines again, after {duration(round(now - stuck_since))}"
        return [{"event": "writable", "at": rfc3339(now), "text": text, "since": rfc3339(stuck_since)}], None
    return [], stuck_since


class AlarmNews(NamedTuple):
    """Alarms that are raised or ended: how many, and of the first ones their lines of the log and their sentences."""

    raised: int
    ended: int
    lines: list[dict[str, Any]]
    sentences: list[str]

    def merge(self, later: Self) -> Self:
        """Both as one."""
        lines, sentences = self.lines + later.lines, self.sentences + later.sentences
        raised, ended = self.raised + later.raised, self.ended + later.ended
        return self._replace(raised=raised, ended=ended, lines=lines[:MAX_LISTED], sentences=sentences[:TEXT_ALARMS])

    def message(self, now: float) -> Message:
        """The notification."""
        count, text = self.raised + self.ended, self.sentences[0]
        if count > 1:
            counts = [f"{plural(self.raised, 'alarm')} raised"] * bool(self.raised)
            counts += [f"{plural(self.ended, 'alarm')} ended"] * bool(self.ended)
            more = " ..." if count > len(self.sentences) else ""
            text = f"{', '.join(counts)}. {'; '.join(self.sentences)}{more}"
        return {"event": "alarm", "at": rfc3339(now), "text": text, "count": count, "alarms": self.lines}


def alarm_news(
    changes: Sequence[Change], shared: Collection[str], zone: ZoneInfo, units: Mapping[str, str]
) -> AlarmNews | None:
    """What is news in these changes; None if their alarms only continue in a new day.

    Machines of a source that is `shared` by several machines are named with their id. `units` are by parameter.
    """
    news = [change for change in changes if not change.continued]
    if not news:
        return None
    raised = sum(1 for change in news if change.state == "raised")
    lines = [msgspec.json.decode(alarm_line(change)) for change in news[:MAX_LISTED]]
    sentences = [_sentence(change, shared, zone, units) for change in news[:TEXT_ALARMS]]
    return AlarmNews(raised, len(news) - raised, lines, sentences)


def _sentence(change: Change, shared: Collection[str], zone: ZoneInfo, units: Mapping[str, str]) -> str:
    """A change in words, such as "hot: press-7 temperature 81.2 °C above 80 °C since 10:00:00"."""
    rule, condition = change.rule, change.condition
    source, machine_id = change.machine
    machine = plain(source) + (f" id {plain(machine_id)}" if source in shared else "")
    if change.reason:
        return f"{rule.name} ended: {machine}, as the config changed"
    value, unit = condition.value, units.get(rule.parameter or "")
    what = f"{plain(rule.parameter)} {quantity(value, unit)}" if rule.status is None else f"status {plain(value)}"
    if change.state == "ended":
        return f"{rule.name} ended: {machine} {what} after {duration(round((change.at - condition.since) / 1000))}"
    limit = "" if condition.limit is None else f" {crossed_limit(change, unit)}"
    day = datetime.fromtimestamp(change.at / 1000, zone).date()
    return f"{rule.name}: {machine} {what}{limit} since {clock(rfc3339(condition.since / 1000), day, zone)}"


def report_message(summary: dict[str, Any], now: float) -> Message:
    """The notification of a written report, from its summary."""
    return {"event": "report", "at": rfc3339(now), **summary}


def trial_message(now: float) -> Message:
    """The notification that `etl check --notify` sends."""
    return {"event": "test", "at": rfc3339(now), "text": "A test of the notifications of machine telemetry"}
