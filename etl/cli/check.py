"""etl check: the config validated and summarized, without network."""

import json
import time
from datetime import UTC
from ipaddress import ip_address
from pathlib import Path

import click

from etl.cli.command import config_option, execute, output_root
from etl.cli.exits import OK
from etl.config.load import Loaded
from etl.config.schema import schema
from etl.readings.days import begins, next_change, next_reports
from etl.readings.text import plural

CURL_FROM_SOURCES = 300
"""Sources over HTTP from which on transport: curl is worth its extra package."""
LISTED_REPORTS = 3
"""Due times listed from today on, and around the next change of the clocks."""


@click.command("check")
@config_option
@click.option("--schema", "as_schema", is_flag=True, help="Print the JSON Schema of the config; no config is read.")
def command(file: Path, as_schema: bool) -> None:
    """Validate the config and summarize it; uses no network.

    Problems go to stderr as file:line:column, problem and hint; the exit code is then 78.
    """
    if as_schema:
        click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
    else:
        execute(file, check)


def check(loaded: Loaded) -> int:
    """Print the summary of a valid config; the exit code."""
    config, zone, root = loaded.config, loaded.zone, output_root(loaded)
    click.echo(f"{plural(len(loaded.sources), 'source')}, polled every {config.interval:g} s, written to {root}")
    over_http = sum(1 for source in loaded.sources if source.url)
    if over_http >= CURL_FROM_SOURCES and config.transport == "requests":
        advice = "transport: curl polls them with far less CPU; it needs the extra fleet"
        click.echo(f"{plural(over_http, 'source')} over HTTP: {advice}")
    click.echo(f"averages over {plural(config.window, 'reading')} of {', '.join(config.parameters)}")
    click.echo(f"API {_api(loaded)}")
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
    return OK


def _api(loaded: Loaded) -> str:
    api = loaded.config.api
    if not api.serve:
        return "not served"
    if not api.token and _is_exposed(api.host):
        return f"{api.address}: other hosts can reach it, so `etl run` requires api.token or --insecure"
    return api.address


def _is_exposed(host: str) -> bool:
    """Whether other hosts can reach an address; a name is not looked up, as that needs the network."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return False
