"""A flow: events on their way from one source to one sink, by a thread of its own.

One batch, read and written, is one unit of work (`ends.engaged`). What the flow is sure of between
two of them is one thing: both ends *stand* where the sink's checkpoint was, or went on from there
together. It knows that by a token, which it writes to both as it starts them. If it finds another
one there, since an end is new, or was another flow's, or a failure made it forget its own, it asks
the sink for its checkpoint, and starts the source there. So whatever a flow was not told, or was
told wrongly, costs events that come twice, and none that does not come.

Who reads, who writes
---------------------

``_asked``, ``_forgiven`` and ``_stopping`` are written by others, ``_answered`` and ``_is_over`` by
the flow's thread; all of these under ``_changed``, which wakes whoever waits for one of them, and
under which no foreign code is called. Who asks whether the flow is idle takes the next number; the
thread notes the highest *before* it looks, and if the look finds nothing it answers that one. So
no answer is by a look that began before the question. What is left is the thread's own, and what
`status` tells of it is one reference each.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.tracebacks import format_error
from epochal.errors import HostError, RuntimeClosedError
from epochal.events import FlowFailed
from epochal.jobs.endpoints import EndFailedError, engaged
from epochal.jobs.retry import Breaker, Circuit, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.jobs.endpoints import End, Ends
    from epochal.runtime import Runtime


@dataclass(frozen=True, slots=True)
class FlowStatus:
    """How a flow stands.

    Attributes:
        source: full name.
        sink: full name.
        events: written to the sink, in this process; one that was given again counts again.
        position: up to which the sink has made them durable, as it said last.
        waiting: for what it waits: an end whose plugin is not active, or whose object is busy;
            empty for nothing.
        failures_in_row: batches that failed since the last that went well.
        circuit: whether failures hold it back.
        last_error: of the last failure, in one line, and of which end; empty for none.
    """

    source: str
    sink: str
    events: int
    position: Any
    waiting: str
    failures_in_row: int
    circuit: Circuit
    last_error: str


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a flow goes.

    Attributes:
        batch: how many events are read at once, at most.
        idle_s: seconds between two looks at a source that had nothing.
        checkpoint_s: seconds between two checkpoints while there is something.
        patience: how failures are dealt with.
    """

    batch: int
    idle_s: float
    checkpoint_s: float
    patience: RetryPolicy


class Flow:
    """Events on their way from one source to one sink; made by `Streams.connect`."""

    def __init__(
        self,
        runtime: Runtime,
        names: tuple[str, str],
        pace: StreamOptions,
        on_end: Callable[[], object],
    ) -> None:
        self._runtime: Final = runtime
        self._names: Final = names
        self._pace: Final = pace
        self._on_end: Final = on_end
        self._changed: Final = threading.Condition()
        self._asked = 0
        self._forgiven = False
        self._stopping = False
        self._answered = 0
        self._is_over = False
        # Below: written by the flow's thread alone.
        self._breaker: Final = Breaker(pace.patience)
        self._looked = 0
        self._standing = object()
        self._read_to: Any = None
        self._events = 0
        self._position: Any = None
        self._dirty = False
        self._checkpoint_at = 0.0
        self._waiting = ""
        self._last_error = ""
        self._thread: Final = threading.Thread(
            target=self._run, name=f"epochal-stream {names[0]} -> {names[1]}", daemon=True
        )
        self._thread.start()

    @property
    def plugins(self) -> frozenset[str]:
        """The ids of the plugins of both ends."""
        return frozenset(name.partition(".")[0] for name in self._names)

    @property
    def is_over(self) -> bool:
        """Whether it has ended: it was closed, or its runtime was."""
        return self._is_over

    def status(self) -> FlowStatus:
        """How it stands."""
        return FlowStatus(
            *self._names,
            events=self._events,
            position=self._position,
            waiting=self._waiting,
            failures_in_row=self._breaker.failures,
            circuit=self._breaker.state,
            last_error=self._last_error,
        )

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until the source has nothing more and the sink was asked to make all of it durable.

        The flow looks at once, unless it waits after a failure.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            Whether that came; not so when the flow ended before.
        """
        with self._changed:
            self._asked += 1
            question = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= question or self._is_over, timeout)
            return self._answered >= question

    def forgive(self) -> None:
        """Forget what has failed and try again now: an end was replaced."""
        with self._changed:
            self._forgiven = True
            self._changed.notify_all()

    def close(self, timeout: float = 10.0) -> None:
        """End after the batch that is under way, and have the sink make all durable.

        If it cannot, that is told as any failure. What it held then, or held when it was removed,
        comes again to who connects next.

        Raises:
            HostError: that took longer than `timeout` seconds; it goes on.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise HostError(
                f"the stream {' -> '.join(self._names)} did not end within {timeout:g} s; "
                "a call of its plugins is still under way"
            )

    # --- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._rest(self._attempt(self._flow))
            self._attempt(self._finish, wait=True)
        except RuntimeClosedError as error:
            self._last_error = format_error(error)
        finally:
            self._on_end()
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _rest(self, pause: tuple[float, bool]) -> None:
        """Wait, or until there is something to do."""
        seconds, has_failed = pause
        if not seconds:
            return
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._stopping
                    or self._forgiven
                    # Who waits for the end of a failing flow must not make it try more often.
                    or (self._asked > self._looked and not has_failed)
                ),
                min(seconds, threading.TIMEOUT_MAX),  # a breaker may rest until a reload
            )
            forgiven, self._forgiven = self._forgiven, False
        if forgiven:
            self._breaker.succeeded()

    def _attempt(self, work: Callable[[Ends], float], *, wait: bool = False) -> tuple[float, bool]:
        """Do one thing with both ends.

        Returns:
            Seconds to wait before the next, and whether it failed.

        Raises:
            RuntimeClosedError: there is nothing to work with any more.
        """
        self._looked = self._asked
        self._breaker.begin()
        told = ""
        try:
            with engaged(self._runtime, self._names, wait=wait) as ends:
                self._waiting = ends.waiting
                self._tell_faults(ends)
                pause_s = work(ends)
        except RuntimeClosedError:
            raise  # not of a plugin's: those come as the next
        except EndFailedError as error:
            told = str(error)
        except Exception as error:  # noqa: BLE001  a position that cannot be compared, say
            told = format_error(error)
        if told:
            return self._failed(told), True
        self._breaker.succeeded()
        return pause_s, False

    def _flow(self, ends: Ends) -> float:
        if ends.source is None or ends.sink is None:
            # It may be long until both are there again.
            self._save(ends)
            return self._pace.idle_s
        self._stand(ends.source, ends.sink)
        return self._move(ends.source, ends.sink)

    def _finish(self, ends: Ends) -> float:
        self._save(ends)
        return 0.0

    def _stand(self, source: End, sink: End) -> None:
        """Have the source go on where the sink's checkpoint is, unless it did from there."""
        if source.kept.sync_token is sink.kept.sync_token is self._standing:
            return
        if not sink.kept.is_started:
            sink.call("start", None)
            sink.kept.is_started = True
        self._position = sink.call("checkpoint")
        # One that fails to start again has no position any more that a new one could start at.
        source.kept.is_started = False
        source.call("start", self._position)
        source.kept.is_started = True
        self._standing = source.kept.sync_token = sink.kept.sync_token = object()
        self._read_to = self._position
        self._dirty = False
        self._acknowledge(source)

    def _move(self, source: End, sink: End) -> float:
        events = source.call("read", self._pace.batch)
        if events:
            self._dirty = True
            sink.call("write", events)
            self._events += len(events)
            self._read_to = events[-1][0]
        goes_on = bool(events) or self._has_moved(source)
        if self._dirty and (not goes_on or monotonic() >= self._checkpoint_at):
            self._checkpoint(source, sink)
        if goes_on:
            return 0.0
        with self._changed:
            self._answered = self._looked
            self._changed.notify_all()
        return self._pace.idle_s

    def _has_moved(self, source: End) -> bool:
        """Whether a source that gave nothing went on all the same: it leaves events out."""
        before, self._read_to = self._read_to, source.call("checkpoint")
        return bool(self._read_to != before)

    def _save(self, ends: Ends) -> None:
        """Have what the sink holds made durable, which needs no source."""
        if self._dirty and ends.sink is not None and ends.sink.kept.is_started:
            self._checkpoint(ends.source, ends.sink)

    def _checkpoint(self, source: End | None, sink: End) -> None:
        self._position = sink.call("checkpoint")
        self._dirty = False
        self._checkpoint_at = monotonic() + self._pace.checkpoint_s
        if source is not None:
            self._acknowledge(source)

    def _acknowledge(self, source: End) -> None:
        if self._position is not None and source.can("acknowledge"):
            source.call("acknowledge", self._position)

    # --- telling -----------------------------------------------------------------------------

    def _failed(self, told: str) -> float:
        # What was read and not written is read again.
        self._standing = object()
        wait_s = self._breaker.failed()
        self._tell(told, wait_s)
        return wait_s

    def _tell_faults(self, ends: Ends) -> None:
        """Tell what the old ones failed with as those that are here took over."""
        for end in (ends.source, ends.sink):
            if end is not None and end.kept.handover_error:
                self._tell(f"{end.told}, {end.kept.handover_error}", 0.0)
                end.kept.handover_error = ""

    def _tell(self, told: str, wait_s: float) -> None:
        self._last_error = told
        self._runtime.events.emit(
            FlowFailed(
                source=self._names[0],
                sink=self._names[1],
                error=told,
                failures=self._breaker.failures,
                wait_s=wait_s,
            )
        )

    def __repr__(self) -> str:
        return f"<flow {' -> '.join(self._names)}, {self._events} events>"
