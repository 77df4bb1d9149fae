"""Metrics for Prometheus: of a runtime in a host's own service, and of our service.

`observe_runtime(rt)` adds a runtime's metrics to the host's registry. `ServiceMetrics` are these
and those of queries, in a registry of their own. A new metric is declared in `_ChangeMetrics` or
`ServiceMetrics` if it counts events, or in `_CurrentState` or `_Queries` if it is read off at a
scrape. The names are an interface: docs/observability.md lists them, and a test compares the two.
"""

from __future__ import annotations

from functools import partial
from logging import WARNING
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from epochal.events import (
    ChangeCommitted,
    ChangeFailed,
    ChangeFinished,
    DrainTimedOut,
    GenerationLeaked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from epochal.events import Event
    from epochal.observe.query_stats import QueryStats
    from epochal.runtime import Runtime

_QUERY_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CUTOVER_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


def observe_runtime(runtime: Runtime, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Add a runtime's metrics to a registry, from now on: `observe_runtime(rt)`.

    Args:
        runtime: the runtime; one for each registry, since their metrics have the same names.
        registry: the registry that the host exposes; by default `prometheus_client`'s own.

    Returns:
        A function that ends it, and takes the metrics out of the registry.

    Raises:
        ValueError: the registry has such metrics already.
    """
    metrics = _ChangeMetrics(registry)
    state = _CurrentState(runtime)
    try:
        registry.register(state)
    except ValueError:
        metrics.remove()
        raise
    end = runtime.events.subscribe(metrics.count)

    def stop() -> None:
        end()
        metrics.remove()
        registry.unregister(state)

    return stop


class _ChangeMetrics:
    """The metrics that count the events of a runtime's changes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry: Final = registry
        counter = partial(Counter, registry=registry)
        self._changes: Final = counter(
            "epochal_changes",
            "Changes of plugins, by the code of their error (committed for none).",
            ["outcome"],
        )
        self._cutover_s: Final = Histogram(
            "epochal_cutover_seconds",
            "How long changes took, without the wait for operations to end.",
            buckets=_CUTOVER_S,
            registry=registry,
        )
        self._timed_out: Final = counter(
            "epochal_drain_timeouts", "Drains that outlasted their limit.", ["plugin"]
        )
        self._leaked: Final = counter(
            "epochal_leaked_generations",
            "Removed generations whose memory did not come back.",
            ["plugin"],
        )

    def count(self, event: Event) -> None:
        """Count one of the runtime's events."""
        match event:
            case ChangeCommitted():
                self._changes.labels("committed").inc()
            case ChangeFailed(code=code):
                self._changes.labels(code).inc()
            case ChangeFinished(cutover=cutover):
                self._cutover_s.observe(cutover.cutover_ms / 1000.0)
            case DrainTimedOut(plugin=plugin) if event.level >= WARNING:
                self._timed_out.labels(plugin).inc()
            case GenerationLeaked(plugin=plugin):
                self._leaked.labels(plugin).inc()
            case _:
                pass

    def remove(self) -> None:
        """Take the metrics out of their registry."""
        for metric in (self._changes, self._cutover_s, self._timed_out, self._leaked):
            self._registry.unregister(metric)


class ServiceMetrics:
    """The metrics of one service.

    Args:
        runtime: has the epochs.
        query_stats: counts the queries.
    """

    def __init__(self, runtime: Runtime, query_stats: QueryStats) -> None:
        self._registry: Final = CollectorRegistry(auto_describe=False)
        self._registry.register(_CurrentState(runtime))
        self._registry.register(_Queries(query_stats))
        self.count: Final = _ChangeMetrics(self._registry).count
        self._queries: Final = Counter(
            "epochal_queries",
            "Queries ended, by the code of their error (ok for none).",
            ["outcome"],
            registry=self._registry,
        )
        self._outcomes: Final[dict[str, Counter]] = {}  # the counters of `_queries`, by label
        self._query_s: Final = Histogram(
            "epochal_query_seconds",
            "How long queries took, to their last row.",
            buckets=_QUERY_S,
            registry=self._registry,
        )

    def query_ended(self, outcome: str, seconds: float) -> None:
        """Count a query by its outcome: `ok`, or an error's code."""
        counter = self._outcomes.get(outcome)
        if counter is None:
            counter = self._outcomes[outcome] = self._queries.labels(outcome)
        counter.inc()
        self._query_s.observe(seconds)

    def text(self) -> bytes:
        """All metrics, in Prometheus' text format."""
        return generate_latest(self._registry)


class _CurrentState(Collector):
    """A runtime's metrics that are read off at a scrape."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime: Final = runtime

    def describe(self) -> Iterator[Metric]:
        # So that a registry refuses a second runtime's.
        yield GaugeMetricFamily("epochal_epoch", "Number of the current epoch.")

    def collect(self) -> Iterator[Metric]:
        epoch, draining = self._runtime.epoch, len(self._runtime.draining)
        yield GaugeMetricFamily("epochal_epoch", "Number of the current epoch.", epoch.number)
        yield GaugeMetricFamily("epochal_plugins", "Active plugins.", len(epoch.generations))
        yield GaugeMetricFamily("epochal_draining", "Generations that drain.", draining)
        generations = GaugeMetricFamily(
            "epochal_plugin_generation",
            "The active generation of a plugin.",
            labels=["plugin", "version"],
        )
        for plugin, generation in epoch.generations.items():
            generations.add_metric([plugin, generation.version], generation.number)
        yield generations


class _Queries(Collector):
    """The metrics of queries that are read off at a scrape."""

    def __init__(self, query_stats: QueryStats) -> None:
        self._query_stats: Final = query_stats

    def collect(self) -> Iterator[Metric]:
        running = self._query_stats.running
        yield GaugeMetricFamily("epochal_queries_running", "Queries under way.", running)
        queries = CounterMetricFamily(
            "epochal_plugin_queries", "Queries that used a plugin.", labels=["plugin"]
        )
        errors = CounterMetricFamily(
            "epochal_plugin_errors", "Queries that a plugin's function failed.", labels=["plugin"]
        )
        for plugin, counts in self._query_stats.plugins.items():
            queries.add_metric([plugin], counts.queries)
            errors.add_metric([plugin], counts.errors)
        yield queries
        yield errors
