"""Programs over single pieces: lifecycle, drain, leases, live objects, turns.

All of the code that meets is stepped through here, the programs' own included: `lifecycle.py`,
`lease.py`, `live.py`, `turn.py`, whole. Locks, conditions and queues are `frontrun`'s cooperative
ones, whose inside is one step; futures are the standard library's own on top of them. A lease that
ends by dying is let go by storing None over it.
"""

from __future__ import annotations

from concurrent.futures import InvalidStateError
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from epochal._core.lease import Drained, Ledger, Waiter
from epochal._core.lifecycle import EpochFencedReload, LifecycleState, PluginLifecycle
from epochal._core.live import LiveSet
from epochal._core.turn import Turn
from epochal.errors import DrainTimeoutError, InUseError, NotActiveError
from tests.interleavings.exploring import Program, every, sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TURN = ("_core/turn.py", "interleavings/pieces.py")
TIMEOUT_S = 0.01


def replaced(owner: Any, name: str, new: Any) -> Callable[[], Any]:
    """A breakage: another method in place of the real one."""
    return lambda: mock.patch.object(owner, name, new)


# --- advance --------------------------------------------------------------------------------------


def loaded() -> SimpleNamespace:
    return SimpleNamespace(life=PluginLifecycle("geo"), got={})


def advancing(number: int) -> Callable[[Any], None]:
    def advance(at: Any) -> None:
        at.got[number] = at.life.advance()

    return advance


def took_distinct_steps(at: Any) -> None:
    assert sorted(at.got.values()) == list(range(1, len(at.got) + 1)), at.got
    assert at.life.state == len(at.got)


def torn_advance(self: PluginLifecycle) -> LifecycleState:
    state = LifecycleState(min(self.state + 1, LifecycleState.REMOVED))
    self.state = state
    return state


# --- begin_drain ----------------------------------------------------------------------------------


def active() -> SimpleNamespace:
    life = PluginLifecycle("geo")
    life.set(LifecycleState.ACTIVE)
    return SimpleNamespace(life=life, got={}, held=None, refused=False)


def beginning(number: int) -> Callable[[Any], None]:
    def begin(at: Any) -> None:
        try:
            EpochFencedReload(at.life).begin_drain()
            at.got[number] = "won"
        except NotActiveError as error:
            at.got[number] = error.state

    return begin


def one_won(at: Any) -> None:
    assert sorted(at.got.values(), key=str) == [LifecycleState.DRAINING, "won"], at.got


def torn_move(self: PluginLifecycle, source: LifecycleState, target: LifecycleState) -> bool:
    moved = self.state is source
    if moved:
        self.state = target
    return moved


# --- a lease against the end ----------------------------------------------------------------------


def lease_by_hand(at: Any) -> None:
    try:
        at.held = at.life.lease("by hand")
        at.used_in = at.life.state
    except NotActiveError:
        at.refused = True


def drain_and_finalize(at: Any) -> None:
    reload = EpochFencedReload(at.life)
    reload.begin_drain()
    try:
        reload.finalize()
    except InUseError:
        at.in_use = True


def never_removed_in_use(at: Any) -> None:
    assert at.refused is (at.held is None)
    if at.held is not None:
        assert at.life.state is LifecycleState.DRAINING, at.life


def blind_finish(self: PluginLifecycle, *, force: bool = False) -> bool:
    with self._lock:
        self.state = LifecycleState.REMOVED
    return True


def torn_lease(self: PluginLifecycle, label: str = "by hand") -> Any:
    if not self.is_winding_down:
        return self.ledger.issue(label)
    raise NotActiveError("too late", self.state)


# --- the last release against the wait ------------------------------------------------------------


def draining(leases: int, timeout: float | None) -> Callable[[], SimpleNamespace]:
    def setup() -> SimpleNamespace:
        at = active()
        at.held = [at.life.lease(f"lease {number}") for number in range(leases)]
        at.keys = [lease.key for lease in at.held]
        at.life.set(LifecycleState.DRAINING)
        at.timeout = timeout
        at.outcome = None
        return at

    return setup


def waiting(at: Any) -> None:
    try:
        at.outcome = EpochFencedReload(at.life).wait_for_drain(timeout=at.timeout)
    except DrainTimeoutError as error:
        at.outcome = error


def releasing(number: int) -> Callable[[Any], None]:
    def release(at: Any) -> None:
        at.held[number].release()

    return release


def dropping(number: int) -> Callable[[Any], None]:
    def drop(at: Any) -> None:
        at.held[number] = None

    return drop


def woke(at: Any) -> None:
    """A wake-up that was lost shows: nothing but the next look, later, ends the wait then."""
    outcome = at.outcome
    assert isinstance(outcome, Drained), outcome
    assert outcome.waited == 0 or outcome.wakeup is not None, outcome


def drained_or_in_use(at: Any) -> None:
    outcome = at.outcome
    if isinstance(outcome, DrainTimeoutError):
        assert outcome.in_flight > 0, outcome
        assert outcome.waited >= TIMEOUT_S
    else:
        assert isinstance(outcome, Drained), outcome
        assert outcome.waited <= TIMEOUT_S * 1.001
    assert len(at.life.ledger) == 0
    assert not at.life.ledger._waiters


@contextmanager
def registering_late() -> Iterator[None]:
    """The wait looks first and registers afterwards."""

    def waiter(self: Ledger, threshold: int = 0, wake: Any = None) -> Waiter:
        return Waiter(self, threshold, wake or mock_queue())

    def is_satisfied(self: Waiter) -> bool:
        enough = len(self._ledger) <= self.threshold
        ledger = self._ledger
        if self not in ledger._waiters:
            with ledger._lock:
                ledger._waiters = (*ledger._waiters, self)
        return enough

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Ledger, "waiter", waiter))
        stack.enter_context(mock.patch.object(Waiter, "is_satisfied", property(is_satisfied)))
        yield


def mock_queue() -> Any:
    from epochal._core import lease

    return lease.SimpleQueue()


def hasty(self: EpochFencedReload, started: float, threshold: int) -> Drained:
    """Count for the report without asking whether there is anything to report."""
    raise DrainTimeoutError(TIMEOUT_S, len(self.old_lifecycle.ledger))


# --- live objects ---------------------------------------------------------------------------------


class Thing:
    """Something that lives."""


def living() -> SimpleNamespace:
    at = SimpleNamespace(gone=[], seen=None, late=None)
    at.live = LiveSet(lambda: at.gone.append("gone"))
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


def torn_drop(self: LiveSet[Any], key: int) -> None:
    if key in self._refs:
        self._refs.pop(key, None)
        if self._on_gone is not None:
            self._on_gone()


def iterating_live(self: LiveSet[Any]) -> list[Any]:
    return [item for ref in self._refs.values() if (item := ref()) is not None]


# --- turns ----------------------------------------------------------------------------------------


def queued(callers: int) -> Callable[[], SimpleNamespace]:
    def setup() -> SimpleNamespace:
        turn = Turn()
        tickets = [turn.take() for _ in range(callers)]
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
        at.turn.give_back(ticket)

    return take


def coming_late(at: Any) -> None:
    ticket = at.turn.take()
    ticket.result()
    at.order.append("late")
    at.inside += 1
    assert at.inside == 1, "two at once"
    at.inside -= 1
    at.turn.give_back(ticket)


def giving_up(number: int) -> Callable[[Any], None]:
    def give_up(at: Any) -> None:
        at.turn.give_back(at.tickets[number])

    return give_up


def in_order(*order: Any) -> Callable[[Any], None]:
    def check(at: Any) -> None:
        assert at.order == list(order), at.order
        assert not at.turn._queue

    return check


def give_back_to_the_newest(self: Turn, ticket: Any) -> None:
    with self._lock:
        if ticket in self._queue:
            self._queue.remove(ticket)
        following = self._queue[-1] if self._queue else None
    if following is not None:
        following.set_result(None)


def torn_give_back(self: Turn, ticket: Any) -> None:
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
        "advance-against-advance",
        "flaw 1: two callers take two distinct steps",
        "advance is load-then-store",
        loaded,
        (advancing(0), advancing(1)),
        took_distinct_steps,
        replaced(PluginLifecycle, "advance", torn_advance),
        ci=every(2, at_least=450),
        soak=every(4, at_least=20000),
        orderings=2,
    ),
    Program(
        "advance-three-times",
        "flaw 1: three callers take three distinct steps",
        "advance is load-then-store",
        loaded,
        (advancing(0), advancing(1), advancing(2)),
        took_distinct_steps,
        replaced(PluginLifecycle, "advance", torn_advance),
        ci=every(1, at_least=340),
        soak=every(2, at_least=5000),
        orderings=6,
    ),
    Program(
        "begin_drain-against-begin_drain",
        "flaw 2: of two callers exactly one succeeds",
        "begin_drain is check-then-act",
        active,
        (beginning(0), beginning(1)),
        one_won,
        replaced(PluginLifecycle, "try_move", torn_move),
        ci=every(2, at_least=1400),
        soak=every(3, at_least=20000),
        orderings=5,
    ),
    Program(
        "lease-against-finalize",
        "flaw 4, E4: what could be leased is not removed; what is draining cannot be leased",
        "finalize does not look whether leases are alive",
        active,
        (lease_by_hand, drain_and_finalize),
        never_removed_in_use,
        replaced(PluginLifecycle, "finish", blind_finish),
        ci=every(1, at_least=80),
        soak=every(3, at_least=20000),
    ),
    Program(
        "lease-against-begin_drain",
        "E4: no lease is issued after begin_drain has won",
        "lease tests the state and issues without the lock",
        active,
        (lease_by_hand, drain_and_finalize),
        never_removed_in_use,
        replaced(PluginLifecycle, "lease", torn_lease),
        ci=every(1, at_least=80),
        soak=every(3, at_least=20000),
    ),
    Program(
        "last-release-against-wait",
        "flaw 3: the last of two releases wakes the wait, whoever is last",
        "the wait registers after it has looked",
        draining(2, None),
        (waiting, releasing(0), dropping(1)),
        woke,
        registering_late,
        ci=every(1, at_least=850),
        soak=every(2, at_least=20000),
        orderings=100,
    ),
    Program(
        "last-release-against-timeout",
        "E4: a drain ends drained or with somebody in the way, never timed out with nobody",
        "the time-out does not ask whether the drain has ended meanwhile",
        draining(1, TIMEOUT_S),
        (waiting, releasing(0)),
        drained_or_in_use,
        replaced(EpochFencedReload, "_late", hasty),
        ci=sampled(400, preemptions=2),
        soak=every(2, at_least=7000),
        time_runs_out=True,
    ),
    Program(
        "live-add-against-look-against-death",
        "LiveSet: a look is whole while others add to it and die",
        "the look iterates over the dictionary itself",
        living,
        (looking, adding, dying_first),
        saw_what_lived,
        replaced(LiveSet, "live", iterating_live),
        ci=every(1, at_least=320),
        soak=every(2, at_least=10000),
    ),
    Program(
        "live-drop-against-death",
        "LiveSet: of a drop and a death exactly one counts the object out",
        "drop looks first and removes afterwards",
        living,
        (dropping_first, dying_first),
        counted_out_once,
        replaced(LiveSet, "drop", torn_drop),
        ci=every(2, at_least=400),
        soak=every(4, at_least=10000),
    ),
    Program(
        "turn-in-order",
        "Turn: three take their turns one at a time, in the order in which they came",
        "a turn that is given back goes to the newest",
        queued(3),
        (taking_its_turn(2), taking_its_turn(1), taking_its_turn(0)),
        in_order(0, 1, 2),
        replaced(Turn, "give_back", give_back_to_the_newest),
        ci=every(1, at_least=460),
        soak=every(2, at_least=10000),
        where=TURN,
        orderings=10,
    ),
    Program(
        "turn-against-giving-up",
        "Turn: whoever gives up loses nobody else's turn, and gives none twice",
        "give_back looks at the queue without the lock",
        queued(2),
        (taking_its_turn(0), giving_up(1), coming_late),
        in_order(0, "late"),
        replaced(Turn, "give_back", torn_give_back),
        ci=every(1, at_least=660),
        soak=every(2, at_least=10000),
        where=TURN,
    ),
)
