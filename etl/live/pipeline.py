"""The parts that turn polls into files, put together from the config."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jmespath

from etl.live.stdout import Stdout
from etl.live.tick import Tick, Transport
from etl.nightly.due import REPORT_ERRORS, due_days
from etl.nightly.night import MakeReport, here
from etl.readings.days import day_finder
from etl.sources.file_source import Files, FileSource
from etl.sources.http_source import HttpSource
from etl.storage.appender import ALWAYS, NEVER, Appender, SyncPolicy
from etl.storage.events import Events
from etl.storage.folder import Folder
from etl.storage.latest import last_positions
from etl.storage.retention import compress, delete_old
from etl.storage.settings_log import SettingsLog

if TYPE_CHECKING:
    from etl.config.load import Config, Loaded

SYNCS = {"always": ALWAYS, "10s": SyncPolicy(10.0), "never": NEVER}
LAST_CALL = 1.0
"""Seconds the polls in flight get when the process ends; then they are abandoned."""

log = logging.getLogger("etl")


class NeedsRestartError(Exception):
    """A changed config that a running process cannot take over; the message names the keys."""


class Pipeline:
    """The parts that turn polls into files, put together from the config; `with held(...)` goes around it."""

    def __init__(
        self,
        loaded: Loaded,
        clock: Callable[[], float],
        stdout: Stdout | None = None,
        system: Any = os,
        make_report: MakeReport | None = None,
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
        self._make_report = make_report or here()
        self._http: Transport | None = None
        self._files: Files | None = None
        self._unmade: set[str] = set()
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
        return last_positions(
            self.folder, {source.name for source in files if source.path.suffix == ".jsonl" and source not in known}
        )

    def reload(self, loaded: Loaded) -> None:
        """Go on with another config: its sources, headers, report and output options.

        Raises:
            NeedsRestartError: something else changed, and nothing was taken over.

        """
        before = self.loaded
        changed = needs_restart(before.config, loaded.config)
        if changed:
            raise NeedsRestartError(f"{', '.join(changed)} changed: that needs a restart")
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

    def close_due_days(self, stopping: Callable[[], bool] = lambda: False) -> list[Path]:
        """Report every closed day that has no report yet; the nightly job."""
        written = []
        asked = self.loaded.config.report
        for day in due_days(self.folder, self._clock(), asked.at, self.loaded.zone):
            if not self.tick.close_day(day):
                continue
            try:
                written.append(self._make_report(self.folder, day, self.loaded.settings, asked.workers, asked.cluster))
            except REPORT_ERRORS as error:
                if day not in self._unmade:
                    log.error("The report of %s cannot be made: %s. `etl verify` says where its raw log is damaged.",
                              day, error)  # fmt: skip
                    self.events.record("report", reason="failed", day=day, why=str(error)[:200])
                    self._unmade.add(day)
            else:
                log.info("Report of %s written to %s", day, written[-1])
                self.events.record("report", reason="written", day=day)
            self.tick.wake()
        self._keep_small(stopping)
        return written

    def _keep_small(self, stopping: Callable[[], bool]) -> None:
        """Delete and compress closed days as the config asks."""
        output = self.loaded.config.output
        if output.keep_days is not None:
            today = day_finder(self.loaded.zone)(self._clock())
            deleted = delete_old(
                SettingsLog(self.folder, self.loaded.settings), today, output.keep_days, self.tick.still
            )
            if deleted:
                log.info("Older than %d days and deleted: %s", output.keep_days, ", ".join(deleted))
        if output.compress and (packed := compress(self.folder, stopping, self.tick.still)):
            log.info("Compressed the files of %s", ", ".join(packed))

    def not_ready(self) -> list[str]:
        """Why nobody should rely on this process now; empty if all is well."""
        reasons = []
        if self.tick.stuck:
            reasons.append(f"{self.folder.root} cannot be written: {self.tick.stuck.strerror or self.tick.stuck}")
        if self.tick.ahead:
            reasons.append(f"readings go to the file of {self.tick.ahead}, a day ahead of the clock")
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
        from etl.sources.http_curl import Curl  # noqa: PLC0415  pycurl is an extra

        return Curl
    from etl.sources.http_requests import Requests  # noqa: PLC0415  each transport is paid for only where it is used

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
