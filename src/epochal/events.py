"""What happened, as typed records, delivered without ever touching what happens.

Every move of a generation, every change, drain, time-out and failure is an `Event`. Subscribers are
foreign code: they may be slow, block or raise. So `emit` only puts the event on a queue per
subscriber, and each subscriber has a thread of its own, started with its subscription and ended
with it. A subscriber that blocks delays nobody but itself; one that raises is told of in a
`SubscriberFailed` event, to the others. A subscriber that falls `BACKLOG` events behind misses the
rest of the burst, and the next event it gets is an `EventsMissed` that says how many.

Who reads, who writes
---------------------

``EventStream._subscribers`` is an immutable tuple, replaced under ``_lock`` by `subscribe` and by
the function that it returns; `emit` reads it without a lock and sees one or the other, whole. A
subscription's queue has many writers and one reader. ``_missed`` may lose a count to a race between
two emitters in an overflow, which only makes its report a lower bound.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from epochal._core.introspect.tracebacks import format_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal._core.generation.states import LifecycleState
    from epochal.report import Cutover

BACKLOG: Final = 10_000
"""How many events a subscriber may be behind before it misses some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        at: seconds since the Unix epoch.
    """

    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """A generation moved in its life."""

    plugin: str
    generation: int
    old: LifecycleState
    new: LifecycleState


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeStarted(Event):
    """A change began to run; `steps` is its plan, a line each."""

    change: int
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCommitted(Event):
    """A change was published: operations that begin now see the new epoch."""

    change: int
    epoch_before: int
    epoch_after: int
    plugins: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDropped(Event):
    """A new generation serves that has no place for some state of the old one; `dropped` says what.

    To refuse such a version, export a service: its `import_state` may raise.
    """

    plugin: str
    generation: int
    dropped: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFailed(Event):
    """A change failed before publish and was rolled back; nothing that serves was touched."""

    change: int
    code: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFinished(Event):
    """Every old generation of a committed change is removed; the final report."""

    change: int
    cutover: Cutover


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainTimedOut(Event):
    """A drain outlasted its limit and goes on in the background."""

    plugin: str
    generation: int
    waited: float
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldersAsked(Event):
    """A drain outlasted its limit, and those who use the generation were asked to stop."""

    plugin: str
    generation: int
    holders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownFailed(Event):
    """Something raised while a generation was shut down; the shutdown went on."""

    plugin: str
    generation: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationLeaked(Event):
    """A removed generation's memory did not come back; `leaks` says what keeps it."""

    plugin: str
    generation: int
    leaks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFaulted(Event):
    """Something in the store went wrong that stops nothing, such as a file that cannot be removed.

    What stops a change is that change's error.
    """

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRefused(Event):
    """A plugin in a watched folder was saved and cannot serve; what served serves on.

    Attributes:
        path: of the plugin's file or folder.
        code: the error's stable code.
        error: its text.
    """

    path: str
    code: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGone(Event):
    """An active plugin's file or folder was deleted; it serves on: nobody asked to remove it."""

    path: str
    plugin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TickEnded(Event):
    """A job ran and ended well."""

    plugin: str
    generation: int
    job: str
    took_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TickFailed(Event):
    """A job ran and raised.

    Attributes:
        failures: how many ticks in a row.
        wait_s: seconds until it is tried again.
        by_hand: whether somebody ran it: that is not tried again, and not counted in a row.
    """

    plugin: str
    generation: int
    job: str
    error: str
    failures: int
    wait_s: float
    by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TicksSkipped(Event):
    """Ticks of a job were left out.

    Attributes:
        count: how many, since the last that was told.
        reason: "too late" for the grace; "still running", the one before; "busy", no worker was
            free, or the process away, and one tick stands for all.
    """

    plugin: str
    job: str
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRefused(Event):
    """A job is not run: its schedule cannot be kept. The others are."""

    plugin: str
    job: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersBusy(Event):
    """Jobs are due, and no worker has been free for a while.

    Attributes:
        waiting: how many are due.
        running: the jobs that have the workers.
    """

    waiting: int
    running: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerMoved(Event):
    """A job's circuit breaker is "closed", "open" or "half-open" now."""

    plugin: str
    job: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFailed(Event):
    """A batch of a stream failed; it goes on from the sink's last position after `wait_s`."""

    source: str
    sink: str
    error: str
    failures: int
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberFailed(Event):
    """A subscriber raised; it goes on getting events."""

    subscriber: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsMissed(Event):
    """This subscriber was too far behind and missed at least `count` events."""

    count: int


class EventStream:
    """Where a runtime tells what it does."""

    __slots__ = ("_lock", "_subscribers")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._subscribers: tuple[_Subscription, ...] = ()

    def subscribe(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Call `callback` with each event from now on, in order, on a thread of its own.

        Returns:
            A function that ends the subscription: what was emitted before is still delivered; it
            returns when that is done (at once when called from the callback itself).
        """
        subscription = _Subscription(callback, self)
        with self._lock:
            self._subscribers = (*self._subscribers, subscription)
        return subscription.end

    def emit(self, event: Event) -> None:
        """Tell every subscriber; never blocks and never raises what a subscriber raised."""
        for subscription in self._subscribers:
            subscription.put(event)

    def close(self) -> None:
        """End every subscription; each still gets what was emitted before."""
        for subscription in self._subscribers:
            subscription.end()

    def tell_others(self, failed: _Subscription, event: Event) -> None:
        """Emit to every subscription but one (the one that the event is about)."""
        for subscription in self._subscribers:
            if subscription is not failed:
                subscription.put(event)

    def forget(self, subscription: _Subscription) -> None:
        """Stop emitting to a subscription."""
        with self._lock:
            self._subscribers = tuple(s for s in self._subscribers if s is not subscription)


class _Subscription:
    """One subscriber, its queue and its thread."""

    __slots__ = ("_callback", "_missed", "_queue", "_stream", "_thread")

    def __init__(self, callback: Callable[[Event], object], stream: EventStream) -> None:
        self._callback: Final = callback
        self._stream: Final = stream
        self._queue: Final[SimpleQueue[Event | None]] = SimpleQueue()
        self._missed = 0
        self._thread: Final = threading.Thread(target=self._run, name="epochal-events", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        if self._queue.qsize() >= BACKLOG:
            self._missed += 1
            return
        self._tell_missed()
        self._queue.put(event)

    def _tell_missed(self) -> None:
        missed, self._missed = self._missed, 0
        if missed:
            self._queue.put(EventsMissed(count=missed))

    def end(self) -> None:
        self._stream.forget(self)
        self._tell_missed()
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            # A subscriber that never returns must not hold up whoever ends it.
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                self._callback(event)
            except Exception as error:  # noqa: BLE001  foreign code: told to the others, survived
                name = getattr(self._callback, "__qualname__", type(self._callback).__qualname__)
                self._stream.tell_others(
                    self, SubscriberFailed(subscriber=name, error=format_error(error))
                )
