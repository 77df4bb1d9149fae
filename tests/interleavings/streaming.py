"""Programs over a stream: calls of its ends, and questions whether it is idle.

Gate, locks and hand-over are the real ones, and so is the flow; its ends are lists here, and its
thread is one of the program's.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

from epochal._core.generation.kind import Export, Opened
from epochal._core.use.gate import GateClosure
from epochal.jobs import flow as flows
from epochal.jobs.endpoints import FlowEndpoints
from epochal.jobs.flow import Flow, StreamOptions
from epochal.jobs.retry import RetryPolicy
from epochal.kinds import sink, stream
from tests.interleavings.exploring import Program, every, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal.jobs.endpoints import FlowEndpoint

ENDS: Final = (
    "kinds/stream.py",
    "_core/use/gate.py:GateClosure.open",
    "interleavings/streaming.py",
)
ASKING: Final = (
    *(f"jobs/flow.py:Flow.{name}" for name in ("wait_idle", "_wait", "_attempt", "_transfer")),
    "interleavings/streaming.py",
)


# --- an end that a hand-over is inside of ---------------------------------------------------------


class Keeper:
    """A sink that saves what it has as it begins to, as one that writes files does."""

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


def handing_over() -> SimpleNamespace:
    """The gate is closed, and nothing was moved yet."""
    export = Export(sink, "a.keeper", "a", {}, Keeper)
    old, new = (Opened(export, sink.open(export), f"{n}.0", n) for n in (1, 2))
    old.instance.is_started = True
    old.instance.target.write(1)
    move: Any = sink.hand_over(old, new)
    closing = GateClosure([move.gate])
    assert closing.close(0)
    return SimpleNamespace(end=old.instance, move=move, closing=closing, written=[1], calls=0)


def moving(at: Any) -> None:
    at.move.run()


def giving_it_up(at: Any) -> None:
    at.move.roll_back()
    at.closing.open()


def writing(at: Any) -> None:
    """A batch, as `endpoints.locked_endpoints` lets it in."""
    visit = at.end.gate.enter()
    if at.end.call_lock.acquire(blocking=False):
        at.end.target.write(2)
        at.written.append(2)
        at.end.call_lock.release()
    visit.gate.leave(visit)


def kept_what_was_written(at: Any) -> None:
    keeper = at.end.target
    assert keeper.saved + keeper.held == at.written, (keeper.saved, keeper.held, at.written)


def take_unguarded(before: Any, move: Any) -> Any:
    return stream._Checkpoint(before.target.checkpoint())


# --- questions whether a flow is idle ------------------------------------------------------------


class ListEnd:
    """Both ends of a flow: what is read of a list is saved in another."""

    label = "a list"

    def __init__(self) -> None:
        self.state = SimpleNamespace(sync_token=None, is_started=False, handover_error="")
        self.coming: list[int] = []
        self.saved: list[int] = []

    def call(self, method: str, *arguments: Any) -> Any:
        if method == "read":
            # In one step each: what comes meanwhile is there for the next.
            return [(self.coming.pop(0),) * 2 for _ in range(len(self.coming))]
        if method == "write":
            self.saved += [event for _, event in arguments[0]]
        return self.saved[-1] if self.saved else None

    def has(self, method: str) -> bool:
        return False


class HeldThread:
    """The flow's thread, which the program runs as one of its own."""

    def __init__(self, target: Callable[[], None], name: str, *, daemon: bool) -> None:
        self.run = target

    def start(self) -> None:
        pass

    def join(self, timeout: float | None = None) -> None:
        pass

    def is_alive(self) -> bool:
        return False


def idle_flow() -> SimpleNamespace:
    end: Any = ListEnd()
    with mock.patch.object(flows.threading, "Thread", HeldThread):
        flow = Flow(
            end, ("a.b", "c.d"), StreamOptions(10, 3600.0, 0.0, RetryPolicy()), lambda: None
        )
    return SimpleNamespace(flow=flow, end=end, seen=None)


def flowing(at: Any) -> None:
    at.flow._thread.run()


def asking(at: Any) -> None:
    at.end.coming.append(1)
    assert at.flow.wait_idle()
    at.seen = list(at.end.saved)
    at.flow.close()


def saw_what_came_before(at: Any) -> None:
    assert at.seen == [1], at.seen


@contextmanager
def with_list_ends() -> Iterator[None]:
    @contextmanager
    def locked_endpoints(end: Any, names: Any, *, wait: bool = False) -> Iterator[FlowEndpoints]:
        yield FlowEndpoints(end, end, "")

    with mock.patch.object(flows, "locked_endpoints", locked_endpoints):
        yield


def answering_all(self: Flow, source: FlowEndpoint, sink: FlowEndpoint) -> float:
    """Answer also the threads that asked during the look."""
    if events := source.call("read", 10):
        sink.call("write", events)
        return 0.0
    with self._changed:
        self._seen = self._answered = self._asked
        self._changed.notify_all()
    return 3600.0


PROGRAMS = (
    Program(
        "stream-hand-over-given-up-against-batch",
        "streams: no batch enters an object whose checkpoint goes on, nor is it called later",
        "the hand-over calls the object without its lock",
        handing_over,
        (moving, giving_it_up, writing),
        kept_what_was_written,
        replaced(stream, "_take", take_unguarded),
        ci=every(1, at_least=500),
        soak=every(2, at_least=1000),
        where=ENDS,
    ),
    Program(
        "stream-idle-against-event",
        "streams: a question whether a flow is idle is answered by a look that began after it",
        "a look answers every question before its end",
        idle_flow,
        (flowing, asking),
        saw_what_came_before,
        replaced(Flow, "_transfer", answering_all),
        ci=every(1, at_least=200),
        soak=every(2, at_least=1000),
        where=ASKING,
        around=with_list_ends,
    ),
)
