"""etl run: the long-lived process, its parts started and stopped in order."""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from etl.cli.command import config_option, execute, log_format_option
from etl.cli.exits import IO_ERROR, OK
from etl.cli.logs import Format
from etl.cli.output import locked, output_root
from etl.cli.report_page import report_page
from etl.config.document import ConfigError
from etl.config.load import Loaded, load
from etl.live.notify import PATIENCE, Notifier, outages, reported
from etl.live.pipeline import LAST_CALL, NeedsRestartError, Pipeline
from etl.live.schedule import Schedule
from etl.live.signals import Signals
from etl.live.stdout import Stdout
from etl.live.systemd import Service
from etl.nightly.child import StoppedError, in_child
from etl.nightly.night import in_a_child
from etl.readings.clock import Jump, Times, jump
from etl.readings.times import rfc3339
from etl.storage.latest import ended_cleanly, last_reading_at

WATCH = 10.0
"""Seconds between two looks at the clock, at most."""

log = logging.getLogger("etl")


@click.command("run")
@config_option
@log_format_option
@click.option("--insecure", is_flag=True, help="Let every host that reaches api.host write to the API without a token.")
def command(file: Path, log_format: Format, insecure: bool) -> None:
    """Poll, average, write and report until SIGTERM or Ctrl-C.

    Readings and averages go to the output folder and, as JSON lines, to stdout; the log goes to stderr.
    """
    execute(file, lambda loaded: run(loaded, insecure), log_format)


def run(loaded: Loaded, insecure: bool = False) -> int:
    """Poll, average, write, report and serve until SIGTERM or SIGINT; the exit code.

    `insecure` lets everybody write to the API who reaches it.
    """
    if loaded.config.api.serve:
        from etl.cli.serving import refuse_exposed, serve_pipeline  # noqa: PLC0415  Flask is loaded only to serve

        if not insecure:
            refuse_exposed(loaded.config.api)
    signals = Signals()
    with locked(output_root(loaded)) as hold:
        _raise_descriptor_limit()
        stdout = Stdout()
        pipeline = Pipeline(loaded, time.time, stdout, make_report=in_a_child(report_page, signals.stopping))
        if loaded.config.api.serve:
            serve_pipeline(pipeline)
        _tell_start(pipeline)
        writer = threading.Thread(target=_write, args=(pipeline, signals), name="writer", daemon=True)
        writer.start()

        notifier = Notifier(pipeline.events.record)
        notifier.use(loaded.config.notify.url)
        schedule = Schedule(
            loaded.config.interval, pipeline.tick.start, lambda: _nightly(pipeline, signals, notifier), time.time
        )
        schedule.set_sources(pipeline.names)
        schedule.start()
        log.info(
            "Reading %d sources every %g s into %s", len(pipeline.names), loaded.config.interval, pipeline.folder.root
        )
        service = Service()
        service.ready(loaded.config.interval)
        _attend(pipeline, schedule, signals, service, notifier, hold=hold)
        service.stopping()
        schedule.stop()
        return _finish(pipeline, writer, stdout, signals)


def _times() -> Times:
    return Times(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))


def _attend(
    pipeline: Pipeline,
    schedule: Schedule,
    signals: Signals,
    service: Service,
    notifier: Notifier,
    times: Callable[[], Times] = _times,
    hold: Callable[[], None] = lambda: None,
) -> None:
    """Watch the clock, hold the folder, feed the watchdog and act on signals until the process is asked to stop."""
    period = min(WATCH, pipeline.loaded.config.interval)
    before = times()
    told: dict[str, float] = {}
    while not signals.stopping():
        signals.wait(max(0.0, before.monotonic + period - times().monotonic))
        if signals.take_reload():
            service.reloading()
            _reload(pipeline, schedule)
            service.reloaded()
            notifier.use(pipeline.loaded.config.notify.url)
        service.feed(pipeline.tick.finished)
        now = times()
        if now.monotonic - before.monotonic >= period:
            if jumped := jump(before, now, period):
                _tell_jump(pipeline, jumped, before)
                if jumped.reason == "set back":
                    schedule.resume()
            hold()
            told = _notify(pipeline, notifier, told, now.wall)
            before = now


def _tell_jump(pipeline: Pipeline, jumped: Jump, before: Times) -> None:
    log.warning("The clock was %s by %.1f s", jumped.reason, jumped.seconds)
    seconds = round(jumped.seconds, 3)
    if jumped.reason in ("set back", "set forward"):
        pipeline.events.record("clock_step", reason=jumped.reason, seconds=seconds)
    if jumped.reason != "set back":
        pipeline.events.record("gap", reason=jumped.reason, seconds=seconds, since=rfc3339(before.wall))
    pipeline.tick.wake()


def _notify(pipeline: Pipeline, notifier: Notifier, told: dict[str, float], now: float) -> dict[str, float]:
    """Notify of the sources that stay down or are back; those that were now `told` to be down, and since when."""
    if pipeline.loaded.config.notify.url is None:
        return {}
    patience = PATIENCE * pipeline.loaded.config.interval
    messages, told = outages(pipeline.tick.down.copy(), told, set(pipeline.names), now, patience)
    for message in messages:
        notifier.send(message)
    return told


def _reload(pipeline: Pipeline, schedule: Schedule) -> None:
    """Take over the config as it stands now, all of it or nothing."""
    try:
        pipeline.reload(load(pipeline.loaded.file))
    except (ConfigError, NeedsRestartError, OSError) as error:
        log.error("The config is not taken over, the old one stays: %s", error)
        return
    schedule.set_sources(pipeline.names)
    log.info("The config was taken over: %d sources", len(pipeline.names))


def _finish(pipeline: Pipeline, writer: threading.Thread, stdout: Stdout, signals: Signals) -> int:
    """Let what is in flight come in, write it, and leave."""
    pipeline.tick.wait(LAST_CALL)
    pipeline.close()
    pipeline.events.record("stop", reason=signals.reason)
    pipeline.tick.end()
    writer.join(2)
    stdout.close(0.5)
    if stdout.left_out:
        log.warning("%d lines were not taken from stdout; the files have them", stdout.left_out)
    if pipeline.tick.unwritten or writer.is_alive():
        log.error("%d readings could not be written to %s", pipeline.tick.unwritten, pipeline.folder.root)
        return IO_ERROR
    return IO_ERROR if signals.failed else OK


def _write(pipeline: Pipeline, signals: Signals) -> None:
    try:
        pipeline.tick.run()
    except Exception:
        log.critical("The writer failed; the process ends so that it can be started anew", exc_info=True)
        signals.stop("failed", failed=True)


def _nightly(pipeline: Pipeline, signals: Signals, notifier: Notifier) -> None:
    try:
        for path in pipeline.close_due_days(signals.stopping):
            if pipeline.loaded.config.notify.url:
                # A report may be as big as a day's log: the child reads it, as it made it.
                notifier.send(in_child(reported, path, time.time(), stopping=signals.stopping))
    except StoppedError:
        log.info("The report is left for the next start")
    except OSError as error:
        log.error("The report cannot be written: %s. It is tried again in a minute.", error)


def _tell_start(pipeline: Pipeline) -> None:
    """Tell the start, and the gap since the last reading: an unclean end may have cost what was in flight."""
    pipeline.events.record("start", reason=f"pid {os.getpid()}", sources=len(pipeline.names))
    last = last_reading_at(pipeline.folder)
    if last is None:
        return
    clean = ended_cleanly(pipeline.folder)
    silent = time.time() - last
    if not clean or silent > 2 * pipeline.loaded.config.interval:
        reason = "not running" if clean else "ended uncleanly"
        pipeline.events.record("gap", reason=reason, seconds=round(silent, 3), since=rfc3339(last))


def _raise_descriptor_limit() -> None:
    """Every kept connection is a descriptor; the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
