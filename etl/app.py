"""Composition root: settings in, running parts out. The only file that knows every part and reads the clock."""

from __future__ import annotations

import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jmespath

from etl.clock import Jump, Times, jump
from etl.days import day_finder, due, next_change, next_reports
from etl.events import Events
from etl.file_source import Files, FileSource
from etl.folder import Folder
from etl.http_source import HttpSource
from etl.log import ALWAYS, NEVER, Appender, HeldError, Sync, renew_lock, take_lock
from etl.recover import ended_cleanly, last_reading, positions
from etl.report import StoppedError, due_days, encode, make_report, never, write_report
from etl.retention import compress, delete_old
from etl.signals import Signals
from etl.stdout import Stdout
from etl.tick import Tick, Transport
from etl.wire import rfc3339

if TYPE_CHECKING:
    from etl.config import Config, Loaded
    from etl.schedule import Schedule

OK, FOUND, UNAVAILABLE, CANNOT_CREATE, IO_ERROR, HELD, BAD_CONFIG = 0, 1, 69, 73, 74, 75, 78
"""Exit codes, from sysexits.h where it has one."""
SYNCS = {"always": ALWAYS, "10s": Sync(10.0), "never": NEVER}
WATCH = 10.0
"""Seconds between two looks at the clock, at most."""
LAST_CALL = 1.0
"""Seconds the polls in flight get when the process ends; then they are abandoned."""

log = logging.getLogger("etl")


class ExitError(Exception):
    """The command cannot go on: a message for people, and its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Pipeline:
    """The parts that turn polls into files, put together from the config; `with held(...)` goes around it."""

    def __init__(
        self, loaded: Loaded, clock: Callable[[], float], stdout: Stdout | None = None, system: Any = os
    ) -> None:
        config = loaded.config
        self.loaded = loaded
        self.folder = Folder(loaded.path(config.output.folder))
        self.names = [source.name for source in loaded.sources]
        self.events = Events(
            Appender(self.folder, "events", system=system), day_finder(loaded.zone), clock,
            self.folder.newest_day("events"),
        )  # fmt: skip
        self.tick = Tick(
            self.folder, loaded.settings, day_finder(loaded.zone), self.events, self._emit(loaded, stdout), clock,
            SYNCS[config.output.fsync], system,
        )  # fmt: skip
        self._clock = clock
        self._stdout = stdout
        self._http: Transport | None = None
        self._files: Files | None = None
        self._use_sources(loaded)

    @staticmethod
    def _emit(loaded: Loaded, stdout: Stdout | None) -> dict[str, Callable[[list[bytes]], None]]:
        return {str(kind): stdout.put for kind in loaded.config.output.stdout} if stdout else {}

    def _use_sources(self, loaded: Loaded) -> None:
        web = [
            HttpSource(source.name, source.url, loaded.timeout(source), source.headers,
                       str(loaded.path(source.ca_file)) if source.ca_file else None)
            for source in loaded.sources if source.url
        ]  # fmt: skip
        files = [FileSource(source.name, loaded.path(source.file)) for source in loaded.sources if source.file]
        http = _transport(loaded.config.transport)(web, self._clock) if web else None
        self._files = Files(files, self._clock, self._positions(files), self._files) if files else None
        self._http = http
        transports: dict[str, Transport] = {}
        for sources, transport in ((web, self._http), (files, self._files)):
            if transport:
                transports |= {source.name: transport for source in sources}
        records = {source.name: jmespath.compile(source.records) for source in loaded.sources if source.records}
        self.tick.use(transports, records)

    def _positions(self, files: list[FileSource]) -> dict[str, int]:
        """Where following begins, of what is not followed yet: behind the last line in the raw log."""
        known = self._files.reading if self._files else {}
        return positions(
            self.folder, {source.name for source in files if source.path.suffix == ".jsonl" and source not in known}
        )

    def reload(self, loaded: Loaded) -> None:
        """Go on with another config: its sources, headers, report and output options.

        Raises:
            ExitError: something else changed, and nothing was taken over.

        """
        before = self.loaded
        changed = needs_restart(before.config, loaded.config)
        if changed:
            raise ExitError(f"{', '.join(changed)} changed: that needs a restart", BAD_CONFIG)
        retired = [transport for transport in (self._http, self._files) if transport]
        self._use_sources(loaded)
        self.loaded = loaded
        self.names = [source.name for source in loaded.sources]
        self.tick.reconfigure(loaded.settings, self._emit(loaded, self._stdout), SYNCS[loaded.config.output.fsync])
        self._retire(retired, max((before.timeout(source) for source in before.sources), default=0.0))

    def _retire(self, transports: Iterable[Transport], deadline: float) -> None:
        """Close transports once their polls are in: soon, or else when all of them have met their deadline."""

        def close() -> None:
            for transport in transports:
                transport.close()

        if self.tick.wait(LAST_CALL):
            close()
        else:
            later = threading.Timer(deadline, close)
            later.daemon = True
            later.start()

    def tick_once(self) -> None:
        """Read every source now, and write what they answer."""
        self.tick.start(self.names)
        self.tick.wait(max((self.loaded.timeout(source) for source in self.loaded.sources), default=0.0) + 1)
        self.tick.finish()

    def close_due_days(self, stopping: Callable[[], bool] = never) -> list[Path]:
        """Report every closed day that has no report yet; the nightly job."""
        written = []
        for day in due_days(self.folder, self._clock(), self.loaded.config.report.at, self.loaded.zone):
            if self.tick.close_day(day):
                written.append(write_report(self.folder, day, self.loaded.settings, stopping))
                log.info("Report of %s written to %s", day, written[-1])
                self.events.tell("report", reason="written", day=day)
                self.tick.wake()
        self._keep_small(stopping)
        return written

    def _keep_small(self, stopping: Callable[[], bool]) -> None:
        """Delete and compress closed days as the config asks."""
        output = self.loaded.config.output
        if output.keep_days is not None:
            today = day_finder(self.loaded.zone)(self._clock())
            deleted = delete_old(self.folder, today, output.keep_days, self.loaded.settings, self.tick.still)
            if deleted:
                log.info("Older than %d days and deleted: %s", output.keep_days, ", ".join(deleted))
        if output.compress and (packed := compress(self.folder, stopping, self.tick.still)):
            log.info("Compressed the files of %s", ", ".join(packed))

    def not_ready(self) -> list[str]:
        """Why nobody should rely on this process now; empty if all is well."""
        reasons = []
        if self.tick.stuck:
            reasons.append(f"{self.folder.root} cannot be written: {self.tick.stuck.strerror or self.tick.stuck}")
        last = self.tick.last_write
        if last is None or self._clock() - last > 3 * self.loaded.config.interval:
            reasons.append("no reading was written for 3 intervals" if last else "no reading was written yet")
        return reasons

    def close(self) -> None:
        """Begin no further poll."""
        for transport in (self._http, self._files):
            if transport:
                transport.close()


def _transport(name: str) -> Callable[[Iterable[HttpSource], Callable[[], float]], Transport]:
    if name == "curl":
        from etl.http_curl import Curl  # noqa: PLC0415  pycurl is an extra

        return Curl
    from etl.http_requests import Requests  # noqa: PLC0415  each transport is paid for only where it is used

    return Requests


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that changed and cannot be taken over by a running process."""
    changed = [
        key
        for key in ("interval", "window", "timezone", "parameters", "transport", "shard")
        if getattr(old, key) != getattr(new, key)
    ]
    changed += [f"api.{key}" for key in old.api.__struct_fields__ if getattr(old.api, key) != getattr(new.api, key)]
    return changed + ["output.folder"] * (old.output.folder != new.output.folder)


@contextmanager
def held(loaded: Loaded) -> Iterator[Callable[[], None]]:
    """Hold the output folder for this process; what is given is to be called now and then to hold it still.

    Raises:
        ExitError: another process holds it, or it cannot be created.

    """
    root = loaded.path(loaded.config.output.folder)
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


def run(loaded: Loaded) -> int:
    """Poll, average, write, report and serve until SIGTERM or SIGINT; the exit code."""
    signals = Signals()
    with held(loaded) as hold:
        _raise_descriptor_limit()
        stdout = Stdout()
        pipeline = Pipeline(loaded, time.time, stdout)
        if loaded.config.api.serve:
            _serve(pipeline)
        _tell_start(pipeline)
        writer = threading.Thread(target=_write, args=(pipeline, signals), name="writer", daemon=True)
        writer.start()

        from etl.schedule import Schedule  # noqa: PLC0415  only `run` schedules: other commands start without it

        schedule = Schedule(loaded.config.interval, pipeline.tick.start, lambda: _nightly(pipeline, signals), time.time)
        schedule.set_sources(pipeline.names)
        schedule.start()
        log.info(
            "Reading %d sources every %g s into %s", len(pipeline.names), loaded.config.interval, pipeline.folder.root
        )
        _attend(pipeline, schedule, signals, hold=hold)
        schedule.stop()
        return _finish(pipeline, writer, stdout, signals)


def _times() -> Times:
    return Times(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))


def _attend(
    pipeline: Pipeline,
    schedule: Schedule,
    signals: Signals,
    times: Callable[[], Times] = _times,
    hold: Callable[[], None] = lambda: None,
) -> None:
    """Watch the clock, hold the folder and act on signals until the process is asked to stop."""
    period = min(WATCH, pipeline.loaded.config.interval)
    before = times()
    while not signals.stopping():
        signals.wait(max(0.0, before.monotonic + period - times().monotonic))
        if signals.take_reload():
            _reload(pipeline, schedule)
        now = times()
        if now.monotonic - before.monotonic >= period:
            if jumped := jump(before, now, period):
                _tell_jump(pipeline, jumped, before)
                if jumped.reason == "set back":
                    schedule.resume()
            hold()
            before = now


def _tell_jump(pipeline: Pipeline, jumped: Jump, before: Times) -> None:
    log.warning("The clock was %s by %.1f s", jumped.reason, jumped.seconds)
    seconds = round(jumped.seconds, 3)
    if jumped.reason in ("set back", "set forward"):
        pipeline.events.tell("clock_step", reason=jumped.reason, seconds=seconds)
    if jumped.reason != "set back":
        pipeline.events.tell("gap", reason=jumped.reason, seconds=seconds, since=rfc3339(before.wall))
    pipeline.tick.wake()


def _reload(pipeline: Pipeline, schedule: Schedule) -> None:
    """Take over the config as it stands now, all of it or nothing."""
    from etl.config import load  # noqa: PLC0415
    from etl.document import ConfigError  # noqa: PLC0415

    try:
        pipeline.reload(load(pipeline.loaded.file))
    except (ConfigError, ExitError, OSError) as error:
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
        sys.stdout.buffer.write(encode(make_report(folder, day, loaded.settings)))
        log.warning("%s is not closed yet: this report is not kept", day)
        return OK
    else:
        days = [day]
    for closed in days:
        try:
            path = write_report(folder, closed, loaded.settings)
        except OSError as error:
            raise ExitError(f"The report of {closed} cannot be written: {error}", CANNOT_CREATE) from None
        print(path)  # noqa: T201
    return OK


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
    from etl.verify import is_held  # noqa: PLC0415  no other command proves anything

    return _prove(loaded, is_held)


def _prove(loaded: Loaded, running: Callable[[Path], bool]) -> int:
    from etl.verify import Proof  # noqa: PLC0415

    folder = Folder(loaded.path(loaded.config.output.folder))
    try:
        unreported = due_days(folder, time.time(), loaded.config.report.at, loaded.zone)
        proof = Proof(folder, loaded.settings, unreported, running)
        for finding in proof.findings():
            print(f"{'wrong' if finding.wrong else 'note'}: {finding.text}")  # noqa: T201
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ExitError(f"{error.filename or folder.root} cannot be read: {error.strerror}.", IO_ERROR) from None
    print(proof.summary())  # noqa: T201
    return FOUND if proof.counts["wrong"] else OK


def rebuild(loaded: Loaded) -> int:
    """Derive averages and reports anew from the raw log, and prove them; what changed goes to stdout."""
    from etl.rebuild import rebuild as derive_anew  # noqa: PLC0415  no other command rebuilds anything

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
            for line in derive_anew(folder, loaded.settings, unreported, keep, events.tell):
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
    lines = [
        f"{len(loaded.sources)} sources, read every {config.interval:g} s into {loaded.path(config.output.folder)}",
        f"averages over {config.window} readings of {', '.join(config.parameters)}",
        f"API {api}",
        f"next reports ({loaded.settings.timezone}):",
    ]
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


def _serve(pipeline: Pipeline) -> None:
    """Serve the simulated machines and what the pipeline shows."""
    from api import Machines, Views, create_app  # noqa: PLC0415  only what serves imports Flask
    from api.server import serve  # noqa: PLC0415

    config = pipeline.loaded.config.api
    folder = pipeline.folder

    def read_report(day: str) -> bytes | None:
        try:
            return folder.report_path(day).read_bytes()
        except FileNotFoundError:
            return None

    def read_metrics() -> bytes:
        from etl.metrics import exposition  # noqa: PLC0415  only who asks pays for it

        return exposition(pipeline.tick)

    views = Views(
        averages=lambda: list(pipeline.tick.latest.values()),
        events=lambda: list(pipeline.events.latest),
        reports=folder.reports,
        report=read_report,
        not_ready=pipeline.not_ready,
        metrics=read_metrics,
    )
    try:
        serve(create_app(Machines(config.machines), views), config.host, config.port)
    except OSError as error:
        raise ExitError(
            f"Cannot listen on {config.host}:{config.port}: {error.strerror}. "
            "Set another api.port, or api.serve: false.",
            IO_ERROR,
        ) from None


def _nightly(pipeline: Pipeline, signals: Signals) -> None:
    try:
        pipeline.close_due_days(signals.stopping)
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
