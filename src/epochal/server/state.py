"""The state that every route works on: the runtime, the database, and the figures about them.

Threads: everything here belongs to the event loop that serves, with three exceptions. Any thread
may use the runtime and the database. The subscription's thread writes `_drain_starts` and counts in
`metrics`, one step each, and the loop reads them. `stop` is one store of a flag, and wakes
followers.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Final

from epochal.events import StateChanged
from epochal.observe.prometheus import ServiceMetrics
from epochal.observe.query_stats import QueryStats
from epochal.server.event_stream import EventFeed
from epochal.server.problem_details import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from epochal import Generation, Runtime
    from epochal.events import Event
    from epochal.jobs import Jobs, Streams
    from epochal.sql import Database


BODY_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    """The limits of one request, and of the service.

    Attributes:
        query_s: seconds that a query may take, to its last row.
        query_bytes: memory of a query's sorts, groups and joins; see `epochal.sql.Database`.
        memory_bytes: memory of the process above which queries are ended, the oldest first; None
            for three quarters of what it may have.
        rows: the number of rows of a query's answer.
        answer_bytes: the size of a query's answer. Rows as JSON are cut off before it; Arrow's
            batches, by their size in memory, after the chunk of about a megabyte that reaches it.
        request_bytes: the size of a request's body that is not an upload.
        upload_bytes: the size of an upload as it is sent.
        unpacked_bytes: the size of an upload's files.
        followers: the number of clients that follow the events at a time.
        connections: the number of connections; None for half of the files that the process may
            open.
        body_s: seconds that a request's body may take.
        drain_s: seconds that a change waits for its old generations before it answers; they go on
            draining in the background.
        stop_s: seconds that running requests have when the service stops, and drains after them.
    """

    query_s: float = 30.0
    query_bytes: int = 1 << 30
    memory_bytes: int | None = None
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


class ServiceState:
    """One runtime and its database, as they are served.

    Args:
        runtime: has the plugins.
        database: answers the queries.
        limits: of each request.
        jobs: runs the plugins' jobs, and ends with the service; None for a service without jobs.
        streams: its flows, which end with the service; None for a service without streams.

    Attributes:
        feed: the events, for the clients that follow them.
        query_stats: the queries under way, and their times.
        metrics: the figures for Prometheus.
        started: the service's start, in seconds since the Unix epoch.
        stopping: whether new queries and changes are refused.
        at_stop: what else to end when it stops; called in the event loop, maybe more than once.
        held_by: what holds every thread of the engine; see `epochal.server.engine_health`.
    """

    def __init__(
        self,
        runtime: Runtime,
        database: Database,
        *,
        limits: ServiceLimits | None = None,
        jobs: Jobs | None = None,
        streams: Streams | None = None,
    ) -> None:
        self.runtime: Final = runtime
        self.database: Final = database
        self.limits: Final = limits or ServiceLimits()
        self.jobs: Final = jobs
        self.streams: Final = streams
        self.query_stats: Final = QueryStats()
        self.metrics: Final = ServiceMetrics(runtime, self.query_stats)
        self.feed: Final = EventFeed(self.limits.followers)
        self.started: Final = time()
        self.stopping = False
        self.at_stop: Final[list[Callable[[], None]]] = []
        self.held_by: tuple[str, ...] = ()  # written and read by the event loop
        self._drain_starts: Final[dict[tuple[str, int], float]] = {}

    def subscribe(self) -> Callable[[], None]:
        """Subscribe to the runtime's events, inside a running loop; returns the unsubscription."""
        forward = self.feed.forwarder()

        def receive(event: Event) -> None:
            # One subscription for all three: each has a thread that every event wakes.
            self._note_drain(event)
            self.metrics.count(event)
            forward(event)

        return self.runtime.events.subscribe(receive)

    def drained_for(self, generation: Generation) -> float | None:
        """Seconds since a generation began to drain; None if that is not known yet."""
        since = self._drain_starts.get((generation.plugin, generation.number))
        return None if since is None else round(time() - since, 3)

    def _note_drain(self, event: Event) -> None:
        if not isinstance(event, StateChanged):
            return
        key = (event.plugin, event.generation)
        if event.new.name == "DRAINING":
            self._drain_starts[key] = event.at
        elif event.new.name == "REMOVED":
            self._drain_starts.pop(key, None)

    def check_serving(self) -> None:
        """Refuse new work while the service stops.

        Raises:
            Problem: it stops.
        """
        if self.stopping:
            raise Problem(503, "stopping", "the service is stopping; ask its successor")

    def stop(self) -> None:
        """Refuse new work from now on, and end the streams of events."""
        # The flag before the streams' end: a client that follows anew must find it set.
        self.stopping = True
        self.feed.close()
        for end in self.at_stop:
            end()


def service_of(request: Request) -> ServiceState:
    """The service that a request is for."""
    service: ServiceState = request.app.state.service
    return service
