"""Programs over lifecycles, leases and drains.

All code that the threads share is stepped through, the programs' own included; `CORE` in
`exploring` lists it. Locks and queues are `frontrun`'s cooperative ones, each call of which is one
step. A lease ends by its death when its only reference is overwritten by None.
"""

from __future__ import annotations

import gc
import weakref
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from epochal._core.generation.epoch_fenced_reload import EpochFencedReload
from epochal._core.generation.lifecycle import PluginLifecycle
from epochal._core.generation.states import LifecycleState
from epochal._core.use import drain_wakeup
from epochal._core.use.drain_wakeup import Drained, Ledger, Waiter
from epochal._core.use.lease import Lease, carry
from epochal.errors import DrainTimeoutError, InUseError, NotActiveError
from tests.interleavings.exploring import Program, every, replaced, sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT_S = 0.01


# --- advance --------------------------------------------------------------------------------------


def loaded() -> SimpleNamespace:
    return SimpleNamespace(life=PluginLifecycle("geo"), results={})


def advancing(number: int) -> Callable[[Any], None]:
    def advance(state: Any) -> None:
        state.results[number] = state.life.advance()

    return advance


def took_distinct_steps(state: Any) -> None:
    assert sorted(state.results.values()) == list(range(1, len(state.results) + 1)), state.results
    assert state.life.state == len(state.results)


def torn_advance(self: PluginLifecycle) -> LifecycleState:
    state = LifecycleState(min(self.state + 1, LifecycleState.REMOVED))
    self.state = state
    return state


# --- begin_drain ----------------------------------------------------------------------------------


def active() -> SimpleNamespace:
    life = PluginLifecycle("geo")
    life.set(LifecycleState.ACTIVE)
    return SimpleNamespace(life=life, results={}, held=None, refused=False)


def beginning(number: int) -> Callable[[Any], None]:
    def begin(state: Any) -> None:
        try:
            EpochFencedReload(state.life).begin_drain()
            state.results[number] = "won"
        except NotActiveError as error:
            state.results[number] = error.state

    return begin


def one_caller_succeeded(state: Any) -> None:
    assert sorted(state.results.values(), key=str) == [LifecycleState.DRAINING, "won"], (
        state.results
    )


def torn_move(self: PluginLifecycle, source: LifecycleState, target: LifecycleState) -> bool:
    moved = self.state is source
    if moved:
        self.state = target
    return moved


# --- a lease that is gone within a collection -----------------------------------------------------


def with_garbage() -> SimpleNamespace:
    """A generator that carries the only lease, in a cycle of its own."""
    state = active()
    state.ran_in = []

    def export() -> Iterator[None]:
        try:
            yield
        finally:
            state.ran_in.append(state.life.state)

    rows = carry(export, state.life.lease("call"))()
    next(rows)
    state.garbage = [rows]
    state.garbage.append(state.garbage)
    return state


def collecting(state: Any) -> None:
    state.garbage = None
    gc.collect(0)


def finalizer_ran_before_removal(state: Any) -> None:
    assert len(state.ran_in) == 1, state.ran_in
    assert state.ran_in[0] is not LifecycleState.REMOVED
    assert len(state.life.ledger) == 0


def issue_by_reference(self: Ledger, label: str) -> Lease:
    """As `issue`, with a plain weak reference to the lease."""
    lease = Lease()
    lease._ledger, lease.label = self, label
    ref: Any = weakref.ref(lease, lambda ref: self._live.drop(id(ref)))
    lease.key = id(ref)
    self._live._refs[lease.key] = ref
    return lease


# --- a lease against finalize -------------------------------------------------------------------


def lease_by_hand(state: Any) -> None:
    try:
        state.held = state.life.lease("by hand")
        state.used_in = state.life.state
    except NotActiveError:
        state.refused = True


def drain_and_finalize(state: Any) -> None:
    reload = EpochFencedReload(state.life)
    reload.begin_drain()
    try:
        reload.finalize()
    except InUseError:
        state.in_use = True


def never_removed_in_use(state: Any) -> None:
    assert state.refused is (state.held is None)
    if state.held is not None:
        assert state.life.state is LifecycleState.DRAINING, state.life


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
        state = active()
        state.held = [state.life.lease(f"lease {number}") for number in range(leases)]
        state.keys = [lease.key for lease in state.held]
        state.life.set(LifecycleState.DRAINING)
        state.timeout = timeout
        state.outcome = None
        return state

    return setup


def waiting(state: Any) -> None:
    try:
        state.outcome = EpochFencedReload(state.life).wait_for_drain(timeout=state.timeout)
    except DrainTimeoutError as error:
        state.outcome = error


def releasing(number: int) -> Callable[[Any], None]:
    def release(state: Any) -> None:
        state.held[number].release()

    return release


def dropping(number: int) -> Callable[[Any], None]:
    def drop(state: Any) -> None:
        state.held[number] = None

    return drop


def was_woken(state: Any) -> None:
    """A lost wake-up shows in the outcome: then only the next scheduled check ends the wait."""
    outcome = state.outcome
    assert isinstance(outcome, Drained), outcome
    assert outcome.waited == 0 or outcome.wakeup is not None, outcome


def drained_or_in_use(state: Any) -> None:
    outcome = state.outcome
    if isinstance(outcome, DrainTimeoutError):
        assert outcome.in_flight > 0, outcome
        assert outcome.waited >= TIMEOUT_S
    else:
        assert isinstance(outcome, Drained), outcome
        assert outcome.waited <= TIMEOUT_S * 1.001
    assert len(state.life.ledger) == 0
    assert not state.life.ledger._waiters


@contextmanager
def late_registration() -> Iterator[None]:
    """The wait counts the leases first, and registers its waiter afterwards."""

    def waiter(self: Ledger, threshold: int = 0, wake: Any = None) -> Waiter:
        return Waiter(self, threshold, wake or drain_wakeup.SimpleQueue())

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


def unchecked_timeout(self: EpochFencedReload, started: float, threshold: int) -> Drained:
    """Report a time-out without checking whether the drain has ended meanwhile."""
    raise DrainTimeoutError(TIMEOUT_S, len(self.old_lifecycle.ledger))


PROGRAMS = (
    Program(
        "advance-against-advance",
        "flaw 1: two callers take two distinct steps",
        "`advance` is load-then-store",
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
        "`advance` is load-then-store",
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
        "`begin_drain` is check-then-act",
        active,
        (beginning(0), beginning(1)),
        one_caller_succeeded,
        replaced(PluginLifecycle, "try_move", torn_move),
        ci=every(2, at_least=1400),
        soak=every(3, at_least=20000),
        orderings=2,  # 5 on CPython 3.11, which has other bytecodes
    ),
    Program(
        "lease-against-finalize",
        "flaw 4, E4: a leased generation is not removed; a draining one cannot be leased",
        "`finalize` does not check for live leases",
        active,
        (lease_by_hand, drain_and_finalize),
        never_removed_in_use,
        replaced(PluginLifecycle, "finish", blind_finish),
        ci=every(1, at_least=80),
        soak=every(3, at_least=20000),
    ),
    Program(
        "lease-against-begin_drain",
        "E4: no lease is issued after `begin_drain` has succeeded",
        "`lease` tests the state and issues the lease without the lock",
        active,
        (lease_by_hand, drain_and_finalize),
        never_removed_in_use,
        replaced(PluginLifecycle, "lease", torn_lease),
        ci=every(1, at_least=80),
        soak=every(3, at_least=20000),
    ),
    Program(
        "collection-against-finalize",
        "E4: a lease that is gone within a collection counts until that has run its finalizers",
        "a lease is gone with the callback of its weak reference",
        with_garbage,
        (collecting, drain_and_finalize),
        finalizer_ran_before_removal,
        replaced(Ledger, "issue", issue_by_reference),
        ci=every(1, at_least=80),
        soak=every(2, at_least=1000),
    ),
    Program(
        "last-release-against-wait",
        "flaw 3: the last of two releases wakes the wait, in either order",
        "the wait registers its waiter after it has counted the leases",
        draining(2, None),
        (waiting, releasing(0), dropping(1)),
        was_woken,
        late_registration,
        ci=every(1, at_least=850),
        soak=every(2, at_least=20000),
        orderings=100,
    ),
    Program(
        "last-release-against-timeout",
        "E4: a drain that times out counts at least one lease; otherwise it has drained",
        "the time-out does not check whether the drain has ended meanwhile",
        draining(1, TIMEOUT_S),
        (waiting, releasing(0)),
        drained_or_in_use,
        replaced(EpochFencedReload, "_late", unchecked_timeout),
        ci=sampled(400, preemptions=2),
        soak=every(2, at_least=7000),
        time_runs_out=True,
    ),
)
