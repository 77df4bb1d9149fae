"""Figures about a service's queries: how many, how fast, and which plugins they use.

Threads: everything belongs to the event loop that serves, with two exceptions. The thread that
plans a query sets its `uses`, one store; and any thread may call `running_on`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLES: Final = 240
"""The number of samples that are kept: two minutes, with two a second."""


@dataclass(frozen=True, slots=True)
class GenerationUse:
    """One generation of a plugin, as a query uses it."""

    plugin: str
    generation: int


@dataclass(slots=True)
class PluginCounts:
    """The queries that used one plugin since the service started, and those that it failed."""

    queries: int = 0
    errors: int = 0


class RunningQuery:
    """One query under way.

    Attributes:
        uses: the generations that it uses; none until it is planned.
    """

    __slots__ = ("uses",)

    def __init__(self) -> None:
        self.uses: frozenset[GenerationUse] = frozenset()


class QueryStats:
    """Counts queries.

    Attributes:
        queries: the number of queries that ended.
        errors: the number of those that failed.
        plugins: the same for each plugin.
        samples: the last of them, oldest first.
    """

    def __init__(self) -> None:
        self._running: Final[dict[int, RunningQuery]] = {}
        self.queries = 0
        self.errors = 0
        self.plugins: Final[dict[str, PluginCounts]] = {}
        self.samples: Final[deque[dict[str, Any]]] = deque(maxlen=SAMPLES)
        self._window_ms: list[float] = []
        self._window_errors = 0
        self._window_plugins: Counter[str] = Counter()
        self._window_began = monotonic()

    @property
    def running(self) -> int:
        """The number of queries under way."""
        return len(self._running)

    @property
    def in_flight(self) -> Counter[GenerationUse]:
        """The number of queries under way that use a generation."""
        return Counter(use for query in self._running.copy().values() for use in query.uses)

    def began(self) -> RunningQuery:
        """Count a query that begins."""
        query = RunningQuery()
        self._running[id(query)] = query
        return query

    def ended(self, query: RunningQuery, ms: float, *, blamed: str | None, failed: bool) -> None:
        """Count a query that ends.

        Args:
            query: the query.
            ms: milliseconds that it took.
            blamed: the plugin of the function that failed, if one did.
            failed: whether it failed, for any reason.
        """
        del self._running[id(query)]
        self.queries += 1
        self.errors += failed
        self._window_ms.append(ms)
        self._window_errors += failed
        for use in query.uses:
            self._counts_of(use.plugin).queries += 1
            self._window_plugins[use.plugin] += 1
        if blamed is not None:
            self._counts_of(blamed).errors += 1

    def running_on(self, plugin: str, generation: int) -> int:
        """The number of queries under way that use a generation."""
        return self.in_flight[GenerationUse(plugin, generation)]

    def sample(self, **facts: Any) -> dict[str, Any]:
        """The figures since the last sample, together with `facts`; kept in `samples`."""
        now = monotonic()
        seconds = max(now - self._window_began, 1e-6)
        times = sorted(self._window_ms)
        sample = {
            "at": time(),
            "qps": round(len(times) / seconds, 1),
            "errors": self._window_errors,
            "p50_ms": _quantile(times, 0.5),
            "p99_ms": _quantile(times, 0.99),
            "running": self.running,
            "plugins": self._rates(seconds),
            **facts,
        }
        self._window_ms, self._window_errors, self._window_began = [], 0, now
        self._window_plugins = Counter()
        self.samples.append(sample)
        return sample

    def _rates(self, seconds: float) -> Mapping[str, Mapping[str, float]]:
        in_flight: Counter[str] = Counter()
        for use, count in self.in_flight.items():
            in_flight[use.plugin] += count
        return {
            plugin: {
                "qps": round(self._window_plugins[plugin] / seconds, 1),
                "queries": counts.queries,
                "errors": counts.errors,
                "in_flight": in_flight[plugin],
            }
            for plugin, counts in {**dict.fromkeys(in_flight, _NO_COUNTS), **self.plugins}.items()
        }

    def _counts_of(self, plugin: str) -> PluginCounts:
        return self.plugins.setdefault(plugin, PluginCounts())


_NO_COUNTS: Final = PluginCounts()


def _quantile(ordered: list[float], share: float) -> float | None:
    """The value that this share of the others is below; None where there is none."""
    if not ordered:
        return None
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)
