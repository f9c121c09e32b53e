"""The parts that turn polls into files, put together from the config."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Any

from etl.config.load import Loaded
from etl.config.model import Config
from etl.live.poller import Poller
from etl.live.sinks.alarms import RaisedAlarms
from etl.live.sinks.console import TRACE_READINGS, Traces
from etl.live.sinks.no_number import NoNumber
from etl.live.sinks.stdout import Stdout
from etl.live.standing import Standing
from etl.live.writer import Logs, Sink, Writer
from etl.readings.averages.window import silence_s
from etl.readings.days import day_finder
from etl.sources.contract import Acknowledging, Context, Transport
from etl.sources.intake import Intake
from etl.sources.registry import by_kind, open_transports, with_records
from etl.storage.appender import Appender
from etl.storage.events import LATEST, Events
from etl.storage.folder import Folder
from etl.storage.latest import last_averages, last_events, last_positions, outages_in, recent_readings

SYNC_DELAYS_S = {"always": 0.0, "10s": 10.0, "never": inf}
"""Seconds after which lines are fsynced, at the latest, by output.fsync."""
DRAIN_S = 1.0
"""The polls in flight get this long when the process ends or reloads; then they are abandoned."""
SETTLE_S = 1.5
"""Brokers get this long to read the last acknowledgements."""
ONCE_MARGIN_S = 1.0
"""`tick_once` waits this much longer than the longest poll."""
NEEDS_RESTART = ("interval", "window", "timezone", "parameters", "transport", "shard")
"""Top-level keys that a running process cannot change; neither can it change `api` and `output.folder`."""

log = logging.getLogger("etl")


class NeedsRestartError(Exception):
    """A changed config that a running process cannot apply; the message names the keys."""


class Pipeline:
    """The parts that turn polls into files; the caller holds the folder's lock.

    `clock` gives seconds since the epoch; `traces` keeps readings for the console; `system` is os, or a test double.
    `restored` is set once the last lines of an earlier process are shown.
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
        self.no_number = NoNumber(loaded.settings.parameters, loaded.config.interval, self.events.record)
        self.alarms = RaisedAlarms()
        self.restored = threading.Event()
        self.poller = Poller(clock, loaded.config.interval)
        raw, averages, alarms = (Appender(self.folder, kind, system=system) for kind in ("raw", "averages", "alarms"))
        self.logs = Logs(raw, averages, alarms, self.events, day_finder(loaded.zone))
        self.logs.use(SYNC_DELAYS_S[loaded.config.output.fsync])
        self.writer = Writer(self.logs, self.poller, self.standing, loaded.settings, clock)
        self.writer.sinks = self._sinks(loaded)
        self.writer.restorers = [self.alarms.restore]
        self.writer.forgetters = [self.standing.keep, *([traces.keep] if traces else [])]
        self._intake = Intake()
        self.writer.keep_days = loaded.config.output.keep_days
        self._opened: dict[str, Transport] = {}
        self._use_sources(loaded)

    def _sinks(self, loaded: Loaded) -> list[Sink]:
        """What takes each written batch: standing, the check for numbers, alarms, stdout, and the console's traces."""
        standing, no_number, traces, stdout = self.standing, self.no_number, self.traces, self._stdout
        sinks: list[Sink] = [
            lambda batch: standing.wrote(batch.updates),
            lambda batch: no_number.take(batch.updates),
            self.alarms.take,
        ]
        if traces:
            sinks.append(lambda batch: traces.add_all((update.machine, update.window) for update in batch.updates))
        if stdout:
            kinds = loaded.config.output.stdout
            sinks.append(lambda batch: stdout.put(batch.lines) if batch.kind in kinds else None)
        return sinks

    def _use_sources(self, loaded: Loaded) -> None:
        context = Context(
            self.clock,
            self._intake,
            loaded.file.parent,
            loaded.default_timeout,
            loaded.config.transport,
            partial(last_positions, self.folder),
        )
        self._opened = open_transports(loaded.sources, context, self._opened)
        transports: dict[str, Transport] = {}
        for kind, sources in by_kind(loaded.sources).items():
            transport = with_records(self._opened[kind], sources, context)
            transports |= dict.fromkeys([source.name for source in sources], transport)
        self._transports = set(transports.values())
        self.names = [source.name for source in loaded.sources]
        self.standing.addresses = {source.name: source.address for source in loaded.sources}
        self.poller.use(transports)
        with self.writer.paused():
            self.standing.use(self.names, self.clock())
            self.no_number.keep(set(self.names))
        if self.traces:
            self.traces.keep_sources(self.names)

    def restore_events(self) -> None:
        """Show the last events of an earlier process; before the first event is recorded."""
        with self._logged_if_unreadable():
            self.events.latest.extend(last_events(self.folder, LATEST))
            self.standing.add_outages(outages_in(self.events.latest))

    def restore_readings(self) -> None:
        """Show the last lines of an earlier process until new ones are written; before the writer runs."""
        with self.writer.paused(), self._logged_if_unreadable():
            folder, settings, names, now = self.folder, self.loaded.settings, set(self.names), self.clock()
            self.standing.restore(last_averages(folder, names, silence_s(settings.interval), now))
            if self.traces:
                span, fields = TRACE_READINGS * settings.interval, list(settings.parameters.values())
                self.traces.restore(recent_readings(folder, names, fields, span, now))
        self.restored.set()

    @contextmanager
    def _logged_if_unreadable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("The last lines in %s cannot be shown: %s", self.folder.root, error)

    def reload(self, loaded: Loaded) -> None:
        """Continue with another config; if its changes need a restart, NeedsRestartError, and nothing is applied."""
        previous = self.loaded
        if changed := needs_restart(previous.config, loaded.config):
            raise NeedsRestartError(f"{loaded.file}: {', '.join(changed)} changed, which needs a restart")
        retired = self._transports
        self._use_sources(loaded)
        self.loaded = loaded
        self.writer.keep_days = loaded.config.output.keep_days
        self.writer.reconfigure(loaded.settings, SYNC_DELAYS_S[loaded.config.output.fsync], self._sinks(loaded))
        self._retire(retired, _longest_poll(previous))

    def _retire(self, transports: Iterable[Transport], longest_poll: float) -> None:
        """Close transports once their polls are delivered: within DRAIN_S, or after the longest poll (seconds)."""

        def close() -> None:
            for transport in transports:
                transport.close()

        if self.poller.drain(DRAIN_S):
            close()
        else:
            later = threading.Timer(longest_poll, close)
            later.daemon = True
            later.start()

    def tick_once(self) -> None:
        """Poll every source now, and write the answers."""
        self.poller.poll(self.names)
        self.poller.drain(_longest_poll(self.loaded) + ONCE_MARGIN_S)
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

    def settle(self) -> None:
        """Tell the sources that keep what is not written yet what is written; after `close`, and the writer's end."""
        for transport in self._opened.values():
            if isinstance(transport, Acknowledging):
                transport.settle(SETTLE_S)


def _longest_poll(loaded: Loaded) -> float:
    """Seconds until each poll of an HTTP source is delivered: it may wait as long for a place as for the answer."""
    return 2 * max(map(loaded.timeout, loaded.sources), default=0.0)


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that changed and that a running process cannot change."""
    changed = [key for key in NEEDS_RESTART if getattr(old, key) != getattr(new, key)]
    changed += [f"api.{key}" for key in old.api.__struct_fields__ if getattr(old.api, key) != getattr(new.api, key)]
    return changed + ["output.folder"] * (old.output.folder != new.output.folder)
