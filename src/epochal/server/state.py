"""What every route works on: the runtime, the database, and what is told about them.

Who reads, who writes: everything here belongs to the event loop that serves, except the runtime and
the database, which any thread may use, and `stop`, which is one store of a flag.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Final

from epochal._core.generation.states import LifecycleState
from epochal.events import StateChanged
from epochal.observe.prometheus import Metrics
from epochal.observe.query_stats import Meter
from epochal.server.event_stream import Feed
from epochal.server.problem_details import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.generation.generation import Generation
    from epochal.events import Event
    from epochal.jobs import Jobs
    from epochal.runtime import Runtime
    from epochal.sql import Database


BODY_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one request may ask for.

    Attributes:
        query_s: seconds that a query may take, to its last row.
        rows: rows that a query may answer with.
        answer_bytes: size of a query's answer: of the rows as JSON, which are cut off before it; of
            Arrow's batches in memory, which are cut off after the piece of about a megabyte that
            reaches it.
        request_bytes: size of a request's body that is not an upload.
        upload_bytes: size of an upload as it is sent.
        unpacked_bytes: size of what is in it.
        followers: how many may follow the events at a time.
        connections: how many there may be; None for half of the files that the process may open.
        body_s: seconds that a request's body may take.
        drain_s: seconds that a change waits for its old generations before it answers; they go on
            draining in the background.
        stop_s: seconds that running requests are given when the service stops, and drains after
            them.
    """

    query_s: float = 30.0
    rows: int = 10_000
    answer_bytes: int = 64 << 20
    request_bytes: int = 1 << 20
    upload_bytes: int = 16 << 20
    unpacked_bytes: int = 64 << 20
    followers: int = 64
    connections: int | None = None
    body_s: float = BODY_S
    drain_s: float = 10.0
    stop_s: float = 10.0


class Service:
    """One runtime and its database, as they are served.

    Args:
        runtime: whose plugins.
        database: answers the queries.
        limits: for each request.
        jobs: runs the plugins' jobs; None where nobody does. It ends with the service.

    Attributes:
        feed: the events, for whoever follows.
        meter: what queries are under way, and how fast they are.
        metrics: the same for Prometheus.
        started: when, in seconds since the Unix epoch.
        stopping: whether it takes no new queries and changes any more.
        held_by: the calls of plugins that hold every thread of the engine; see
            `epochal.server.engine_health`.
    """

    def __init__(
        self,
        runtime: Runtime,
        database: Database,
        *,
        limits: Limits | None = None,
        jobs: Jobs | None = None,
    ) -> None:
        self.runtime: Final = runtime
        self.database: Final = database
        self.limits: Final = limits or Limits()
        self.jobs: Final = jobs
        self.meter: Final = Meter()
        self.metrics: Final = Metrics(runtime, self.meter)
        self.feed: Final = Feed(self.limits.followers)
        self.started: Final = time()
        self.stopping = False
        self.held_by: tuple[str, ...] = ()
        # Written by the subscription's thread, one step each; read by the loop.
        self._draining: Final[dict[tuple[str, int], float]] = {}

    def listen(self) -> Callable[[], None]:
        """Take in the runtime's events, inside a running loop; returns what ends it."""
        bring = self.feed.bringing()

        def take_in(event: Event) -> None:
            # One subscription for all three: each has a thread that every event wakes.
            self._note_drain(event)
            self.metrics.count(event)
            bring(event)

        return self.runtime.events.subscribe(take_in)

    def drained_for(self, generation: Generation) -> float | None:
        """Seconds since a generation began to drain; None if that is not known yet."""
        since = self._draining.get((generation.plugin, generation.number))
        return None if since is None else round(time() - since, 3)

    def _note_drain(self, event: Event) -> None:
        if not isinstance(event, StateChanged):
            return
        key = (event.plugin, event.generation)
        if event.new is LifecycleState.DRAINING:
            self._draining[key] = event.at
        elif event.new is LifecycleState.REMOVED:
            self._draining.pop(key, None)

    def check_serving(self) -> None:
        """Refuse new work while the service stops.

        Raises:
            Problem: it does.
        """
        if self.stopping:
            raise Problem(503, "stopping", "the service is stopping; ask its successor")

    def stop(self) -> None:
        """Take no new work, and let whoever follows the events go."""
        self.stopping = True
        self.feed.close()
