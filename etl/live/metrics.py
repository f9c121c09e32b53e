"""What the process counts, as Prometheus text. No label names a machine: the fleet may grow, this must not."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from etl.live.pipeline import Pipeline
from etl.live.standing import STATES
from etl.storage.events import NAMES
from etl.storage.folder import KINDS, Folder

QUANTILES = (0.5, 0.99)


def exposition(pipeline: Pipeline) -> bytes:
    """The metrics as they are now."""
    return generate_latest(_Collector(pipeline))


class _Collector(NamedTuple):
    pipeline: Pipeline

    def collect(self) -> Iterator[Metric]:
        yield from _polling(self.pipeline)
        yield from _writing(self.pipeline)
        yield _alarms(self.pipeline)
        events = CounterMetricFamily("telemetry_events", "Events by name: gaps, clock steps ...", labels=["event"])
        yield _filled(events, {name: self.pipeline.events.counts[name] for name in NAMES})
        yield from _files(self.pipeline.folder)


def _filled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _polling(pipeline: Pipeline) -> Iterator[Metric]:
    standing, poller = pipeline.standing, pipeline.poller
    ticks = CounterMetricFamily("telemetry_ticks", "Finished ticks of a slice by result.", labels=["result"])
    yield _filled(ticks, {result: standing.counts[f"ticks_{result}"] for result in ("written", "held")})
    polls = CounterMetricFamily("telemetry_polls", "Polls by result.", labels=["result"])
    failures = dict(sorted(standing.failures.copy().items()))
    yield _filled(polls, {"answered": standing.counts["answered"], "skipped": poller.skipped, **failures})
    sources = GaugeMetricFamily("telemetry_sources", "Sources by state.", labels=["state"])
    states = standing.states(pipeline.clock(), pipeline.loaded.config.interval)
    yield _filled(sources, {state: states[state] for state in reversed(STATES)})
    in_flight = len(poller.in_flight)
    yield GaugeMetricFamily("telemetry_polls_in_flight", "Polls without a result yet.", value=in_flight)
    if lateness := sorted(standing.lateness.copy()):
        name = "telemetry_poll_lateness_seconds"
        summary = Metric(name, "From due to processed, of the latest answered polls.", "summary")
        for quantile in QUANTILES:
            rank = min(len(lateness) - 1, int(quantile * len(lateness)))
            summary.add_sample(name, {"quantile": str(quantile)}, lateness[rank])
        yield summary


def _writing(pipeline: Pipeline) -> Iterator[Metric]:
    standing = pipeline.standing
    for name, help_text in (
        ("readings", "Readings accepted."),
        ("rejected", "Answers and records that were not readings."),
        ("dropped", "Readings refused because the disk rejected writes and memory was full."),
    ):
        yield CounterMetricFamily(f"telemetry_{name}", help_text, value=standing.counts[name])
    name, help_text = "telemetry_no_number", "Parameters of machines whose last readings have no number."
    yield GaugeMetricFamily(name, help_text, value=pipeline.no_number.lacking)
    pending = pipeline.writer.pending_bytes
    yield GaugeMetricFamily("telemetry_held_bytes", "Bytes of lines that wait for the disk.", value=pending)
    if standing.last_write is not None:
        name = "telemetry_last_write_timestamp_seconds"
        yield GaugeMetricFamily(name, "When readings were last written.", value=standing.last_write)


def _alarms(pipeline: Pipeline) -> Metric:
    counts = pipeline.alarms.counts()
    alarms = GaugeMetricFamily("telemetry_alarms", "Machines whose alarm is raised.", labels=["alarm", "state"])
    for name in dict.fromkeys([*(rule.name for rule in pipeline.loaded.settings.alarms), *sorted(counts)]):
        alarms.add_metric([name, "raised"], counts[name])
    return alarms


def _files(folder: Folder) -> Iterator[Metric]:
    size = GaugeMetricFamily("telemetry_output_bytes", "Bytes of the newest file of each kind.", labels=["kind"])
    for kind in KINDS:
        with suppress(OSError):
            size.add_metric([kind], (folder.root / f"{kind}.jsonl").stat().st_size)
    yield size
    with suppress(OSError):
        for day in folder.reports()[-1:]:
            name, written = "telemetry_report_last_success_timestamp_seconds", folder.report_path(day).stat().st_mtime
            yield GaugeMetricFamily(name, "When the newest report was written.", value=written)
