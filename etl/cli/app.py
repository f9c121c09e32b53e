"""Composition root: settings in, running parts out. The only file that knows every part and reads the clock."""

from __future__ import annotations

import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.cli.progress import progress
from etl.live.notify import PATIENCE, Notifier, outages, reported
from etl.live.pipeline import LAST_CALL, NeedsRestartError, Pipeline
from etl.live.signals import Signals
from etl.live.stdout import Stdout
from etl.live.systemd import Service
from etl.live.traces import Traces
from etl.nightly.child import StoppedError, in_child
from etl.nightly.night import here, in_a_child
from etl.nightly.report import UNMADE, due_days, encode, make
from etl.readings.clock import Jump, Times, jump
from etl.readings.days import day_finder, due, next_change, next_reports
from etl.readings.wire import rfc3339
from etl.storage.events import Events
from etl.storage.folder import Folder
from etl.storage.log import Appender, HeldError, renew_lock, take_lock
from etl.storage.recover import ended_cleanly, last_reading

if TYPE_CHECKING:
    from etl.config.load import Api, Loaded
    from etl.live.schedule import Schedule
    from etl.pages.charts import Segments

OK, FOUND, USAGE, UNAVAILABLE, CANNOT_CREATE, IO_ERROR, HELD, BAD_CONFIG = 0, 1, 2, 69, 73, 74, 75, 78
"""Exit codes, from sysexits.h where it has one."""
WATCH = 10.0
"""Seconds between two looks at the clock, at most."""
TOLD = 20
"""Damaged lines of a replay that are told one by one, at most."""
MANY = 300
"""Sources over HTTP from which on the transport curl is worth its extra package."""

log = logging.getLogger("etl")


class ExitError(Exception):
    """The command cannot go on: a message for people, and its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def held(loaded: Loaded, root: Path | None = None) -> Iterator[Callable[[], None]]:
    """Hold the output folder, or `root`, for this process; what is given is to be called now and then to hold it still.

    Raises:
        ExitError: another process holds it, or it cannot be created.

    """
    root = root or loaded.path(loaded.config.output.folder)
    try:
        lock = take_lock(root)
    except HeldError as error:
        raise _is_held(error) from None
    except OSError as error:
        raise ExitError(
            f"{root} cannot be created or written: {error.strerror}. Check output.folder and its owner.", CANNOT_CREATE
        ) from None

    def hold() -> None:
        nonlocal lock
        with suppress(OSError):
            lock = renew_lock(root, lock)

    try:
        for kind in ("raw", "averages", "events", "reports"):
            with suppress(OSError):
                (root / kind).mkdir(exist_ok=True)
            if not os.access(root / kind, os.W_OK | os.X_OK):
                raise ExitError(f"{root / kind} cannot be written. Check its owner and mode.", CANNOT_CREATE)
        yield hold
    except HeldError as error:
        raise _is_held(error) from None
    finally:
        os.close(lock)


def _is_held(error: HeldError) -> ExitError:
    return ExitError(f"{error}. Stop it first, or set another output.folder.", HELD)


def run(loaded: Loaded, insecure: bool = False) -> int:
    """Poll, average, write, report and serve until SIGTERM or SIGINT; the exit code.

    `insecure` lets everybody write to the API who reaches it.
    """
    if loaded.config.api.serve and not insecure:
        _refuse_exposed(loaded.config.api)
    signals = Signals()
    with held(loaded) as hold:
        _raise_descriptor_limit()
        stdout = Stdout()
        pipeline = Pipeline(loaded, time.time, stdout, make_report=in_a_child(_page, signals.stopping))
        if loaded.config.api.serve:
            _serve(pipeline)
        _tell_start(pipeline)
        writer = threading.Thread(target=_write, args=(pipeline, signals), name="writer", daemon=True)
        writer.start()

        from etl.live.schedule import Schedule  # noqa: PLC0415  only `run` schedules: other commands start without it

        notifier = Notifier(pipeline.events.tell)
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
        pipeline.events.tell("clock_step", reason=jumped.reason, seconds=seconds)
    if jumped.reason != "set back":
        pipeline.events.tell("gap", reason=jumped.reason, seconds=seconds, since=rfc3339(before.wall))
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
    from etl.config.document import ConfigError  # noqa: PLC0415
    from etl.config.load import load  # noqa: PLC0415

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
    pipeline.events.tell("stop", reason=signals.reason)
    pipeline.tick.end()
    writer.join(2)
    stdout.close(0.5)
    if stdout.left_out:
        log.warning("%d lines were not taken from stdout; the files have them", stdout.left_out)
    if pipeline.tick.unwritten or writer.is_alive():
        log.error("%d readings could not be written to %s", pipeline.tick.unwritten, pipeline.folder.root)
        return IO_ERROR
    return IO_ERROR if signals.failed else OK


def once(loaded: Loaded) -> int:
    """One tick over all sources now; the exit code."""
    with held(loaded):
        stdout = Stdout()
        pipeline = Pipeline(loaded, time.time, stdout)
        pipeline.tick_once()
        pipeline.close()
        stdout.close(5)
        if pipeline.tick.unwritten:
            raise ExitError(f"{pipeline.tick.unwritten} readings could not be written: {pipeline.tick.stuck}", IO_ERROR)
        if not pipeline.tick.counts["answered"]:
            raise ExitError(
                "No source answered. Is the machine on? `python -m api` starts the simulated one.", UNAVAILABLE
            )
        return OK


def report(loaded: Loaded, day: str | None) -> int:
    """Report a day, or every day that is due; the path of each on stdout. A day not yet closed goes to stdout."""
    folder = Folder(loaded.path(loaded.config.output.folder))
    at, zone, now = loaded.config.report.at, loaded.zone, time.time()
    if day is None:
        days = [due_day for due_day in due_days(folder, now, at, zone) if _is_closed(folder, due_day)]
    elif day not in folder.days("raw"):
        raise ExitError(f"There is no raw log of {day} in {folder.root}.", FOUND)
    elif due(day, at, zone) > now or not _is_closed(folder, day):
        sys.stdout.buffer.write(encode(make(folder, day, loaded.settings, until=now).report))
        log.warning("%s is not closed yet: this report is not kept", day)
        return OK
    else:
        days = [day]
    make_report, asked, unmade = here(_page), loaded.config.report, OK
    with progress("report", folder.stored("raw", days)) as advance:
        for closed in days:
            try:
                path = make_report(Folder(folder.root, advance), closed, loaded.settings, asked.workers, asked.cluster)
            # Some damage to a compressed file is an OSError as well.
            except UNMADE as error:
                log.error("The report of %s cannot be made: %s. `etl verify` says where it is damaged.", closed, error)
                unmade = FOUND
                continue
            except OSError as error:
                raise ExitError(f"The report of {closed} cannot be written: {error}", CANNOT_CREATE) from None
            print(path)  # noqa: T201
    if not days:
        log.info("No report is due in %s", folder.root)
    return unmade


def _is_closed(folder: Folder, day: str) -> bool:
    """Whether no process can still add to a day: a later day has begun, or nobody holds the folder."""
    if folder.days("raw")[-1] > day or day in folder.reports():
        return True
    try:
        os.close(take_lock(folder.root))
    except (HeldError, OSError):
        return False
    return True


def verify(loaded: Loaded) -> int:
    """Prove that averages and reports follow from the raw log; what was found goes to stdout."""
    from etl.audit.verify import is_held  # noqa: PLC0415  no other command proves anything

    return _prove(loaded, is_held)


def _prove(loaded: Loaded, running: Callable[[Path], bool]) -> int:
    from etl.audit.verify import Proof  # noqa: PLC0415

    folder = Folder(loaded.path(loaded.config.output.folder))
    try:
        unreported = due_days(folder, time.time(), loaded.config.report.at, loaded.zone)
        with progress("verify", _work(folder, folder.reports())) as advance:
            proof = Proof(Folder(folder.root, advance), loaded.settings, unreported, running)
            for finding in proof.findings():
                print(f"{'wrong' if finding.wrong else 'note'}: {finding.text}")  # noqa: T201
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExitError(f"{error.filename or folder.root} cannot be read: {error.strerror}.", IO_ERROR) from None
    print(proof.summary())  # noqa: T201
    return FOUND if proof.counts["wrong"] else OK


def _work(folder: Folder, reports: Iterable[str]) -> int:
    """Bytes to read where the averages of every day and these reports are derived."""
    return folder.stored("raw", folder.days("raw")) + folder.stored("raw", reports)


def replay(loaded: Loaded, files: list[Path], output: Path | None) -> int:
    """Fold recorded readings into the folder, or into `output`; damaged lines are told on stderr."""
    from etl.audit.recording import Damage, Recording  # noqa: PLC0415  no other command replays
    from etl.audit.replay import RefusedError  # noqa: PLC0415
    from etl.audit.replay import replay as fold_in  # noqa: PLC0415

    if len({file.resolve() for file in files}) < len(files):
        raise ExitError("A file is named twice: its readings would be doubled. Name each once.", USAGE)
    named = {loaded.path(source.file).resolve(): source.name for source in loaded.sources if source.file}
    folder = Folder(output or loaded.path(loaded.config.output.folder))
    damaged = 0

    def tell(damage: Damage) -> None:
        nonlocal damaged
        damaged += 1
        if damaged <= TOLD:
            log.warning("%s:%d: %s", damage.file, damage.line, damage.why)

    with held(loaded, folder.root), progress("replay", 2 * sum(file.stat().st_size for file in files)) as advance:
        day_of = day_finder(loaded.zone)
        recording = Recording(named, loaded.zone, day_of, day_of(time.time()), advance)
        try:
            done = fold_in(folder, recording, files, loaded.settings, tell, advance)
        except RefusedError as error:
            raise ExitError(f"{error}. Nothing was changed: give the replay a folder of its own, --output DIR.",
                            CANNOT_CREATE) from None  # fmt: skip
        except OSError as error:
            raise ExitError(f"{error.filename or folder.root}: {error.strerror or error}. Nothing was changed.",
                            CANNOT_CREATE) from None  # fmt: skip
    if damaged > TOLD:
        log.warning("... and %d more damaged lines", damaged - TOLD)
    print(f"{done.lines} readings, {damaged} damaged lines; days added: {_days(done.added)};"  # noqa: T201
          f" there already: {_days(done.left)}")  # fmt: skip
    return FOUND if damaged or not done.lines else OK


def _days(days: list[str]) -> str:
    return f"{len(days)} ({days[0]} to {days[-1]})" if days else "none"


def status(loaded: Loaded, as_json: bool) -> int:
    """Tell how everything stands, from the folder alone; on stdout."""
    from etl.audit.verify import is_held  # noqa: PLC0415
    from etl.cli.status import encode as encode_status  # noqa: PLC0415  no other command tells it
    from etl.cli.status import look, show  # noqa: PLC0415

    folder = Folder(loaded.path(loaded.config.output.folder))
    if not folder.days("raw") and not folder.days("events"):
        what = "holds nothing yet" if folder.root.is_dir() else "is no folder"
        raise ExitError(f"{folder.root} {what}. Start `etl run`, or check output.folder.", FOUND)
    names = [source.name for source in loaded.sources]
    try:
        found = look(folder, names, loaded.settings, loaded.config.report.at, time.time(), is_held(folder.root))
    except OSError as error:
        raise ExitError(
            f"{error.filename or folder.root} cannot be read: {error.strerror or error}.", IO_ERROR
        ) from None
    if as_json:
        sys.stdout.buffer.write(encode_status(found))
    else:
        show(found, sys.stdout)
    return OK


def rebuild(loaded: Loaded) -> int:
    """Derive averages and reports anew from the raw log, and prove them; what changed goes to stdout."""
    from etl.audit.rebuild import rebuild as derive_anew  # noqa: PLC0415  no other command rebuilds anything

    folder = Folder(loaded.path(loaded.config.output.folder))
    if not folder.days("raw"):
        raise ExitError(f"There is no raw log in {folder.root}.", FOUND)
    with held(loaded):
        events = Events(
            Appender(folder, "events"), day_finder(loaded.zone), time.time, folder.newest_day("events")
        )  # fmt: skip
        unreported = due_days(folder, time.time(), loaded.config.report.at, loaded.zone)
        keep = loaded.config.output.keep_days is not None
        try:
            with progress("rebuild", _work(folder, {*folder.reports(), *unreported})) as advance:
                watched = Folder(folder.root, advance)
                for line in derive_anew(watched, loaded.settings, unreported, keep, events.tell, _page):
                    print(line)  # noqa: T201
            events.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ExitError(
                f"{error.filename or folder.root} cannot be written: {error.strerror}. "
                "No file is half done: run `etl rebuild` again when it can be.",
                CANNOT_CREATE,
            ) from None
        return _prove(loaded, lambda _: False)


def summary(loaded: Loaded) -> str:
    """What `etl check` says of a sound config."""
    config, zone, now = loaded.config, loaded.zone, time.time()
    api = f"http://{config.api.host}:{config.api.port}" if config.api.serve else "not served"
    if config.api.serve and not config.api.token and _is_exposed_address(config.api.host):
        api += ": others reach it, so `etl run` asks for api.token or --insecure"
    lines = [
        f"{len(loaded.sources)} sources, read every {config.interval:g} s into {loaded.path(config.output.folder)}",
        f"averages over {config.window} readings of {', '.join(config.parameters)}",
        f"API {api}",
        f"next reports ({loaded.settings.timezone}):",
    ]
    over_http = sum(1 for source in loaded.sources if source.url)
    if over_http >= MANY and config.transport == "requests":
        lines.insert(1, f"{over_http} sources over HTTP: transport: curl reads them with far less CPU (extra fleet)")
    coming = next_reports(now, config.report.at, zone, 3)
    change = next_change(now, zone)
    if change:
        eve = datetime.combine(change, datetime.min.time(), tzinfo=zone).timestamp()
        coming += [entry for entry in next_reports(eve - 86_400, config.report.at, zone, 3) if entry not in coming]
    lines += [f"  {day}: {local:%Y-%m-%d %H:%M %z} ({local.astimezone(UTC):%Y-%m-%dT%H:%MZ})" for day, local in coming]
    if change:
        lines.append(f"the clocks change on {change}")
    return "\n".join(lines)


def _write(pipeline: Pipeline, signals: Signals) -> None:
    try:
        pipeline.tick.run()
    except Exception:
        log.critical("The writer failed; the process ends so that it can be started anew", exc_info=True)
        signals.stop("failed", failed=True)


def _refuse_exposed(api: Api) -> None:
    """Refuse to serve where others than this machine could write without a token."""
    from api.server import is_loopback  # noqa: PLC0415  only what serves imports Flask

    try:
        exposed = not api.token and not is_loopback(api.host)
    except OSError as error:
        raise _cannot_listen(api, error) from None
    if exposed:
        raise ExitError(
            f"Others reach api.host {api.host}: set api.token, which writes then need, or run `etl run --insecure`.",
            BAD_CONFIG,
        )


def _is_exposed_address(host: str) -> bool:
    """Whether others reach an address; of a name nothing is known without the network."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return False


def _cannot_listen(api: Api, error: OSError) -> ExitError:
    return ExitError(
        f"Cannot listen on {api.host}:{api.port}: {error.strerror}. Set another api.port, or api.serve: false.",
        IO_ERROR,
    )


def _serve(pipeline: Pipeline) -> None:
    """Serve the simulated machines and what the pipeline shows."""
    from api.app import create_app  # noqa: PLC0415  only what serves imports Flask
    from api.console import Views  # noqa: PLC0415
    from api.guard import Guard  # noqa: PLC0415
    from api.machines import Machines  # noqa: PLC0415
    from api.server import is_loopback, serve  # noqa: PLC0415
    from etl.live.console import machine, overview  # noqa: PLC0415
    from etl.pages.console import machine_charts, shared_styles  # noqa: PLC0415

    config = pipeline.loaded.config.api
    folder = pipeline.folder
    traces = pipeline.tick.traces = Traces(len(pipeline.loaded.config.parameters), time.time())

    def read(path: Path) -> bytes | None:
        try:
            return None if path.is_symlink() else path.read_bytes()  # a link may lead out of the folder
        except FileNotFoundError:
            return None

    def read_metrics() -> bytes:
        from etl.live.metrics import exposition  # noqa: PLC0415  only who asks pays for it

        return exposition(pipeline.tick, pipeline.events, folder)

    def machine_view(source: str, key: Any) -> dict[str, Any] | None:
        shown = machine(traces, pipeline.loaded, source, key)
        return shown and {"simulated": shown["simulated"], "charts": machine_charts(shown)}

    views = Views(
        averages=lambda: list(pipeline.tick.latest.values()),
        events=lambda: list(pipeline.events.latest),
        reports=folder.reports,
        report=lambda day: read(folder.report_path(day)),
        not_ready=pipeline.not_ready,
        metrics=read_metrics,
        report_page=lambda day: read(folder.page_path(day)),
        overview=lambda mark: overview(pipeline.tick, traces, pipeline.loaded, time.time(), mark, pipeline.not_ready()),
        machine=machine_view,
        styles=shared_styles(),
    )
    try:
        guard = Guard(config.token, config.host, exposed=not is_loopback(config.host))
        serve(create_app(Machines(config.machines), views, guard=guard), config.host, config.port)
    except OSError as error:
        raise _cannot_listen(config, error) from None


def _page(report: dict[str, Any], series: Sequence[Mapping[str, Segments]]) -> bytes:
    from etl.pages.report import report_page  # noqa: PLC0415  only who makes a report draws

    return report_page(report, series)


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
    pipeline.events.tell("start", reason=f"pid {os.getpid()}", sources=len(pipeline.names))
    last = last_reading(pipeline.folder)
    if last is None:
        return
    clean = ended_cleanly(pipeline.folder)
    silent = time.time() - last
    if not clean or silent > 2 * pipeline.loaded.config.interval:
        reason = "not running" if clean else "ended uncleanly"
        pipeline.events.tell("gap", reason=reason, seconds=round(silent, 3), since=rfc3339(last))


def _raise_descriptor_limit() -> None:
    """Every kept connection is a descriptor; the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
