"""A flow: moves events from one source to one sink, on a thread of its own.

One batch, read and written, is one unit of work (`endpoints.locked_endpoints`). Between two units
the flow relies on one fact: both endpoints started at the sink's checkpoint, and went on together.
It recognises that by a *sync token*, which it writes to both as it starts them. If it finds another
token (an endpoint is new, or was another flow's, or the flow dropped its own after a failure), it
asks the sink for its checkpoint and starts the source there. So a missing or wrong token causes
duplicates, never loss (at-least-once).

Threads and locks
-----------------

Callers write ``_asked``, ``_reset`` and ``_stopping``; the flow's thread writes ``_answered`` and
``_ended``. ``_lock`` guards ``_asked`` and ``_reset``; no plugin code is called under it.
``_woken`` wakes the thread. `wait_idle` takes the next number of ``_asked``, and puts its
completion into ``_questions`` *before* it looks at ``_ended``, which the thread sets *before* it
looks for questions. The thread notes the highest number *before* it looks for events, and if it
finds none, it answers that number. So no answer comes from a look that began before the question.
The other attributes are the thread's own; those
that `status` reads are one reference each.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from epochal._core.sync.completion import Completion
from epochal._core.sync.retry import Breaker, Circuit, RetryPolicy
from epochal._core.sync.threads import start_thread
from epochal.errors import HostError, RuntimeClosedError, format_error
from epochal.jobs.endpoints import EndpointError, locked_endpoints
from epochal.jobs.events import FlowFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal.jobs.endpoints import FlowEndpoint, FlowEndpoints
    from epochal.runtime import Runtime


@dataclass(frozen=True, slots=True)
class FlowStatus:
    """The status of a flow at one moment.

    Attributes:
        source: full name.
        sink: full name.
        events: written to the sink in this process; an event that is repeated counts again.
        position: up to which the sink's last checkpoint is durable.
        waiting: an endpoint without an active plugin, or with a busy object; else empty.
        failures_in_row: batches that failed since the last that succeeded.
        circuit: whether failures stop the flow.
        last_error: of the last failure, in one line, with its endpoint; empty for none.
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
    """The options of `Streams.connect`.

    Attributes:
        batch: how many events are read at once, at most.
        idle_s: seconds between two looks at a source that had none.
        checkpoint_s: seconds between two checkpoints while there are events.
        retry: how long to wait after failures.
    """

    batch: int
    idle_s: float
    checkpoint_s: float
    retry: RetryPolicy


class Flow:
    """Moves events from one source to one sink; made by `Streams.connect`."""

    def __init__(
        self,
        runtime: Runtime,
        names: tuple[str, str],
        options: StreamOptions,
        on_end: Callable[[], object],
    ) -> None:
        self._runtime: Final = runtime
        self._names: Final = names
        self._options: Final = options
        self._on_end: Final = on_end
        # Not a Condition, which is written in Python: a caller's Ctrl-C may leave that locked.
        self._lock: Final = threading.Lock()
        self._woken: Final[SimpleQueue[None]] = SimpleQueue()
        self._questions: Final[dict[int, Completion[None]]] = {}
        self._asked = 0
        self._reset = False
        self._stopping = False
        self._answered = 0
        self._ended = False
        # Below: written by the flow's thread alone.
        self._breaker: Final = Breaker(options.retry)
        self._seen = 0
        self._sync_token = object()
        self._read_to: Any = None
        self._events = 0
        self._position: Any = None
        self._dirty = False
        self._checkpoint_at = 0.0
        self._waiting = ""
        self._last_error = ""
        self._thread: Final = start_thread(
            self._run, name=f"epochal-stream {names[0]} -> {names[1]}"
        )

    @property
    def plugins(self) -> frozenset[str]:
        """The ids of the endpoints' plugins."""
        return frozenset(name.partition(".")[0] for name in self._names)

    @property
    def is_over(self) -> bool:
        """Whether it has ended: it was closed, or its runtime was."""
        return self._ended

    def status(self) -> FlowStatus:
        """The flow's status now."""
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
        """Wait until the source has no more events and the sink has checkpointed them all.

        The flow looks at once, unless it waits after a failure.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            False if the time ran out, or the flow ended first.
        """
        answer: Completion[None] = Completion()
        with self._lock:
            question = self._asked + 1
            self._questions[question] = answer
            self._asked = question
        try:
            self._woken.put(None)
            if not self._ended:
                answer.wait(timeout)
        finally:
            self._questions.pop(question, None)
        return self._answered >= question

    def reset_failures(self) -> None:
        """Forget the failures and retry now; called when an endpoint was replaced."""
        with self._lock:
            self._reset = True
        self._woken.put(None)

    def close(self, timeout: float = 10.0) -> None:
        """End after the batch in progress and a last checkpoint of the sink.

        A checkpoint that fails is reported like any failure. Its events, like those that the sink
        held when it was removed, are repeated to the next flow.

        Args:
            timeout: seconds to wait for that.

        Raises:
            HostError: it took longer, and goes on.
        """
        self._stopping = True
        self._woken.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise HostError(
                f"the stream {' -> '.join(self._names)} did not end within {timeout:g} s; "
                "a call of its plugins is still under way"
            )

    # --- the flow's thread -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._wait(self._attempt(self._step))
            self._attempt(self._finish, wait=True)
        except RuntimeClosedError as error:
            self._last_error = format_error(error)
        finally:
            # Before `_ended`: after `close`, the endpoints can be connected again.
            self._on_end()
            self._ended = True
            self._answer(self._asked)

    def _wait(self, pause: tuple[float, bool]) -> None:
        """Wait for the pause that `_attempt` returned, or until there is something to do."""
        seconds, has_failed = pause
        if not seconds:
            return
        end = monotonic() + seconds
        # A caller of `wait_idle` must not shorten the wait after a failure.
        while not (self._stopping or self._reset or (self._asked > self._seen and not has_failed)):
            left_s = end - monotonic()
            if left_s <= 0:
                break
            with suppress(Empty):  # an open breaker may wait for a reload
                self._woken.get(timeout=min(left_s, threading.TIMEOUT_MAX))
        with self._lock:
            reset, self._reset = self._reset, False
        if reset:
            self._breaker.record_success()

    def _answer(self, highest: int) -> None:
        """Wake the callers whose question is answered, or will never be."""
        for question, answer in list(self._questions.items()):
            if question <= highest:
                answer.set_result(None)

    def _attempt(
        self, work: Callable[[FlowEndpoints], float], *, wait: bool = False
    ) -> tuple[float, bool]:
        """Do one unit of work.

        Returns:
            Seconds to wait before the next, and whether it failed.

        Raises:
            RuntimeClosedError: the runtime is closed.
        """
        # Before the look: a question that comes during it is answered by the next one.
        self._seen = self._asked
        self._breaker.begin()
        try:
            with locked_endpoints(self._runtime, self._names, wait=wait) as endpoints:
                self._waiting = endpoints.waiting
                self._report_faults(endpoints)
                pause_s = work(endpoints)
        except RuntimeClosedError:
            raise  # of our own call: a plugin's comes as an EndpointError
        except Exception as error:  # noqa: BLE001  such as a position that cannot be compared
            failure = str(error) if isinstance(error, EndpointError) else format_error(error)
        else:
            self._breaker.record_success()
            return pause_s, False
        # The source may be ahead of the sink now: drop the token, so that it starts again.
        self._sync_token = object()
        wait_s = self._breaker.record_failure()
        self._report(failure, wait_s)
        return wait_s, True

    def _step(self, endpoints: FlowEndpoints) -> float:
        if endpoints.source is None or endpoints.sink is None:
            # Without its partner the sink may wait for long: save the events that it holds.
            self._save(endpoints)
            return self._options.idle_s
        self._synchronize(endpoints.source, endpoints.sink)
        return self._transfer(endpoints.source, endpoints.sink)

    def _finish(self, endpoints: FlowEndpoints) -> float:
        self._save(endpoints)
        return 0.0

    def _synchronize(self, source: FlowEndpoint, sink: FlowEndpoint) -> None:
        """Start the source at the sink's checkpoint, unless both have our token."""
        if source.state.sync_token is sink.state.sync_token is self._sync_token:
            return
        if not sink.state.is_started:
            sink.call("start", None)
            sink.state.is_started = True
        self._position = sink.call("checkpoint")
        # False first: if `start` fails, the object has no position that a new one could start at.
        source.state.is_started = False
        source.call("start", self._position)
        source.state.is_started = True
        # Last, so that a failure above leaves the endpoints without a valid token.
        self._sync_token = source.state.sync_token = sink.state.sync_token = object()
        self._read_to = self._position
        self._dirty = False
        self._acknowledge(source)

    def _transfer(self, source: FlowEndpoint, sink: FlowEndpoint) -> float:
        events = source.call("read", self._options.batch)
        if events:
            # Before `write`, which may have taken some of the events even if it fails.
            self._dirty = True
            sink.call("write", events)
            self._events += len(events)
            self._read_to = events[-1][0]
        goes_on = bool(events) or self._has_moved(source)
        if self._dirty and (not goes_on or monotonic() >= self._checkpoint_at):
            self._checkpoint(source, sink)
        if goes_on:
            return 0.0
        self._answered = self._seen
        self._answer(self._seen)
        return self._options.idle_s

    def _has_moved(self, source: FlowEndpoint) -> bool:
        """Whether a source that returned no event has moved on: it leaves events out."""
        before, self._read_to = self._read_to, source.call("checkpoint")
        return bool(self._read_to != before)

    def _save(self, endpoints: FlowEndpoints) -> None:
        """Make the events durable that the sink holds; this needs no source."""
        if self._dirty and endpoints.sink is not None and endpoints.sink.state.is_started:
            self._checkpoint(endpoints.source, endpoints.sink)

    def _checkpoint(self, source: FlowEndpoint | None, sink: FlowEndpoint) -> None:
        self._position = sink.call("checkpoint")
        self._dirty = False
        self._checkpoint_at = monotonic() + self._options.checkpoint_s
        if source is not None:
            self._acknowledge(source)

    def _acknowledge(self, source: FlowEndpoint) -> None:
        if self._position is not None and source.has("acknowledge"):
            source.call("acknowledge", self._position)

    # --- reports -----------------------------------------------------------------------------

    def _report_faults(self, endpoints: FlowEndpoints) -> None:
        """Report the errors of old objects whose `checkpoint` failed as these replaced them."""
        for endpoint in (endpoints.source, endpoints.sink):
            if endpoint is not None and endpoint.state.handover_error:
                self._report(f"{endpoint.label}, {endpoint.state.handover_error}", 0.0)
                endpoint.state.handover_error = ""

    def _report(self, error: str, wait_s: float) -> None:
        self._last_error = error
        source, sink = self._names
        failures = self._breaker.failures
        failed = FlowFailed(source=source, sink=sink, error=error, failures=failures, wait_s=wait_s)
        self._runtime.events.emit(failed)

    def __repr__(self) -> str:
        return f"<flow {' -> '.join(self._names)}, {self._events} events>"
