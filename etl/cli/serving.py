"""The API of a running process: simulated machines, console, reports, metrics. Only this module imports `api`."""

import time
from ipaddress import ip_network
from typing import Any

from api.app import create_app
from api.console import Views
from api.guard import Guard
from api.machines import Machines
from api.server import is_loopback, serve
from etl.cli.exits import BAD_CONFIG, IO_ERROR, ExitError
from etl.config.model import Api
from etl.live.console import Console, Traces
from etl.live.metrics import exposition
from etl.live.pipeline import Pipeline
from etl.pages.console import machine_charts, shared_styles


def refuse_exposed(api: Api) -> None:
    """Raise ExitError if another host could write to the API without a token, or the address is not valid."""
    try:
        exposed = not api.token and not is_loopback(api.host)
    except OSError as error:
        raise _cannot_listen(api, error) from None
    if exposed:
        raise ExitError(
            f"Other hosts can reach api.host {api.host}: set api.token, which writes then need, or use --insecure.",
            BAD_CONFIG,
        )


def serve_pipeline(pipeline: Pipeline, traces: Traces) -> None:
    """Serve the simulated machines and the state of the pipeline from daemon threads; ExitError if it cannot listen."""
    config, folder = pipeline.loaded.config.api, pipeline.folder

    def console() -> Console:
        return Console(pipeline.loaded, pipeline.standing, traces)  # a reload replaces `loaded`

    views = Views(
        averages=lambda: list(pipeline.standing.latest.values()),
        events=lambda: list(pipeline.events.latest),
        reports=folder.reports,
        report=lambda day: folder.read(folder.report_path(day)),
        not_ready=pipeline.not_ready,
        metrics=lambda: exposition(pipeline),
        report_page=lambda day: folder.read(folder.page_path(day)),
        overview=lambda mark: console().overview(time.time(), mark, pipeline.not_ready()),
        machine=lambda source, machine_id: _machine(console(), source, machine_id),
        styles=shared_styles(),
    )
    try:
        proxy = ip_network(config.proxy) if config.proxy else None
        guard = Guard(config.token, config.host, not is_loopback(config.host), config.names, proxy)
        serve(create_app(Machines(config.machines), views, guard=guard), config.host, config.port)
    except OSError as error:
        raise _cannot_listen(config, error) from None


def _machine(console: Console, source: str, machine_id: Any) -> dict[str, Any] | None:
    readings = console.machine(source, machine_id)
    return readings and {"simulated": readings["simulated"], "charts": machine_charts(readings)}


def _cannot_listen(api: Api, error: OSError) -> ExitError:
    return ExitError(
        f"Cannot listen on {api.host}:{api.port}: {error.strerror}. Set another api.port, or api.serve: false.",
        IO_ERROR,
    )
