"""etl run: the long-lived process, its parts started and stopped in order."""

import gc
import logging
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click

from etl.cli.check import refuse_receivers
from etl.cli.command import config_option, execute, locked, log_format_option, output_root
from etl.cli.exits import IO_ERROR, OK, ExitError
from etl.config.document import ConfigError
from etl.config.load import Loaded, load
from etl.live.children.night import Night, in_child
from etl.live.notifications.messages import Notified, alarm_news, disk_changes, outages, report_message
from etl.live.notifications.notifier import Notifier
from etl.live.pipeline import DRAIN_S, NeedsRestartError, Pipeline
from etl.live.schedule import Schedule
from etl.live.signals import Signals
from etl.live.sinks.console import Traces
from etl.live.sinks.stdout import Stdout
from etl.live.systemd import Service
from etl.readings.alarms.conditions import Change
from etl.readings.clock import Jump, Times, jump
from etl.readings.text import plural
from etl.readings.times import rfc3339
from etl.storage.latest import ended_cleanly, last_reading_at

MAX_CHECK_S = 10.0
"""Seconds between two checks of the clock, at most."""
WRITER_PATIENCE_S = 2.0
"""The writer gets this long to write the last answers; a signal must end the process within 5 s."""
STDOUT_PATIENCE_S = 0.5
"""A reader of stdout gets this long to take the last lines: the files have them."""
RECOVERY_PATIENCE_S, RECOVERY_CHECK_S = 30.0, 0.1
"""The nightly job waits so long for the recovery at a start, without which no day can be closed; it checks so often."""
GAP_AFTER_INTERVALS = 2
"""Intervals between the last reading and a start from which on the start records a gap."""

log = logging.getLogger("etl")


@click.command("run")
@config_option
@log_format_option
@click.option("--insecure", is_flag=True, help="Let every host that reaches api.host write to the API without a token.")
def command(file: Path, log_format: str, insecure: bool) -> None:
    """Poll, average, write and report until SIGTERM or Ctrl-C.

    Readings and averages go to the output folder and, as JSON lines, to stdout; the log goes to stderr.
    """
    signals = Signals()
    execute(file, lambda loaded: run(loaded, insecure, signals), log_format)


def run(loaded: Loaded, insecure: bool, signals: Signals) -> int:
    """Poll, average, write, report and serve until SIGTERM or SIGINT; the exit code."""
    serves = loaded.config.api.serve
    if serves:
        from etl.cli.serving import refuse_exposed, serve_pipeline  # noqa: PLC0415  Flask is loaded only to serve

        if not insecure:
            refuse_exposed(loaded.config.api)
    refuse_receivers(loaded.config.notify)
    with locked(output_root(loaded)) as renew_lock:
        _raise_descriptor_limit()
        stdout = Stdout()
        traces = Traces(len(loaded.config.parameters), time.time()) if serves else None
        pipeline = Pipeline(loaded, time.time, stdout, traces)
        if traces:
            pipeline.restore_events()
            serve_pipeline(pipeline, traces, signals.stopping)
        codes = _record_start(pipeline, time.time())
        notifier = Notifier(pipeline.events.record)
        notifier.use(loaded.config.notify.addresses)
        pipeline.alarms.notify = partial(_notify_alarms, pipeline, notifier)
        writer = threading.Thread(target=_write, args=(pipeline, signals), name="writer", daemon=True)
        writer.start()
        night = Night(
            pipeline,
            partial(in_child, stopping=signals.stopping),
            lambda summary: notifier.send(report_message(summary, time.time())),
            signals.stopping,
        )

        def nightly() -> None:
            _wait_for_recovery(pipeline, signals)
            night.run()

        schedule = Schedule(loaded.config.interval, pipeline.poller.poll, nightly, time.time)
        schedule.set_sources(pipeline.names)
        schedule.start()
        gc.freeze()  # what was loaded stays: thousands of sources are not searched for garbage again and again
        polling = f"Polling {plural(len(pipeline.names), 'source')} every {loaded.config.interval:g} s"
        console = f"; console at {loaded.config.api.address}" if serves else ""
        log.info("%s; writing to %s%s", polling, pipeline.folder.root, console, extra=codes)
        service = Service()
        service.ready(loaded.config.interval)
        watch(Parts(pipeline, schedule, signals, service, notifier), renew_lock=renew_lock)
        service.stopping()
        schedule.stop()
        return _finish(pipeline, writer, stdout, signals)


class Parts(NamedTuple):
    """The running parts that `watch` attends to."""

    pipeline: Pipeline
    schedule: Schedule
    signals: Signals
    service: Service
    notifier: Notifier


def read_clocks() -> Times:
    """The wall clock, the running time, and the running time including suspends."""
    return Times(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))


def watch(
    parts: Parts, clocks: Callable[[], Times] = read_clocks, renew_lock: Callable[[], None] = lambda: None
) -> None:
    """Check the clock, renew the lock, feed the watchdog and act on signals, until the process is asked to stop."""
    pipeline, schedule, signals, service, notifier = parts
    period = min(MAX_CHECK_S, pipeline.loaded.config.interval)
    last = clocks()
    notified = Notified()
    while not signals.stopping():
        signals.wait(max(0.0, last.monotonic + period - clocks().monotonic))
        if signals.take_reload():
            service.reloading()
            _reload(pipeline, schedule)
            service.reloaded()
            notifier.use(pipeline.loaded.config.notify.addresses)
        service.feed(pipeline.standing.finished_ticks)
        now = clocks()
        if now.monotonic - last.monotonic >= period:
            if clock_jump := jump(last, now, period):
                _record_jump(pipeline, clock_jump, last)
                if clock_jump.reason == "set back":
                    schedule.resume()
            renew_lock()
            notified = notify_of_changes(pipeline, notifier, notified, now.wall)
            last = now


def _record_jump(pipeline: Pipeline, clock_jump: Jump, last: Times) -> None:
    reason, seconds, record = clock_jump.reason, round(clock_jump.seconds, 3), pipeline.events.record
    codes = record("clock_step", reason=reason, seconds=seconds) if reason in ("set back", "set forward") else None
    gap = record("gap", reason=reason, seconds=seconds, since=rfc3339(last.wall)) if reason != "set back" else None
    log.warning("The clock was %s by %.1f s", reason, clock_jump.seconds, extra=codes or gap)
    pipeline.poller.wake()


def notify_of_changes(pipeline: Pipeline, notifier: Notifier, notified: Notified, now: float) -> Notified:
    """Notify of sources that stay down or answer again, and of a disk that takes no lines or takes them again."""
    config, standing = pipeline.loaded.config, pipeline.standing
    if not config.notify.addresses:
        return Notified()
    long_down = standing.long_down(now, config.interval)
    messages, sources = outages(standing.down(), long_down, notified.sources, pipeline.names, now)
    of_disk, stuck_since = disk_changes(standing.stuck, notified.stuck_since, pipeline.folder.root, now)
    for message in of_disk + messages:
        notifier.send(message)
    return Notified(sources, stuck_since)


def _notify_alarms(pipeline: Pipeline, notifier: Notifier, changes: Sequence[Change]) -> None:
    """Notify of the alarms that one batch raised or ended."""
    if not pipeline.loaded.config.notify.addresses:
        return
    machines = Counter(source for source, _ in pipeline.standing.latest)
    shared = {source for source, count in machines.items() if count > 1}
    if news := alarm_news(changes, shared, pipeline.loaded.zone, pipeline.loaded.config.units):
        notifier.send(news)


def _reload(pipeline: Pipeline, schedule: Schedule) -> None:
    """Apply the config as it is now, all of it or nothing."""
    try:
        loaded = load(pipeline.loaded.file)
        refuse_receivers(loaded.config.notify)
        pipeline.reload(loaded)
    except (ConfigError, ExitError, NeedsRestartError, OSError) as error:
        log.error("The changed config is not applied, the running one stays: %s", error)
        return
    except Exception:  # such as no memory or no further thread: polling goes on
        log.exception("The changed config is not applied, the running one stays")
        return
    schedule.set_sources(pipeline.names)
    log.info("The changed config is applied: polling %s", plural(len(pipeline.names), "source"))


def _finish(pipeline: Pipeline, writer: threading.Thread, stdout: Stdout, signals: Signals) -> int:
    """Wait for the polls in flight, write their answers, and stop; the exit code."""
    pipeline.poller.drain(DRAIN_S)
    pipeline.close()
    codes = pipeline.events.record("stop", reason=signals.reason)
    pipeline.writer.end()
    writer.join(WRITER_PATIENCE_S)
    pipeline.settle()
    stdout.close(STDOUT_PATIENCE_S)
    if stdout.dropped:
        log.warning("The reader of stdout did not take %s; the files have them", plural(stdout.dropped, "line"))
    if unwritten := pipeline.writer.unwritten:
        log.error("%s could not be written to %s", plural(unwritten, "reading"), pipeline.folder.root)
        return IO_ERROR
    if writer.is_alive():
        log.warning("Every reading is written; the writer had more to do, which the next start completes")
    log.info("Stopped by %s", signals.reason, extra=codes)
    return IO_ERROR if signals.failed else OK


def _write(pipeline: Pipeline, signals: Signals) -> None:
    try:
        pipeline.restore_readings()
        pipeline.writer.run()
    except Exception:
        log.critical("The writer failed; the process stops so that its supervisor can restart it", exc_info=True)
        signals.stop("failed", failed=True)


def _wait_for_recovery(pipeline: Pipeline, signals: Signals) -> None:
    end = time.monotonic() + RECOVERY_PATIENCE_S
    while time.monotonic() < end and not signals.stopping():
        with pipeline.writer.paused() as is_consistent:
            if is_consistent:
                return
        time.sleep(RECOVERY_CHECK_S)


def _record_start(pipeline: Pipeline, now: float) -> Mapping[str, object]:
    """Record the start, and the gap since the last reading: an unclean stop may have lost what was in flight.

    Returns the codes of the start for its log line.
    """
    codes = pipeline.events.record("start", reason=f"pid {os.getpid()}", sources=len(pipeline.names))
    last = last_reading_at(pipeline.folder)
    if last is None:
        return codes
    clean = ended_cleanly(pipeline.folder)
    if not clean or now - last > GAP_AFTER_INTERVALS * pipeline.loaded.config.interval:
        reason = "not running" if clean else "ended uncleanly"
        pipeline.events.record("gap", reason=reason, seconds=round(now - last, 3), since=rfc3339(last))
    return codes


def _raise_descriptor_limit() -> None:
    """Every kept connection is a descriptor; the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
