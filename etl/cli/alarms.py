"""etl alarms: what the alarms of the config would have raised on the recorded averages."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from etl.audit.backtest import backtest
from etl.cli.command import config_option, execute, output_root, progress
from etl.cli.exits import IO_ERROR, OK, PROBLEM, USAGE, ExitError
from etl.config.load import Loaded
from etl.readings.alarms.conditions import Change
from etl.readings.alarms.fold import alarm_line
from etl.readings.digits import quantity
from etl.readings.records import AlarmRule
from etl.readings.text import duration, plural, printable
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog

NAMED_MACHINES = 3
"""Machines that the table names for each alarm: those on which it was raised most often."""

day_type = click.DateTime(["%Y-%m-%d"])


@click.command("alarms")
@config_option
@click.option("--from", "first", metavar="DAY", type=day_type, help="The first day, YYYY-MM-DD; by default the oldest.")
@click.option("--to", "last", metavar="DAY", type=day_type, help="The last day, YYYY-MM-DD; by default the newest.")
def command(file: Path, first: object, last: object) -> None:
    """Show what the alarms of the config would have raised on the recorded days; changes nothing.

    Reads the averages, works beside a running `etl run`. Each change of an alarm is a line on stdout as in the alarms
    log; a table on stderr sums them up. So a limit is tried before it goes live.
    """
    days = str(first or "0001-01-01")[:10], str(last or "9999-12-31")[:10]
    execute(file, lambda loaded: alarms(loaded, *days))


def alarms(loaded: Loaded, first: str, last: str) -> int:
    """Apply the alarms to these days, print each change and the table; the exit code."""
    rules = loaded.settings.alarms
    if not rules:
        raise ExitError(f"{loaded.file} has no alarms. Write some below alarms:, see etl/config/README.md.", USAGE)
    folder = Folder(output_root(loaded))
    days = [day for day in folder.days("averages") if first <= day <= last]
    if not days:
        raise ExitError(f"{folder.root} has no averages of these days.", PROBLEM)
    tally = Tally()
    try:
        with progress("alarms", folder.stored_bytes("averages", days)) as advance:
            for change in tally.counted(backtest(SettingsLog(folder, loaded.settings), rules, days, advance)):
                sys.stdout.buffer.write(alarm_line(change))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExitError(f"{error.filename or folder.root} cannot be read: {error.strerror}.", IO_ERROR) from None
    for line in tally.table(rules, loaded.config.units):
        click.echo(line, err=True)
    return OK


class Tally:
    """Counts how often each alarm was raised, for how long in total, and on which machines."""

    def __init__(self) -> None:
        self._raised: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._machines: dict[str, Counter[str]] = {}
        self._open: Counter[str] = Counter()

    def counted(self, changes: Iterable[Change]) -> Iterator[Change]:
        """The changes, each counted as it passes."""
        for change in changes:
            name = change.rule.name
            if change.state == "ended":
                self._open[name] -= 1
                self._seconds[name] += (change.at - change.condition.since) / 1000
            elif not change.continued:
                source, machine_id = change.machine
                machine = source if machine_id is None else f"{source} {machine_id}"
                self._open[name] += 1
                self._raised[name] += 1
                self._machines.setdefault(name, Counter())[machine] += 1
            yield change

    def table(self, rules: Iterable[AlarmRule], units: Mapping[str, str]) -> Iterator[str]:
        """A line for each alarm, in the order of the config; `units` are by parameter."""
        for rule in rules:
            name = rule.name
            machines = self._machines.get(name, Counter())
            line = f"{printable(f'{name} ({_condition(rule, units)})')}: raised {plural(self._raised[name], 'time')}"
            if machines:
                listed = ", ".join(
                    f"{printable(each)} ({number})" for each, number in machines.most_common(NAMED_MACHINES)
                )
                seconds = duration(round(self._seconds[name], 3))
                line += f" on {plural(len(machines), 'machine')}, {seconds} in total; most: {listed}"
            if self._open[name]:
                line += f"; {self._open[name]:,} still raised at the end"
            yield line


def _condition(rule: AlarmRule, units: Mapping[str, str]) -> str:
    """When an alarm is raised, in words: "temperature above 80 °C for 10 minutes"."""
    held = f" for {duration(rule.hold_ms / 1000)}" if rule.hold_ms else ""
    if rule.parameter is None:
        return f"status {rule.status}{held}"
    unit = units.get(rule.parameter)
    limits = (("above", rule.above), ("below", rule.below))
    crossed = " or ".join(f"{side} {quantity(limit, unit)}" for side, limit in limits if limit is not None)
    return f"{rule.parameter} {crossed}{held}"
