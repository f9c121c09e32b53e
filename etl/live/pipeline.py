"""The parts that turn polls into files, put together from the config."""

import os
import threading
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import jmespath

from etl.config.load import Loaded
from etl.config.model import Config
from etl.live.console import Traces
from etl.live.poller import Poller
from etl.live.standing import Standing
from etl.live.stdout import Stdout
from etl.live.writer import Logs, Sink, Writer
from etl.readings.days import day_finder
from etl.sources.contract import FileSource, HttpSource, Transport
from etl.sources.files import Files as FileTransport
from etl.sources.registry import open_http
from etl.storage.appender import Appender
from etl.storage.events import Events
from etl.storage.folder import Folder
from etl.storage.latest import last_positions

SYNC_DELAYS_S = {"always": 0.0, "10s": 10.0, "never": inf}
"""Seconds after which lines are fsynced, at the latest, by output.fsync."""
DRAIN_S = 1.0
"""The polls in flight get this long when the process ends or reloads; then they are abandoned."""
ONCE_MARGIN_S = 1.0
"""`tick_once` waits this much longer than the longest timeout."""
NEEDS_RESTART = ("interval", "window", "timezone", "parameters", "transport", "shard")
"""Top-level keys that a running process cannot change; neither can it change `api` and `output.folder`."""


class NeedsRestartError(Exception):
    """A changed config that a running process cannot apply; the message names the keys."""


class Pipeline:
    """The parts that turn polls into files; the caller holds the folder's lock.

    `clock` gives seconds since the epoch; `traces` keeps readings for the console; `system` is os, or a test double.
    """

    def __init__(
        self,
        loaded: Loaded,
        clock: Callable[[], float],
        stdout: Stdout | None = None,
        traces: Traces | None = None,
        system: Any = os,
    ) -> None:
        self.loaded = loaded
        self.folder = Folder(loaded.path(loaded.config.output.folder))
        self.clock = clock
        self.traces = traces
        self._stdout = stdout
        events = Appender(self.folder, "events", system=system)
        self.events = Events(events, day_finder(loaded.zone), clock, self.folder.newest_day("events"))
        self.standing = Standing(self.folder.root, self.events.record)
        self.poller = Poller(clock, loaded.config.interval)
        raw, averages = (Appender(self.folder, kind, system=system) for kind in ("raw", "averages"))
        self.logs = Logs(raw, averages, self.events, day_finder(loaded.zone))
        self.logs.use(SYNC_DELAYS_S[loaded.config.output.fsync])
        self.writer = Writer(self.logs, self.poller, self.standing, loaded.settings, clock)
        self.writer.sinks = self._sinks(loaded)
        self.writer.keep_days = loaded.config.output.keep_days
        self._file_transport: FileTransport | None = None
        self._use_sources(loaded)

    def _sinks(self, loaded: Loaded) -> list[Sink]:
        """What takes each written batch: standing, stdout, and the console's traces."""
        standing, traces, stdout = self.standing, self.traces, self._stdout
        sinks: list[Sink] = [lambda batch: standing.wrote(batch.updates)]
        if traces:
            sinks.append(lambda batch: traces.add_all((machine, window) for machine, _, window in batch.updates))
        if stdout:
            kinds = loaded.config.output.stdout
            sinks.append(lambda batch: stdout.put(batch.lines) if batch.kind in kinds else None)
        return sinks

    def _use_sources(self, loaded: Loaded) -> None:
        http: list[HttpSource] = []
        for source in loaded.sources:
            if source.url:
                ca_file = str(loaded.path(source.ca_file)) if source.ca_file else None
                http.append(HttpSource(source.name, source.url, loaded.timeout(source), source.headers, ca_file))
        files = [FileSource(source.name, loaded.path(source.file)) for source in loaded.sources if source.file]
        transports: dict[str, Transport] = {}
        if http:
            opened = open_http(loaded.config.transport, http, self.clock)
            transports |= dict.fromkeys([source.name for source in http], opened)
        previous = self._file_transport
        self._file_transport = FileTransport(files, self.clock, self._positions(files), previous) if files else None
        if self._file_transport:
            transports |= dict.fromkeys([source.name for source in files], self._file_transport)
        self._transports = set(transports.values())
        self.names = [source.name for source in loaded.sources]
        self.poller.use(transports)
        with self.writer.paused():
            self.standing.use(self.names, self.clock())
        if self.traces:
            self.traces.keep(self.names)
        self.writer.use({source.name: jmespath.compile(source.records) for source in loaded.sources if source.records})

    def _positions(self, files: Iterable[FileSource]) -> dict[str, int]:
        """Where following starts, for files that are not followed yet: after the last line in the raw log."""
        followed = self._file_transport.readers if self._file_transport else {}
        names = {source.name for source in files if source.path.suffix == ".jsonl" and source not in followed}
        return last_positions(self.folder, names)

    def reload(self, loaded: Loaded) -> None:
        """Continue with another config; if its changes need a restart, NeedsRestartError, and nothing is applied."""
        previous = self.loaded
        if changed := needs_restart(previous.config, loaded.config):
            raise NeedsRestartError(f"{', '.join(changed)} changed, which needs a restart")
        retired = self._transports
        self._use_sources(loaded)
        self.loaded = loaded
        self.writer.keep_days = loaded.config.output.keep_days
        self.writer.reconfigure(loaded.settings, SYNC_DELAYS_S[loaded.config.output.fsync], self._sinks(loaded))
        self._retire(retired, max((previous.timeout(source) for source in previous.sources), default=0.0))

    def _retire(self, transports: Iterable[Transport], deadline: float) -> None:
        """Close transports once their polls are delivered: within DRAIN_S, or after the longest deadline (seconds)."""

        def close() -> None:
            for transport in transports:
                transport.close()

        if self.poller.drain(DRAIN_S):
            close()
        else:
            later = threading.Timer(deadline, close)
            later.daemon = True
            later.start()

    def tick_once(self) -> None:
        """Poll every source now, and write the answers."""
        self.poller.poll(self.names)
        timeouts = [self.loaded.timeout(source) for source in self.loaded.sources]
        self.poller.drain(max(timeouts, default=0.0) + ONCE_MARGIN_S)
        self.writer.finish()

    def not_ready(self) -> list[str]:
        """Why nobody should rely on this process now; empty if all is well."""
        reasons = []
        if stuck := self.standing.stuck:
            reasons.append(f"{self.folder.root} cannot be written: {stuck.strerror or stuck}")
        if ahead := self.writer.day_ahead:
            reasons.append(f"readings go to the day file of {ahead}, a day ahead of the clock")
        return reasons + self.standing.not_ready(self.clock(), self.loaded.config.interval)

    def close(self) -> None:
        """Start no further poll."""
        for transport in self._transports:
            transport.close()


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that changed and that a running process cannot change."""
    changed = [key for key in NEEDS_RESTART if getattr(old, key) != getattr(new, key)]
    changed += [f"api.{key}" for key in old.api.__struct_fields__ if getattr(old.api, key) != getattr(new.api, key)]
    return changed + ["output.folder"] * (old.output.folder != new.output.folder)
