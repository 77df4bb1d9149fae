"""Programs over a stream: calls of its endpoints, and waits for an idle flow.

Gate, locks, state transfer and flow are the real ones. The flow's endpoints are lists here, and its
thread is one of the program's threads.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from epochal._core.generation.kind import Export, Opened
from epochal._core.sync.retry import RetryPolicy
from epochal._core.use.gate import GateClosure
from epochal.jobs import flow as flows
from epochal.jobs.endpoints import FlowEndpoints
from epochal.jobs.flow import Flow, StreamOptions
from epochal.kinds import sink, stream
from tests.interleavings.exploring import Program, every, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal.jobs.endpoints import FlowEndpoint

TRANSFER: Final = (
    "kinds/stream.py",
    "_core/use/gate.py:GateClosure.open",
    "interleavings/streaming.py",
)
IDLE: Final = (
    *(
        f"jobs/flow.py:Flow.{name}"
        for name in ("wait_idle", "_wait", "_attempt", "_transfer", "_answer")
    ),
    "interleavings/streaming.py",
)


# --- a batch against a state transfer -------------------------------------------------------------


class BatchSink:
    """A sink that saves the events that it held when the checkpoint began, as files do."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.saved: list[int] = []

    def start(self, position: Any) -> None:
        pass

    def write(self, event: int) -> None:
        self.held.append(event)

    def checkpoint(self) -> int:
        taken = list(self.held)
        self.saved += taken
        self.held = []
        return len(self.saved)


def transferring_state() -> SimpleNamespace:
    """A setup: the gate is closed, and no state was transferred yet."""
    export = Export(sink, "a.keeper", "a", {}, BatchSink)
    old, new = (Opened(export, sink.open(export), f"{n}.0", n) for n in (1, 2))
    old.instance.is_started = True
    old.instance.target.write(1)
    transfer: Any = sink.hand_over(old, new)
    closing = GateClosure([transfer.gate])
    assert closing.close(0)
    return SimpleNamespace(
        endpoint=old.instance, transfer=transfer, closing=closing, written=[1], calls=0
    )


def transferring(state: Any) -> None:
    state.transfer.run()


def rolling_back(state: Any) -> None:
    state.transfer.roll_back()
    state.closing.open()


def writing(state: Any) -> None:
    """Write a batch with the locks that `endpoints.locked_endpoints` takes."""
    admission = state.endpoint.gate.enter()
    if state.endpoint.call_lock.acquire(blocking=False):
        state.endpoint.target.write(2)
        state.written.append(2)
        state.endpoint.call_lock.release()
    admission.gate.leave(admission)


def saved_what_was_written(state: Any) -> None:
    target = state.endpoint.target
    assert target.saved + target.held == state.written, (target.saved, target.held, state.written)


def take_unguarded(before: Any, transfer: Any) -> Any:
    return stream._Checkpoint(before.target.checkpoint())


# --- a wait for an idle flow ----------------------------------------------------------------------


class ListEndpoint:
    """Both endpoints of a flow: events are read from one list and saved in another."""

    label = "a list"

    def __init__(self) -> None:
        self.state = SimpleNamespace(sync_token=None, is_started=False, handover_error="")
        self.arriving: list[int] = []
        self.saved: list[int] = []

    def call(self, method: str, *arguments: Any) -> Any:
        if method == "read":
            # Each `pop` is one step; events that arrive meanwhile are left for the next read.
            return [(self.arriving.pop(0),) * 2 for _ in range(len(self.arriving))]
        if method == "write":
            self.saved += [event for _, event in arguments[0]]
        return self.saved[-1] if self.saved else None

    def has(self, method: str) -> bool:
        return False


class HeldThread:
    """A thread of the flow that never starts; the program calls its `run`."""

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        self.run = work

    def join(self, timeout: float | None = None) -> None:
        pass

    def is_alive(self) -> bool:
        return False


def idle_flow() -> SimpleNamespace:
    endpoint: Any = ListEndpoint()
    with mock.patch.object(flows, "start_thread", HeldThread):
        flow = Flow(
            endpoint, ("a.b", "c.d"), StreamOptions(10, 3600.0, 0.0, RetryPolicy()), lambda: None
        )
    return SimpleNamespace(flow=flow, endpoint=endpoint, seen=None)


def flowing(state: Any) -> None:
    state.flow._thread.run()


def waiting_idle(state: Any) -> None:
    state.endpoint.arriving.append(1)
    assert state.flow.wait_idle()
    state.seen = list(state.endpoint.saved)
    state.flow.close()


def saw_earlier_events(state: Any) -> None:
    assert state.seen == [1], state.seen


@contextmanager
def with_list_endpoints() -> Iterator[None]:
    @contextmanager
    def locked_endpoints(
        endpoint: Any, names: Any, *, wait: bool = False
    ) -> Iterator[FlowEndpoints]:
        yield FlowEndpoints(endpoint, endpoint, "")

    with mock.patch.object(flows, "locked_endpoints", locked_endpoints):
        yield


def answer_all(self: Flow, source: FlowEndpoint, sink: FlowEndpoint) -> float:
    """Answers also the requests that were made while it read."""
    if events := source.call("read", 10):
        sink.call("write", events)
        return 0.0
    self._seen = self._answered = self._asked
    self._answer(self._asked)
    return 3600.0


PROGRAMS = (
    Program(
        "stream-abandoned-transfer-against-batch",
        "streams: an abandoned transfer shares its object with no batch, and calls it no more",
        "the state transfer calls the object without its lock",
        transferring_state,
        (transferring, rolling_back, writing),
        saved_what_was_written,
        replaced(stream, "_take", take_unguarded),
        ci=every(1, at_least=500),
        soak=every(2, at_least=1000),
        where=TRANSFER,
    ),
    Program(
        "stream-idle-against-event",
        "streams: `wait_idle` returns after a read of the source that began after the call",
        "a read answers every `wait_idle` that was called before the read ended",
        idle_flow,
        (flowing, waiting_idle),
        saw_earlier_events,
        replaced(Flow, "_transfer", answer_all),
        ci=every(1, at_least=200),
        soak=every(2, at_least=1000),
        where=IDLE,
        around=with_list_endpoints,
    ),
)
