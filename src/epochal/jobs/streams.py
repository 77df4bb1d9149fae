"""Moves events from sources to sinks, each of them reloadable at any time.

::

    with Streams(runtime) as streams:
        flow = streams.connect("orders.changes", "lake.files")
        flow.wait_idle()
        print(flow.status())

A flow has a thread of its own. One batch, read and written, is one unit of work: it pins the epoch
once, and is inside the gates of both ends from its beginning to its end. So a hand-over, which
closes a gate, finds every event that was read also written; and events that come wait in the
source, where they are.

Who reads, who writes
---------------------

A flow's counts are written by its own thread and read by whoever asks, each a single reference.
``_quiet`` is set by the thread when a read found nothing and the sink has made all durable, and
cleared when there was something. It is also set at the thread's end, after ``_is_over``; who waits
clears it *before* he looks at that: so he either sees the end, or is woken by it. ``_woken`` is set
by whoever has something for the thread, which clears it *before* it looks what that is.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from epochal._core.blame import said
from epochal._core.events import ChangeCommitted, EventsMissed, FlowFailed
from epochal.errors import HostError
from epochal.jobs.breaker import Breaker, Circuit, Patience
from epochal.kinds.gate import Side, side_of
from epochal.kinds.stream import sink, source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from epochal._core.events import Event
    from epochal.runtime import Runtime


@dataclass(frozen=True, slots=True)
class FlowStatus:
    """How a flow stands.

    Attributes:
        source: full name.
        sink: full name.
        events: written to the sink, in this process.
        position: up to which the sink has made them durable, as it said last.
        waiting: for what it waits: an end whose plugin is not active; empty for nothing.
        failures_in_row: batches that failed since the last that went well.
        circuit: whether failures hold it back.
        last_error: of the last failure, in one line; empty for none.
    """

    source: str
    sink: str
    events: int
    position: Any
    waiting: str
    failures_in_row: int
    circuit: Circuit
    last_error: str


class Flow:
    """Events on their way from one source to one sink; made by `Streams.connect`."""

    def __init__(
        self,
        runtime: Runtime,
        names: tuple[str, str],
        *,
        batch: int,
        idle_s: float,
        checkpoint_s: float,
        patience: Patience,
    ) -> None:
        self._runtime: Final = runtime
        self._source, self._sink = names
        self._batch: Final = batch
        self._idle_s: Final = idle_s
        self._checkpoint_s: Final = checkpoint_s
        self._stopping: Final = threading.Event()
        self._quiet: Final = threading.Event()
        self._woken: Final = threading.Event()
        # Below: written by the flow's thread alone.
        self._breaker: Final = Breaker(patience)
        self._events = 0
        self._position: Any = None
        self._dirty = False
        self._restart = False
        self._checkpoint_at = 0.0
        self._waiting = ""
        self._last_error = ""
        self._is_over = False
        self._thread: Final = threading.Thread(
            target=self._run, name=f"epochal-stream {self._source} -> {self._sink}", daemon=True
        )
        self._thread.start()

    @property
    def plugins(self) -> frozenset[str]:
        """The ids of the plugins of both ends."""
        return frozenset(name.partition(".")[0] for name in (self._source, self._sink))

    def status(self) -> FlowStatus:
        """How it stands."""
        return FlowStatus(
            source=self._source,
            sink=self._sink,
            events=self._events,
            position=self._position,
            waiting=self._waiting,
            failures_in_row=self._breaker.failures,
            circuit=self._breaker.state,
            last_error=self._last_error,
        )

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until the source has nothing more and the sink has made all of it durable.

        Args:
            timeout: seconds; None for no limit.

        Returns:
            Whether that came; not so when the flow was closed before.
        """
        deadline = None if timeout is None else monotonic() + timeout
        for _ in range(2):  # the look that is under way may have begun before the last event
            self._quiet.clear()
            if self._is_over:
                return False
            if not self._quiet.wait(None if deadline is None else max(0.0, deadline - monotonic())):
                return False
        return not self._is_over

    def forgive(self) -> None:
        """Forget what has failed and try again now: an end was replaced."""
        self._woken.set()

    def close(self, timeout: float = 10.0) -> None:
        """End after the batch that is under way, and have the sink make all durable.

        If it cannot, that is told as any failure, and those events come again to who connects next.

        Raises:
            HostError: that took longer than `timeout` seconds; it goes on.
        """
        self._stopping.set()
        self._woken.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise HostError(
                f"the stream {self._source} -> {self._sink} did not end within {timeout:g} s; "
                "a call of its plugins is still under way"
            )

    # --- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause_s = self._guarded(self._step)
            if pause_s and self._woken.wait(pause_s) and not self._stopping.is_set():
                self._woken.clear()
                self._breaker.succeeded()
        self._guarded(self._finish)
        self._is_over = True
        self._quiet.set()

    def _guarded(self, work: Callable[[Side, Side], float]) -> float:
        """Do one thing with both ends.

        Returns:
            Seconds to wait before the next.
        """
        self._breaker.begin()
        try:
            with self._runtime.operation(f"stream {self._source} -> {self._sink}") as epoch:
                ends = epoch[source].get(self._source), epoch[sink].get(self._sink)
                del epoch
                pause_s = self._between(ends, work)
        except BaseException as error:  # noqa: BLE001  the plugins' own: told, and tried again
            error.__traceback__ = None  # its frames would hold the plugins in use
            return self._failed(said(error))
        finally:
            ends = (None, None)
        self._breaker.succeeded()
        return pause_s

    def _between(self, ends: tuple[Any, Any], work: Callable[[Side, Side], float]) -> float:
        missing = [
            name for name, end in zip((self._source, self._sink), ends, strict=True) if end is None
        ]
        self._waiting = f"{' and '.join(missing)} not active" if missing else ""
        if missing:
            return self._idle_s
        sides = [side_of(end) for end in ends]
        with _inside(sides):
            first, second = (side.newest() for side in sides)
            self._start(first, second)
            return work(first, second)

    def _start(self, first: Side, second: Side) -> None:
        """Have both ends stand where the sink's last checkpoint is, if one of them does not yet."""
        reading: Any = first.kept
        writing: Any = second.kept
        if reading.is_started and writing.is_started and not self._restart:
            return
        if not writing.is_started:
            second.method("start")(None)
            writing.is_started = True
        self._position = second.method("checkpoint")()
        first.method("start")(self._position)
        reading.is_started = True
        self._restart = self._dirty = False

    def _step(self, first: Side, second: Side) -> float:
        events = first.method("read")(self._batch)
        if events:
            self._quiet.clear()
            self._dirty = True
            second.method("write")(events)
            self._events += len(events)
        if self._dirty and (not events or monotonic() >= self._checkpoint_at):
            self._checkpoint(second)
        if events:
            return 0.0
        self._quiet.set()
        return self._idle_s

    def _finish(self, first: Side, second: Side) -> float:
        if self._dirty:
            self._checkpoint(second)
        return 0.0

    def _checkpoint(self, second: Side) -> None:
        self._position = second.method("checkpoint")()
        self._dirty = False
        self._checkpoint_at = monotonic() + self._checkpoint_s

    def _failed(self, told: str) -> float:
        self._last_error = told
        # What was read and not written is read again.
        self._restart = True
        wait_s = self._breaker.failed()
        self._runtime.events.emit(
            FlowFailed(
                source=self._source,
                sink=self._sink,
                error=told,
                failures=self._breaker.failures,
                wait_s=wait_s,
            )
        )
        return wait_s

    def __repr__(self) -> str:
        return f"<flow {self._source} -> {self._sink}, {self._events} events>"


@contextmanager
def _inside(sides: list[Side]) -> Generator[None]:
    """Inside of the gates of both ends."""
    first, second = sides
    with first.inside(), second.inside():
        yield


class Streams:
    """The flows of a runtime, from now until it is closed; a context manager.

    Args:
        runtime: whose plugins' sources and sinks.
        patience: how failures are dealt with; None for `Patience()`.
    """

    # ``_flows`` is appended to by whoever connects, and read by the thread that tells events; a
    # list's append is one step, and so is a copy of it.

    def __init__(self, runtime: Runtime, *, patience: Patience | None = None) -> None:
        self._runtime: Final = runtime
        self._patience: Final = patience or Patience()
        self._flows: Final[list[Flow]] = []
        self._unsubscribe: Final = runtime.events.subscribe(self._follow)

    def connect(
        self,
        from_source: str,
        to_sink: str,
        *,
        batch: int = 1000,
        idle_s: float = 0.1,
        checkpoint_s: float = 1.0,
    ) -> Flow:
        """Begin to move events; ends whose plugins are not active yet are waited for.

        Args:
            from_source: full name, `plugin.name`; a source is connected to one sink at a time.
            to_sink: full name.
            batch: how many events are read at once, at most.
            idle_s: seconds between two looks at a source that had nothing.
            checkpoint_s: seconds between two checkpoints while there is something.

        Raises:
            HostError: one of the two is connected already.
            ValueError: `batch` is below 1.
        """
        if batch < 1:
            raise ValueError(f"batch is {batch}; expected at least 1 event")
        for flow in self._flows:
            status = flow.status()
            if from_source == status.source or to_sink == status.sink:
                raise HostError(f"{status.source} -> {status.sink} is connected already")
        flow = Flow(
            self._runtime,
            (from_source, to_sink),
            batch=batch,
            idle_s=idle_s,
            checkpoint_s=checkpoint_s,
            patience=self._patience,
        )
        self._flows.append(flow)
        return flow

    def status(self) -> list[FlowStatus]:
        """How every flow stands."""
        return [flow.status() for flow in self._flows]

    def close(self) -> None:
        """End every flow after its batch, with all of it durable; doing so again does nothing.

        Raises:
            ExceptionGroup: of `HostError`, of the flows that did not end.
        """
        self._unsubscribe()
        failures: list[HostError] = []
        while self._flows:
            try:
                self._flows.pop().close()
            except HostError as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("streams did not end", failures)

    def _follow(self, event: Event) -> None:
        """New code deserves a trial now, not when the old one's rest is over."""
        for flow in self._flows.copy():
            if isinstance(event, EventsMissed) or (
                isinstance(event, ChangeCommitted) and not flow.plugins.isdisjoint(event.plugins)
            ):
                flow.forgive()

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
