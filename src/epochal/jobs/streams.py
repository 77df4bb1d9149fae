"""Moves events from sources to sinks, each of them reloadable at any time.

::

    with Streams(runtime) as streams:
        flow = streams.connect("orders.changes", "lake.files")
        flow.wait_idle()
        print(flow.status())

Each flow has a thread of its own (`flow`). A source or a sink has one flow at a time, even if the
runtime has several `Streams`: two flows would split its events between them, and call it at once.

Threads and locks
-----------------

``_flows`` and ``_closed`` are written under ``_lock``, under which no plugin code is called. The
tuple is never changed, only replaced: the thread that delivers events, and `status`, read it
without the lock.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.sync.retry import RetryPolicy
from epochal.errors import HostError
from epochal.events import ChangeCommitted, EventsMissed
from epochal.jobs.endpoints import KINDS
from epochal.jobs.flow import Flow, FlowStatus, StreamOptions
from epochal.jobs.ownership import claim

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.events import Event
    from epochal.runtime import Runtime


class Streams:
    """The flows of a runtime, from now until it is closed; a context manager.

    Args:
        runtime: has the plugins with the sources and sinks.
        retry: how long to wait after failures; None for `RetryPolicy()`.
    """

    def __init__(self, runtime: Runtime, *, retry: RetryPolicy | None = None) -> None:
        self._runtime: Final = runtime
        self._retry: Final = retry or RetryPolicy()
        self._lock: Final = threading.Lock()
        self._flows: tuple[Flow, ...] = ()
        self._closed = False
        self._unsubscribe: Final = runtime.events.subscribe(self._on_event)

    def connect(
        self,
        from_source: str,
        to_sink: str,
        *,
        batch: int = 1000,
        idle_s: float = 0.1,
        checkpoint_s: float = 1.0,
    ) -> Flow:
        """Begin to move events, from the sink's last checkpoint on.

        The flow waits for endpoints of plugins that are not active yet.

        Args:
            from_source: full name, `plugin.name`; a source is connected to one sink at a time.
            to_sink: full name.
            batch: how many events are read at once, at most.
            idle_s: seconds between two looks at a source that had none.
            checkpoint_s: seconds between two checkpoints while there are events.

        Raises:
            HostError: one of the two is connected already, or these streams are closed.
            ValueError: `batch` is below 1.
        """
        if batch < 1:
            raise ValueError(f"batch is {batch}; expected at least 1 event")
        options = StreamOptions(batch, idle_s, checkpoint_s, self._retry)
        with self._lock:
            if self._closed:
                raise HostError("these streams are closed; connect with others")
            release = _claim_both(self._runtime, (from_source, to_sink))
            try:
                flow = Flow(self._runtime, (from_source, to_sink), options, release)
            except BaseException:
                release()  # its thread could not be started
                raise
            self._flows = (*(flow for flow in self._flows if not flow.is_over), flow)
        return flow

    def status(self) -> list[FlowStatus]:
        """The status of every flow that has not ended."""
        return [flow.status() for flow in self._flows if not flow.is_over]

    def close(self, timeout: float = 10.0) -> None:
        """End every flow after its batch and a last checkpoint; see `Flow.close`. Idempotent.

        Args:
            timeout: seconds to wait for all of them.

        Raises:
            ExceptionGroup: of `HostError`, one for each flow that did not end.
        """
        self._unsubscribe()
        with self._lock:
            self._closed = True
            flows, self._flows = self._flows, ()
        failures: list[HostError] = []
        until = monotonic() + timeout
        for flow in reversed(flows):
            try:
                flow.close(max(0.0, until - monotonic()))
            except HostError as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("streams did not end", failures)

    def _on_event(self, event: Event) -> None:
        """New code deserves a trial now, not at the end of the old code's wait."""
        for flow in self._flows:
            if isinstance(event, EventsMissed) or (
                isinstance(event, ChangeCommitted) and not flow.plugins.isdisjoint(event.plugins)
            ):
                flow.reset_failures()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _claim_both(runtime: Runtime, names: tuple[str, str]) -> Callable[[], None]:
    """Claim the source and the sink; returns a function that ends both claims."""
    description = f"{' -> '.join(names)} is connected"
    releases: list[Callable[[], None]] = []

    def release() -> None:
        while releases:
            releases.pop()()

    try:
        for kind, name in zip(KINDS, names, strict=True):
            releases.append(claim(runtime, (kind.name, name), description))
    except HostError:
        release()
        raise
    return release
