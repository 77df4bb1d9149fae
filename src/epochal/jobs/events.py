"""What `Jobs` tells of: each thing that can happen to a job, as its event.

`emit` puts an event on queues and calls nobody, so all of this may be used under a lock, and is:
what is told is in the order in which it happened.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from epochal.events import (
    BreakerMoved,
    JobRefused,
    StoreFaulted,
    SubscriberFailed,
    TickEnded,
    TickFailed,
    TicksSkipped,
    WorkersBusy,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from epochal.events import EventStream
    from epochal.jobs.job_state import Line
    from epochal.jobs.retry import Breaker
    from epochal.jobs.run import Outcome


class Telling:
    """Tells a runtime's subscribers.

    Args:
        events: the runtime's.
    """

    __slots__ = ("_emit",)

    def __init__(self, events: EventStream) -> None:
        self._emit: Final = events.emit

    def ended(self, line: Line, outcome: Outcome) -> None:
        """A run ended well."""
        plugin, generation = _plugin(line.name), outcome.generation
        took_ms = outcome.took_ms
        self._emit(TickEnded(plugin=plugin, generation=generation, job=line.name, took_ms=took_ms))

    def failed(
        self, line: Line, generation: int, error: str, wait_s: float, *, by_hand: bool = False
    ) -> None:
        """A run failed."""
        self._emit(
            TickFailed(
                plugin=_plugin(line.name),
                generation=generation,
                job=line.name,
                error=error,
                failures=line.breaker.failures,
                wait_s=wait_s,
                by_hand=by_hand,
            )
        )

    def skipped(self, line: Line, count: int, reason: str) -> None:
        """Ticks were left out, if any were."""
        if count:
            plugin = _plugin(line.name)
            self._emit(TicksSkipped(plugin=plugin, job=line.name, count=count, reason=reason))

    @contextmanager
    def breaker(self, line: Line) -> Generator[Breaker]:
        """Around what may move a job's breaker: tells of it if it did."""
        breaker = line.breaker
        before = breaker.state
        yield breaker
        if breaker.state is not before:
            state = breaker.state.value
            self._emit(BreakerMoved(plugin=_plugin(line.name), job=line.name, state=state))

    def refused(self, name: str, error: str) -> None:
        """A job cannot be kept."""
        self._emit(JobRefused(plugin=_plugin(name), job=name, error=error))

    def busy(self, waiting: int, running: tuple[str, ...]) -> None:
        """No worker is free."""
        self._emit(WorkersBusy(waiting=waiting, running=running))

    def fault(self, text: str) -> None:
        """Something is wrong with the file of positions."""
        self._emit(StoreFaulted(error=text))

    def broke(self, error: str) -> None:
        """A fault of ours that is no job's."""
        self._emit(SubscriberFailed(subscriber="Jobs", error=error))


def _plugin(name: str) -> str:
    return name.partition(".")[0]
