"""What the process counts, as Prometheus text. No label names a machine: the fleet may grow, this may not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from etl.tick import Tick


def exposition(tick: Tick) -> bytes:
    """The counts as they stand now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counts(tick))
    return generate_latest(registry)


class _Counts:
    def __init__(self, tick: Tick) -> None:
        self._tick = tick

    def collect(self) -> Iterator[Any]:
        tick = self._tick
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
            late = GaugeMetricFamily(
                "telemetry_poll_lateness_seconds",
                "From due to processed, of the latest answered polls.",
                labels=["quantile"],
            )
            for quantile in (0.5, 0.99):
                late.add_metric([str(quantile)], lateness[min(len(lateness) - 1, int(quantile * len(lateness)))])
            yield late
