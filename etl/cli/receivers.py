"""The receivers of notifications: what is wrong with their addresses, and a message to try them."""

import time
from collections.abc import Iterator

import click

from etl.cli.exits import BAD_CONFIG, FOUND, OK, ExitError
from etl.config.model import Notify
from etl.config.problems import Problem
from etl.config.receivers import receivers
from etl.live.notifications.messages import trial_message
from etl.live.notifications.notifier import TIMEOUT_S, receiver_name
from etl.live.notifications.receivers import address_problem, deliver


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
        raise ExitError("Nobody is notified: the config has no notify.urls.", FOUND)
    message, failed = trial_message(time.time()), False
    for address in notify.addresses:
        failure = deliver(address, message, TIMEOUT_S)
        click.echo(f"{receiver_name(notify.addresses, address)}: {failure.why if failure else 'accepted'}")
        failed = failed or failure is not None
    return FOUND if failed else OK
