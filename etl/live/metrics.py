"""What the process counts, as Prometheus text. No label names a machine: the fleet may grow, this may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from etl.live.tick import Tick
from etl.storage.events import NAMES, Events
from etl.storage.folder import KINDS, Folder


def exposition(tick: Tick, events: Events, folder: Folder) -> bytes:
    """The counts as they stand now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counts(tick, events, folder))
    return generate_latest(registry)


class _Counts:
    def __init__(self, tick: Tick, events: Events, folder: Folder) -> None:
        self._tick = tick
        self._events = events
        self._folder = folder

    def collect(self) -> Iterator[Any]:
        yield from self._of_the_ticks()
        told = CounterMetricFamily("telemetry_events", "Events by their name: gaps, clock steps ...", labels=["event"])
        for name in NAMES:
            told.add_metric([name], self._events.counts[name])
        yield told
        size = GaugeMetricFamily("telemetry_output_bytes", "Bytes of the newest file of each kind.", labels=["kind"])
        for kind in KINDS:
            with suppress(OSError):
                size.add_metric([kind], (self._folder.root / f"{kind}.jsonl").stat().st_size)
        yield size
        with suppress(OSError):
            for day in self._folder.reports()[-1:]:
                made = self._folder.report_path(day).stat().st_mtime
                yield GaugeMetricFamily(
                    "telemetry_report_last_success_timestamp_seconds", "When the newest report was written.", value=made
                )

    def _of_the_ticks(self) -> Iterator[Any]:
        tick = self._tick
        ticks = CounterMetricFamily("telemetry_ticks", "Ticks by what became of their lines.", labels=["result"])
        for result in ("written", "held"):
            ticks.add_metric([result], tick.counts[result])
        yield ticks
        polls = CounterMetricFamily("telemetry_polls", "Polls by their result.", labels=["result"])
        polls.add_metric(["answered"], tick.counts["answered"])
        polls.add_metric(["skipped"], tick.counts["skipped"])
        for reason, count in sorted(tick.failures.copy().items()):
            polls.add_metric([reason], count)
        yield polls
        for name, what in (
            ("readings", "Readings taken."),
            ("rejected", "Answers and records that were no readings."),
            ("dropped", "Readings refused because the disk took none and memory was full."),
        ):
            yield CounterMetricFamily(f"telemetry_{name}", what, value=tick.counts[name])
        sources = GaugeMetricFamily("telemetry_sources", "Sources by their state.", labels=["state"])
        down = len(tick.down)
        sources.add_metric(["up"], tick.sources - down)
        sources.add_metric(["down"], down)
        yield sources
        yield GaugeMetricFamily("telemetry_polls_in_flight", "Polls not yet answered.", value=len(tick.in_flight))
        yield GaugeMetricFamily("telemetry_held_bytes", "Bytes of lines that wait for the disk.", value=tick.held)
        if tick.last_write is not None:
            yield GaugeMetricFamily(
                "telemetry_last_write_timestamp_seconds", "When readings were last written.", value=tick.last_write
            )
        lateness = sorted(tick.lateness.copy())
        if lateness:
            name = "telemetry_poll_lateness_seconds"
            late = Metric(name, "From due to processed, of the latest answered polls.", "summary")
            for quantile in (0.5, 0.99):
                place = min(len(lateness) - 1, int(quantile * len(lateness)))
                late.add_sample(name, {"quantile": str(quantile)}, lateness[place])
            yield late
