"""etl check: the config validated and summarized, and, if asked for, its receivers of notifications tried."""

import json
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import click

from etl.cli.command import config_option, finish, output_root
from etl.cli.exits import BAD_CONFIG, OK, PROBLEM, ExitError
from etl.config.document import ConfigError
from etl.config.load import load_checked
from etl.config.model import Notify
from etl.config.problems import Problem
from etl.config.receivers import receivers
from etl.config.schema import schema
from etl.config.sources.http import HttpSource
from etl.config.warnings import warnings
from etl.live.notifications.messages import trial_message
from etl.live.notifications.notifier import TIMEOUT_S, receiver_name
from etl.live.notifications.receivers import address_problem, deliver
from etl.readings.days import begins, next_change, next_reports
from etl.readings.text import plural

CURL_FROM_SOURCES = 300
"""Sources over HTTP from which on transport: curl is worth its extra package."""
LISTED_REPORTS = 3
"""Due times listed from today on, and around the next change of the clocks."""


@click.command("check")
@config_option
@click.option("--insecure", is_flag=True, help="Accept what `etl run --insecure` accepts.")
@click.option("--notify", "notifies", is_flag=True, help="Also send a test message to each of notify.urls.")
@click.option("--schema", "as_schema", is_flag=True, help="Print the JSON Schema of the config; no config is read.")
def command(file: Path, insecure: bool, notifies: bool, as_schema: bool) -> None:
    """Validate the config and summarize it; uses no network, except with --notify.

    Problems go to stderr as file:line:column, problem and hint; the exit code is then 78. So do warnings of what is
    surely a mistake, with exit code 0.
    """
    if as_schema:
        click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
    else:
        finish(lambda: check(file, insecure, notifies))


def check(file: Path, insecure: bool, notifies: bool = False) -> int:
    """Print the warnings and the summary of a valid config; the exit code."""
    loaded, checker = load_checked(file)
    if loaded.config.api.serve and not insecure:
        from etl.cli.serving import exposure  # noqa: PLC0415  Flask is loaded only for a config that serves

        if exposed := exposure(loaded.config.api, lookup=False):
            raise ConfigError(checker.lines([Problem(("api", "host"), "host", *exposed)]))
    if unusable := list(receiver_problems(loaded.config.notify)):
        raise ConfigError(checker.lines(unusable))
    for line in checker.lines(problem._replace(message=f"warning: {problem.message}") for problem in warnings(loaded)):
        click.echo(line, err=True)
    config, zone, root = loaded.config, loaded.zone, output_root(loaded)
    click.echo(f"{plural(len(loaded.sources), 'source')}, polled every {config.interval:g} s, written to {root}")
    over_http = sum(isinstance(source, HttpSource) for source in loaded.sources)
    if over_http >= CURL_FROM_SOURCES and config.transport == "requests":
        advice = "transport: curl polls them with far less CPU; it needs the extra fleet"
        click.echo(f"{plural(over_http, 'source')} over HTTP: {advice}")
    click.echo(f"averages over {plural(config.window, 'reading')} of {', '.join(config.parameters)}")
    if config.alarms:
        click.echo(f"{plural(len(config.alarms), 'alarm')}: {', '.join(alarm.name for alarm in config.alarms)}")
    click.echo(f"API {config.api.address if config.api.serve else 'not served'}")
    click.echo(f"next reports ({loaded.settings.timezone}):")
    now = time.time()
    reports = next_reports(now, config.report.at, zone, LISTED_REPORTS)
    change = next_change(now, zone)
    if change:
        reports += next_reports(begins(change.isoformat(), zone) - 86_400, config.report.at, zone, LISTED_REPORTS)
    for day, due in dict.fromkeys(reports):
        click.echo(f"  {day}: {due:%Y-%m-%d %H:%M %z} ({due.astimezone(UTC):%Y-%m-%dT%H:%MZ})")
    if change:
        click.echo(f"the clocks change on {change}")
    return try_receivers(config.notify) if notifies else OK


def receiver_problems(notify: Notify) -> Iterator[Problem]:
    """The addresses that Apprise cannot use; it is imported only for others than http and https."""
    for path, label, address in receivers(notify):
        if problem := address_problem(address):
            yield Problem(path, "urls", f"{label} cannot be used: {problem[0]}", problem[1])


def refuse_receivers(notify: Notify) -> None:
    """Raise ExitError if nobody can be notified at one of the addresses."""
    for problem in receiver_problems(notify):
        raise ExitError(f"notify: {problem.message}: {problem.hint}.", BAD_CONFIG)


def try_receivers(notify: Notify) -> int:
    """Send a message to each receiver and print what each answered; the exit code."""
    if not notify.addresses:
        raise ExitError("Nobody is notified: the config has no notify.urls.", PROBLEM)
    message, failed = trial_message(time.time()), False
    for address in notify.addresses:
        failure = deliver(address, message, TIMEOUT_S)
        click.echo(f"{receiver_name(notify.addresses, address)}: {failure.why if failure else 'accepted'}")
        failed = failed or failure is not None
    return PROBLEM if failed else OK
