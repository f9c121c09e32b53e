"""What the process counts, as Prometheus text. No label names a machine: the fleet may grow, this must not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from etl.live.pipeline import Pipeline
from etl.live.standing import STATES
from etl.storage.events import NAMES
from etl.storage.folder import KINDS, Folder

QUANTILES = (0.5, 0.99)


def exposition(pipeline: Pipeline) -> bytes:
    """The metrics as they are now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(pipeline))
    return generate_latest(registry)


class _Collector:
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def collect(self) -> Iterator[Any]:
        yield from _ticks(self._pipeline)
        yield from _polls(self._pipeline)
        yield from _writing(self._pipeline)
        events = CounterMetricFamily("telemetry_events", "Events by name: gaps, clock steps ...", labels=["event"])
        for name in NAMES:
            events.add_metric([name], self._pipeline.events.counts[name])
        yield events
        yield from _files(self._pipeline.folder)


def _ticks(pipeline: Pipeline) -> Iterator[Any]:
    ticks = CounterMetricFamily("telemetry_ticks", "Finished ticks of a slice by result.", labels=["result"])
    for result in ("written", "held"):
        ticks.add_metric([result], pipeline.standing.counts[f"ticks_{result}"])
    yield ticks


def _polls(pipeline: Pipeline) -> Iterator[Any]:
    standing, poller = pipeline.standing, pipeline.poller
    polls = CounterMetricFamily("telemetry_polls", "Polls by result.", labels=["result"])
    polls.add_metric(["answered"], standing.counts["answered"])
    polls.add_metric(["skipped"], poller.skipped)
    for reason, count in sorted(standing.failures.copy().items()):
        polls.add_metric([reason], count)
    yield polls
    sources = GaugeMetricFamily("telemetry_sources", "Sources by state.", labels=["state"])
    states = standing.states(pipeline.clock(), pipeline.loaded.config.interval)
    for state in reversed(STATES):
        sources.add_metric([state], states[state])
    yield sources
    in_flight = len(poller.in_flight)
    yield GaugeMetricFamily("telemetry_polls_in_flight", "Polls without a result yet.", value=in_flight)
    lateness = sorted(standing.lateness.copy())
    if lateness:
        name = "telemetry_poll_lateness_seconds"
        summary = Metric(name, "From due to processed, of the latest answered polls.", "summary")
        for quantile in QUANTILES:
            rank = min(len(lateness) - 1, int(quantile * len(lateness)))
            summary.add_sample(name, {"quantile": str(quantile)}, lateness[rank])
        yield summary


def _writing(pipeline: Pipeline) -> Iterator[Any]:
    standing = pipeline.standing
    for name, help_text in (
        ("readings", "Readings accepted."),
        ("rejected", "Answers and records that were not readings."),
        ("dropped", "Readings refused because the disk rejected writes and memory was full."),
    ):
        yield CounterMetricFamily(f"telemetry_{name}", help_text, value=standing.counts[name])
    pending = pipeline.writer.pending_bytes
    yield GaugeMetricFamily("telemetry_held_bytes", "Bytes of lines that wait for the disk.", value=pending)
    if standing.last_write is not None:
        name = "telemetry_last_write_timestamp_seconds"
        yield GaugeMetricFamily(name, "When readings were last written.", value=standing.last_write)


def _files(folder: Folder) -> Iterator[Any]:
    size = GaugeMetricFamily("telemetry_output_bytes", "Bytes of the newest file of each kind.", labels=["kind"])
    for kind in KINDS:
        with suppress(OSError):
            size.add_metric([kind], (folder.root / f"{kind}.jsonl").stat().st_size)
    yield size
    with suppress(OSError):
        for day in folder.reports()[-1:]:
            name, written = "telemetry_report_last_success_timestamp_seconds", folder.report_path(day).stat().st_mtime
            yield GaugeMetricFamily(name, "When the newest report was written.", value=written)
