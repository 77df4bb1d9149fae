"""Programs over the registry of live objects, completions and the fair lock.

All of `weak_registry.py`, `completion.py` and `fifo_lock.py` is stepped through. Locks and queues
are `frontrun`'s cooperative ones, each call of which is one step. An object dies when its only
reference is overwritten by None.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from epochal._core.sync.completion import Completion
from epochal._core.sync.fifo_lock import FifoLock, Ticket
from epochal._core.sync.weak_registry import WeakRegistry
from tests.interleavings.exploring import Program, every, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

COMPLETION = ("_core/sync/completion.py", "interleavings/pieces.py")
FIFO_LOCK = ("_core/sync/fifo_lock.py", "interleavings/pieces.py")


# --- the registry of live objects -----------------------------------------------------------------


class Thing:
    """A registered object."""


def registered() -> SimpleNamespace:
    state = SimpleNamespace(removed=[], listed=None, late=None)
    state.live = WeakRegistry(lambda: state.removed.append("removed"))
    state.things = [Thing(), Thing()]
    state.keys = [state.live.add(thing) for thing in state.things]
    return state


def adding(state: Any) -> None:
    state.late = Thing()
    state.live.add(state.late)


def listing(state: Any) -> None:
    state.listed = len(state.live.live())


def dropping_first(state: Any) -> None:
    state.live.drop(state.keys[0])


def dying_first(state: Any) -> None:
    state.things[0] = None


def listed_live_objects(state: Any) -> None:
    assert state.listed in {1, 2, 3}, state.listed
    assert len(state.live) == len(state.live.live()) == 2
    assert state.removed == ["removed"]


def removed_once(state: Any) -> None:
    assert state.removed == ["removed"], state.removed
    assert state.live.live() == [state.things[1]]


def torn_drop(self: WeakRegistry[Any], key: int) -> None:
    if key in self._refs:
        self._refs.pop(key, None)
        if self._on_removed is not None:
            self._on_removed()


def iterating_live(self: WeakRegistry[Any]) -> list[Any]:
    return [item for ref in self._refs.values() if (item := ref()) is not None]


# --- completions ----------------------------------------------------------------------------------


def unsettled() -> SimpleNamespace:
    return SimpleNamespace(completion=Completion(), results=[])


def settling(state: Any) -> None:
    state.completion.set_result(1)


def waiting(state: Any) -> None:
    state.results.append(state.completion.result())


def has_one_result(state: Any) -> None:
    assert state.results == [state.completion.result()], state.results


def look_then_add(self: Completion[Any], callback: Callable[[Completion[Any]], object]) -> None:
    if self.done():
        callback(self)
    else:
        self._callbacks.append(callback)


# --- the fair lock --------------------------------------------------------------------------------


def queued(callers: int) -> Callable[[], SimpleNamespace]:
    def setup() -> SimpleNamespace:
        lock = FifoLock()
        tickets = [lock.acquire(Ticket()) for _ in range(callers)]
        return SimpleNamespace(lock=lock, tickets=tickets, inside=0, order=[])

    return setup


def locking(number: int) -> Callable[[Any], None]:
    def lock_and_release(state: Any) -> None:
        ticket = state.tickets[number]
        ticket.result()
        state.inside += 1
        state.order.append(number)
        assert state.inside == 1, "two threads have the lock at once"
        state.inside -= 1
        state.lock.release(ticket)

    return lock_and_release


def locking_late(state: Any) -> None:
    ticket = state.lock.acquire(Ticket())
    ticket.result()
    state.order.append("late")
    state.inside += 1
    assert state.inside == 1, "two threads have the lock at once"
    state.inside -= 1
    state.lock.release(ticket)


def leaving_queue(number: int) -> Callable[[Any], None]:
    def leave(state: Any) -> None:
        state.lock.release(state.tickets[number])

    return leave


def in_order(*order: Any) -> Callable[[Any], None]:
    def check(state: Any) -> None:
        assert state.order == list(order), state.order
        assert not state.lock._queue

    return check


def release_to_the_newest(self: FifoLock, ticket: Any) -> None:
    if ticket in self._queue:
        self._queue.remove(ticket)
    following = self._queue[-1] if self._queue else None
    if following is not None and not following.done():
        following.set_result(None)


def torn_release(self: FifoLock, ticket: Any) -> None:
    """Grants the lock to the head of the queue, and removes the ticket afterwards."""
    following = self._queue[1] if len(self._queue) > 1 and self._queue[0] is ticket else None
    if ticket in self._queue:
        self._queue.remove(ticket)
    if following is not None and not following.done():
        following.set_result(None)


PROGRAMS = (
    Program(
        "registry-add-against-look-against-death",
        "WeakRegistry: `live()` returns a consistent list while objects are added and die",
        "`live()` iterates over the dictionary itself",
        registered,
        (listing, adding, dying_first),
        listed_live_objects,
        replaced(WeakRegistry, "live", iterating_live),
        ci=every(1, at_least=320),
        soak=every(2, at_least=10000),
    ),
    Program(
        "registry-drop-against-death",
        "WeakRegistry: a drop and a death of one object call `on_removed` once",
        "`drop` tests for the key before it removes it",
        registered,
        (dropping_first, dying_first),
        removed_once,
        replaced(WeakRegistry, "drop", torn_drop),
        ci=every(2, at_least=400),
        soak=every(4, at_least=10000),
    ),
    Program(
        "completion-against-wait",
        "interruption: a thread that waits for a completion is woken",
        "a waiter looks whether the completion is settled before it adds its callback",
        unsettled,
        (waiting, settling),
        has_one_result,
        replaced(Completion, "add_done_callback", look_then_add),
        ci=every(1, at_least=60),
        soak=every(2, at_least=1500),
        where=COMPLETION,
    ),
    Program(
        "fifo-lock-in-order",
        "FifoLock: three tickets are granted one at a time, in the order of their requests",
        "a released lock is granted to the newest ticket",
        queued(3),
        (locking(2), locking(1), locking(0)),
        in_order(0, 1, 2),
        replaced(FifoLock, "release", release_to_the_newest),
        ci=every(1, at_least=460),
        soak=every(2, at_least=10000),
        where=FIFO_LOCK,
    ),
    Program(
        "fifo-lock-against-leaving",
        "FifoLock: a ticket that leaves the queue grants no other ticket twice, and blocks none",
        "`release` reads the next head of the queue before it removes the ticket",
        queued(2),
        (locking(0), leaving_queue(1), locking_late),
        in_order(0, "late"),
        replaced(FifoLock, "release", torn_release),
        ci=every(1, at_least=660),
        soak=every(2, at_least=10000),
        where=FIFO_LOCK,
    ),
)
