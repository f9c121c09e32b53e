"""The API of a process: simulated machines, console, reports, metrics. Only this module imports `api`."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader, BytesIO
from ipaddress import ip_network
from socket import AI_NUMERICHOST, getaddrinfo
from typing import Any

import msgspec

from api.app import create_app
from api.console import Body, Views
from api.guard import Guard
from api.machines import Machines
from api.server import is_about_port, is_loopback, serve
from etl.audit.export.machine import machine_day_csv
from etl.cli.exits import BAD_CONFIG, IO_ERROR, ExitError
from etl.config.model import Api
from etl.live.children.content import Content
from etl.live.children.pages import Pages, RefusedError
from etl.live.metrics import exposition
from etl.live.pipeline import Pipeline
from etl.live.sinks.console import Console, Traces, simulated
from etl.pages.console import machine_charts, shared_script, shared_styles
from etl.pages.links import with_links
from etl.readings.alarms.fold import alarm_line
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog

RESTORE_PATIENCE_S = 10.0
"""A request waits this long for the last lines of an earlier process, which are read within tenths of a second."""
EXPORT_PAUSE_S = 0.001
"""After each 128 KiB that are searched for the lines of a machine, so that polls have the interpreter for themselves
most of the time: a day of 864,000 lines takes two seconds instead of an eighth."""


def refuse_exposed(api: Api) -> None:
    """Raise ExitError if another host could write to the API without a token, or the address is not valid."""
    try:
        problem = exposure(api)
    except OSError as error:
        raise _cannot_listen(api, error) from None
    if problem:
        raise ExitError(f"{': '.join(problem)}.", BAD_CONFIG)


def exposure(api: Api, *, lookup: bool = True) -> tuple[str, str] | None:
    """What lets other hosts write to the API without a token, and what to do; None if nothing does.

    Without `lookup` a name, which the network may have to resolve, passes. OSError if it cannot be resolved.
    """
    if api.token or not (lookup or _is_numeric(api.host)) or is_loopback(api.host):
        return None
    return f"Other hosts can reach api.host {api.host}", "set api.token, which writes then need, or use --insecure"


def _is_numeric(host: str) -> bool:
    try:
        return bool(getaddrinfo(host, None, flags=AI_NUMERICHOST))
    except OSError:
        return False


def serve_pipeline(pipeline: Pipeline, traces: Traces, stopping: Callable[[], bool] = lambda: False) -> None:
    """Serve the simulated machines and the state of the pipeline from daemon threads; ExitError if it cannot listen."""
    config, folder = pipeline.loaded.config.api, pipeline.folder

    def restored() -> Pipeline:
        pipeline.restored.wait(RESTORE_PATIENCE_S)
        return pipeline

    def console() -> Console:
        return Console(restored().loaded, pipeline.standing, traces, pipeline.alarms)  # a reload replaces `loaded`

    pages = Pages(pipeline, stopping, time.monotonic)
    views = Views(
        averages=lambda: list(restored().standing.latest.values()),
        alarms=lambda: [alarm_line(change) for change in restored().alarms.raised()],
        events=lambda: list(pipeline.events.latest),
        reports=folder.reports,
        report=lambda day: _report(folder, day),
        not_ready=pipeline.not_ready,
        metrics=lambda: exposition(pipeline),
        report_page=lambda day: _report_page(folder, day),
        day_so_far=lambda html: _body(pages.day_so_far, int(html)),
        machine_day=lambda *arguments: _body(lambda: pages.machine_day(*arguments)),
        machine_hours=lambda source, *arguments: _hours(pipeline, pages, source, *arguments),
        summaries=lambda: _body(pages.summaries),
        overview=lambda mark: console().overview(time.time(), mark, pipeline.not_ready()),
        machine=lambda source, machine_id: _machine(console(), source, machine_id),
        export=lambda day, source, machine_id: machine_day_csv(
            SettingsLog(folder, restored().loaded.settings),
            day,
            (source, machine_id),
            lambda: time.sleep(EXPORT_PAUSE_S),
        ),
        styles=shared_styles(),
        script=shared_script(),
    )
    try:
        proxy = ip_network(config.proxy) if config.proxy else None
        guard = Guard(config.token, config.host, not is_loopback(config.host), config.names, proxy)
        serve(create_app(Machines(config.machines), views, guard=guard), config.host, config.port)
    except OSError as error:
        raise _cannot_listen(config, error) from None


def serve_simulated(api: Api) -> None:
    """Serve the simulated machines alone to this host, if the config says so and nobody listens on their address."""
    with suppress(OSError):
        if api.serve and is_loopback(api.host):
            serve(create_app(Machines(api.machines), guard=Guard("", api.host)), api.host, api.port)


def _machine(console: Console, source: str, machine_id: Any) -> dict[str, Any] | None:
    readings = console.machine(source, machine_id)
    return readings and {"simulated": readings["simulated"], "charts": machine_charts(readings)}


def _report(folder: Folder, day: str) -> Body | None:
    file = folder.open_report(day)
    return Body(file, os.fstat(file.fileno()).st_size) if file else None


def _report_page(folder: Folder, day: str) -> bytes | None:
    """The page of a stored report, with links to the reports before and after it."""
    page, days = folder.read(folder.page_path(day)), folder.reports()
    previous = max((each for each in days if each < day), default=None)
    return page and with_links(page, previous, min((each for each in days if each > day), default="today"))


def _body(make: Callable[[], Content], part: int = 0) -> Body:
    """A part of what is made on demand, as the API takes it."""
    try:
        file = make().part(part)
    except RefusedError as error:
        return Body(status=error.status, error=str(error), retry_s=error.retry_s)
    return Body(BufferedReader(file), len(file))


def _hours(pipeline: Pipeline, pages: Pages, source: str, machine_id: str, hours: int) -> Body:
    """The charts of a machine's last hours, and its number if this process simulates it."""
    body = _body(lambda: pages.machine_hours(source, machine_id, hours))
    if body.file is None:
        return body
    with body.file as file:
        charts = file.read()
    content = b'{"simulated":%b,"charts":%b}' % (msgspec.json.encode(simulated(pipeline.loaded, source)), charts)
    return Body(BytesIO(content), len(content))


def _cannot_listen(api: Api, error: OSError) -> ExitError:
    key = "api.port" if is_about_port(error) else "api.host"
    message = f"Cannot listen on {api.host}:{api.port}: {error.strerror}. Set another {key}, or api.serve: false."
    return ExitError(message, IO_ERROR)
