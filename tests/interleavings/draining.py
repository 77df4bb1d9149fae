"""Programs over lifecycles, leases and drains.

All of the code that meets is stepped through here, the programs' own included: `lifecycle.py`,
`lease.py` and `live.py`, whole. Locks and queues are `frontrun`'s cooperative ones, whose inside is
one step. A lease that ends by dying is let go by storing None over it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from epochal._core.generation.epoch_fenced_reload import EpochFencedReload
from epochal._core.generation.lifecycle import PluginLifecycle
from epochal._core.generation.states import LifecycleState
from epochal._core.use import lease as leases_module
from epochal._core.use.lease import Drained, Ledger, Waiter
from epochal.errors import DrainTimeoutError, InUseError, NotActiveError
from tests.interleavings.exploring import Program, every, replaced, sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_S = 0.01


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
        return Waiter(self, threshold, wake or leases_module.SimpleQueue())

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


def hasty(self: EpochFencedReload, started: float, threshold: int) -> Drained:
    """Count for the report without asking whether there is anything to report."""
    raise DrainTimeoutError(TIMEOUT_S, len(self.old_lifecycle.ledger))


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
        orderings=2,  # 5 where the interpreter is CPython 3.11, whose bytecodes differ
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
        "flaw 3: the last of two releases wakes the wait, in either order",
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
        "E4: a drain ends drained or with a lease alive, never timed out without one",
        "the time-out does not ask whether the drain has ended meanwhile",
        draining(1, TIMEOUT_S),
        (waiting, releasing(0)),
        drained_or_in_use,
        replaced(EpochFencedReload, "_late", hasty),
        ci=sampled(400, preemptions=2),
        soak=every(2, at_least=7000),
        time_runs_out=True,
    ),
)
