"""Programs over the registry of live objects and the fair lock.

Both modules are stepped through whole: `weak_registry.py` and `fifo_lock.py`. Locks are
`frontrun`'s cooperative ones, whose inside is one step; futures are the standard library's own, on
top of them. An object dies when None is stored over it.
"""

from __future__ import annotations

from concurrent.futures import InvalidStateError
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from epochal._core.sync.fifo_lock import FifoLock
from epochal._core.sync.weak_registry import WeakRegistry
from tests.interleavings.exploring import Program, every, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

TURN = ("_core/sync/fifo_lock.py", "interleavings/pieces.py")


# --- live objects ---------------------------------------------------------------------------------


class Thing:
    """Something that lives."""


def living() -> SimpleNamespace:
    at = SimpleNamespace(gone=[], seen=None, late=None)
    at.live = WeakRegistry(lambda: at.gone.append("gone"))
    at.things = [Thing(), Thing()]
    at.keys = [at.live.add(thing) for thing in at.things]
    return at


def adding(at: Any) -> None:
    at.late = Thing()
    at.live.add(at.late)


def looking(at: Any) -> None:
    at.seen = len(at.live.live())


def dropping_first(at: Any) -> None:
    at.live.drop(at.keys[0])


def dying_first(at: Any) -> None:
    at.things[0] = None


def saw_what_lived(at: Any) -> None:
    assert at.seen in {1, 2, 3}, at.seen
    assert len(at.live) == len(at.live.live()) == 2
    assert at.gone == ["gone"]


def counted_out_once(at: Any) -> None:
    assert at.gone == ["gone"], at.gone
    assert at.live.live() == [at.things[1]]


def torn_drop(self: WeakRegistry[Any], key: int) -> None:
    if key in self._refs:
        self._refs.pop(key, None)
        if self._on_removed is not None:
            self._on_removed()


def iterating_live(self: WeakRegistry[Any]) -> list[Any]:
    return [item for ref in self._refs.values() if (item := ref()) is not None]


# --- turns ----------------------------------------------------------------------------------------


def queued(callers: int) -> Callable[[], SimpleNamespace]:
    def setup() -> SimpleNamespace:
        turn = FifoLock()
        tickets = [turn.acquire() for _ in range(callers)]
        return SimpleNamespace(turn=turn, tickets=tickets, inside=0, order=[])

    return setup


def taking_its_turn(number: int) -> Callable[[Any], None]:
    def take(at: Any) -> None:
        ticket = at.tickets[number]
        ticket.result()
        at.inside += 1
        at.order.append(number)
        assert at.inside == 1, "two at once"
        at.inside -= 1
        at.turn.release(ticket)

    return take


def coming_late(at: Any) -> None:
    ticket = at.turn.acquire()
    ticket.result()
    at.order.append("late")
    at.inside += 1
    assert at.inside == 1, "two at once"
    at.inside -= 1
    at.turn.release(ticket)


def giving_up(number: int) -> Callable[[Any], None]:
    def give_up(at: Any) -> None:
        at.turn.release(at.tickets[number])

    return give_up


def in_order(*order: Any) -> Callable[[Any], None]:
    def check(at: Any) -> None:
        assert at.order == list(order), at.order
        assert not at.turn._queue

    return check


def release_to_the_newest(self: FifoLock, ticket: Any) -> None:
    with self._lock:
        if ticket in self._queue:
            self._queue.remove(ticket)
        following = self._queue[-1] if self._queue else None
    if following is not None:
        following.set_result(None)


def torn_release(self: FifoLock, ticket: Any) -> None:
    """Looks at the queue, and then takes the ticket out."""
    had_turn = bool(self._queue) and self._queue[0] is ticket
    if ticket in self._queue:
        self._queue.remove(ticket)
    following = self._queue[0] if had_turn and self._queue else None
    if following is not None:
        try:
            following.set_result(None)
        except InvalidStateError as error:
            raise AssertionError("a turn given twice") from error


PROGRAMS = (
    Program(
        "registry-add-against-look-against-death",
        "WeakRegistry: a look is whole while others add to it and die",
        "the look iterates over the dictionary itself",
        living,
        (looking, adding, dying_first),
        saw_what_lived,
        replaced(WeakRegistry, "live", iterating_live),
        ci=every(1, at_least=320),
        soak=every(2, at_least=10000),
    ),
    Program(
        "registry-drop-against-death",
        "WeakRegistry: of a drop and a death exactly one counts the object out",
        "drop looks first and removes afterwards",
        living,
        (dropping_first, dying_first),
        counted_out_once,
        replaced(WeakRegistry, "drop", torn_drop),
        ci=every(2, at_least=400),
        soak=every(4, at_least=10000),
    ),
    Program(
        "fifo-lock-in-order",
        "FifoLock: three tickets are granted one at a time, in the order of their requests",
        "a released lock goes to the newest ticket",
        queued(3),
        (taking_its_turn(2), taking_its_turn(1), taking_its_turn(0)),
        in_order(0, 1, 2),
        replaced(FifoLock, "release", release_to_the_newest),
        ci=every(1, at_least=460),
        soak=every(2, at_least=10000),
        where=TURN,
        orderings=10,
    ),
    Program(
        "fifo-lock-against-leaving",
        "FifoLock: a ticket that leaves the queue grants no other ticket twice, and blocks none",
        "release looks at the queue without the lock",
        queued(2),
        (taking_its_turn(0), giving_up(1), coming_late),
        in_order(0, "late"),
        replaced(FifoLock, "release", torn_release),
        ci=every(1, at_least=660),
        soak=every(2, at_least=10000),
        where=TURN,
    ),
)
