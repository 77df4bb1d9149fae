"""What the queries do, counted for people: how many, how fast, which plugins they use.

Who reads, who writes: the event loop that serves, alone.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SAMPLES: Final = 240
"""How many samples are kept; with two a second, two minutes."""


@dataclass(frozen=True, slots=True)
class Use:
    """One generation of a plugin, as a query uses it."""

    plugin: str
    generation: int


@dataclass(slots=True)
class PluginCounts:
    """What queries did with one plugin since the service started."""

    queries: int = 0
    errors: int = 0


class Meter:
    """Counts queries.

    Attributes:
        running: queries under way.
        queries: queries ended.
        errors: how many of them failed.
        plugins: what they did with each plugin.
        in_flight: queries under way that use a generation.
        samples: the last of them, oldest first.
    """

    def __init__(self) -> None:
        self.running = 0
        self.queries = 0
        self.errors = 0
        self.plugins: Final[dict[str, PluginCounts]] = {}
        self.in_flight: Final[Counter[Use]] = Counter()
        self.samples: Final[deque[dict[str, Any]]] = deque(maxlen=SAMPLES)
        self._window_ms: list[float] = []
        self._window_errors = 0
        self._window_plugins: Counter[str] = Counter()
        self._window_began = monotonic()

    def began(self) -> None:
        """A query began."""
        self.running += 1

    def pinned(self, uses: Iterable[Use]) -> None:
        """It was planned, and uses these generations."""
        self.in_flight.update(uses)

    def ended(self, uses: Iterable[Use], ms: float, *, blamed: str | None, failed: bool) -> None:
        """It ended.

        Args:
            uses: as given to `pinned`; nothing if it was never planned.
            ms: milliseconds that it took.
            blamed: the plugin whose function failed, if one did.
            failed: whether it failed, for whatever reason.
        """
        self.running -= 1
        self.queries += 1
        self.errors += failed
        self._window_ms.append(ms)
        self._window_errors += failed
        for use in uses:
            self._let_go(use)
            self._of(use.plugin).queries += 1
            self._window_plugins[use.plugin] += 1
        if blamed is not None:
            self._of(blamed).errors += 1

    def sample(self, **facts: Any) -> dict[str, Any]:
        """How it was since the last sample, together with `facts`; kept."""
        now = monotonic()
        seconds = max(now - self._window_began, 1e-6)
        times = sorted(self._window_ms)
        taken = {
            "at": time(),
            "qps": round(len(times) / seconds, 1),
            "errors": self._window_errors,
            "p50_ms": _rank(times, 0.5),
            "p99_ms": _rank(times, 0.99),
            "running": self.running,
            "plugins": self._rates(seconds),
            **facts,
        }
        self._window_ms, self._window_errors, self._window_began = [], 0, now
        self._window_plugins = Counter()
        self.samples.append(taken)
        return taken

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
            for plugin, counts in {**dict.fromkeys(in_flight, _NONE), **self.plugins}.items()
        }

    def _of(self, plugin: str) -> PluginCounts:
        return self.plugins.setdefault(plugin, PluginCounts())

    def _let_go(self, use: Use) -> None:
        self.in_flight[use] -= 1
        if not self.in_flight[use]:
            del self.in_flight[use]


_NONE: Final = PluginCounts()


def _rank(ordered: list[float], share: float) -> float | None:
    """The value that this share of the others is not above; None where there is none."""
    if not ordered:
        return None
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 3)
