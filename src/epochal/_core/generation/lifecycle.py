"""The life of one generation of a plugin, and the protocol that ends it.

::

    LOADED -> LINKED -> INITIALIZED -> ACTIVE -> DRAINING -> REMOVED        (0 … 5, never backwards)

`PluginLifecycle` is the state machine; `EpochFencedReload` is the hand-driven form of the protocol
that retires an old generation: begin to drain, wait until nobody can call it, finalize. The runtime
drives the same pieces; a host with its own registry can drive them by hand.

Who reads, who writes
---------------------

``PluginLifecycle.state`` is one slot. It is read without a lock, anywhere (one attribute read on
the query path), and written only under ``_lock``, so every move is a compare-and-set: of any number
of callers that try one step, exactly one takes it. A reader may see a state that has just passed;
it never sees one that was not. ``lease`` tests the state and issues the lease under the same lock,
so no lease is issued after `begin_drain` has won. No code but our own runs under the lock.
"""

from __future__ import annotations

import asyncio
import threading
from enum import IntEnum
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.sync.threads import call_on_thread
from epochal._core.use.holders import describe_holders
from epochal._core.use.lease import Drained, Ledger
from epochal.errors import (
    DrainTimeoutError,
    InUseError,
    NotActiveError,
    UnexpectedTransitionError,
)

if TYPE_CHECKING:
    from epochal._core.use.lease import Lease, Waiter


class LifecycleState(IntEnum):
    """Where a generation stands in its life."""

    # Bytes ingested, manifest parsed. No plugin code has run.
    LOADED = 0
    # Capabilities negotiated, code executed, exports known and valid.
    LINKED = 1
    # init() ran successfully, in dependency order.
    INITIALIZED = 2
    # In the current epoch: visible to planning and execution.
    ACTIVE = 3
    # In no current epoch; operations that captured it go on against it.
    DRAINING = 4
    # All leases released, shutdown() ran, resources closed, memory released.
    REMOVED = 5


class PluginLifecycle:
    """The state machine of one generation.

    Args:
        plugin: whose life it is; any name that helps a person.

    Attributes:
        state: the current state; a plain attribute read, wait-free.
    """

    __slots__ = ("__weakref__", "_lock", "ledger", "plugin", "state")

    def __init__(self, plugin: str) -> None:
        self.plugin: Final = plugin
        self.state = LifecycleState.LOADED
        self.ledger: Final = Ledger()
        self._lock: Final = threading.Lock()

    def advance(self) -> LifecycleState:
        """Take exactly one step; n concurrent callers take n distinct steps.

        Returns:
            The state that this call stepped to; REMOVED when there is nowhere further to go.
        """
        with self._lock:
            self.state = LifecycleState(min(self.state + 1, LifecycleState.REMOVED))
            return self.state

    def set(self, state: LifecycleState) -> None:
        """Force a state, backwards too: for tests, and to unwind what a failed change staged."""
        with self._lock:
            self.state = state

    def try_move(self, source: LifecycleState, target: LifecycleState) -> bool:
        """Go from `source` to `target` if that is where it stands; of many callers one succeeds.

        Returns:
            Whether this call made the move.
        """
        with self._lock:
            moved = self.state is source
            if moved:
                self.state = target
            return moved

    def lease(self, label: str = "a lease taken by hand") -> Lease:
        """Hold this generation in use until the lease is released or nothing refers to it.

        Args:
            label: what for; names the holder in `DrainTimeoutError`.

        Raises:
            NotActiveError: it is draining or removed; nothing may begin to use it any more.
        """
        with self._lock:
            if not self.is_winding_down:
                return self.ledger.issue(label)
        raise NotActiveError(f"{self.plugin} is {self.state.name}: no lease on it", self.state)

    def finish(self, *, force: bool = False) -> bool:
        """Go from DRAINING to REMOVED if nobody holds a lease (or by force).

        Returns:
            True if this call made the move, False if it was REMOVED before.

        Raises:
            UnexpectedTransitionError: it is not draining.
            InUseError: leases are alive, and `force` is not set.
        """
        with self._lock:
            old = self.state
            in_use = len(self.ledger)
            done = old is LifecycleState.DRAINING and (force or not in_use)
            if done:
                self.state = LifecycleState.REMOVED
        if done:
            return True
        if old is LifecycleState.DRAINING:
            raise InUseError(f"{self.plugin} is in use by {in_use}; wait for its drain", in_use)
        if old is not LifecycleState.REMOVED:
            raise UnexpectedTransitionError(
                f"{self.plugin} is {old.name}: only a draining generation can be finalized; "
                "call begin_drain first",
                old,
            )
        return False

    @property
    def is_active(self) -> bool:
        """In the current epoch."""
        return self.state is LifecycleState.ACTIVE

    @property
    def is_winding_down(self) -> bool:
        """DRAINING or REMOVED: nothing may begin to use it."""
        return self.state >= LifecycleState.DRAINING

    def __repr__(self) -> str:
        return f"<lifecycle of {self.plugin}: {self.state.name}, {len(self.ledger)} leases>"


class EpochFencedReload:
    """The hand-driven protocol that retires an old generation, for hosts with their own registry.

    The host makes the new version visible, then::

        reload = EpochFencedReload(old_lifecycle)
        reload.begin_drain()                  # nothing may begin to use the old one
        reload.wait_for_drain(timeout=30.0)   # those who use it end
        old_module.shutdown()
        reload.finalize()

    Args:
        old: the lifecycle of the generation to retire.
    """

    __slots__ = ("old_lifecycle",)

    def __init__(self, old: PluginLifecycle) -> None:
        self.old_lifecycle: Final = old

    def begin_drain(self) -> None:
        """Go from ACTIVE to DRAINING; of any number of concurrent callers exactly one succeeds.

        Raises:
            NotActiveError: it was not ACTIVE, or another caller was first.
        """
        old = self.old_lifecycle
        if not old.try_move(LifecycleState.ACTIVE, LifecycleState.DRAINING):
            state = old.state
            raise NotActiveError(
                f"{old.plugin} is {state.name}, not ACTIVE: nothing to drain", state
            )

    def wait_for_drain(self, threshold: int = 0, timeout: float | None = 30.0) -> Drained:
        """Block until at most `threshold` leases are alive. The last release wakes this thread.

        Args:
            threshold: so many leases may stay.
            timeout: seconds; None waits for ever.

        Returns:
            How long it waited, and how long after the last release it woke.

        Raises:
            DrainTimeoutError: the time ran out; it says who holds on.
            UnexpectedTransitionError: `begin_drain` has not happened, so new leases could come.
            ForkedRuntimeError: in a forked child, whose inherited leases nobody can release.
        """
        started = monotonic()
        drained = self._waiter(threshold).wait(timeout)
        return drained if drained is not None else self._late(started, threshold)

    async def await_drain(self, threshold: int = 0, timeout: float | None = 30.0) -> Drained:
        """`wait_for_drain` for event loops: the same wait, on a thread of its own.

        Cancelling the task ends the wait at once; the generation goes on draining.
        """
        started = monotonic()
        waiter = self._waiter(threshold)
        try:
            call = call_on_thread(
                lambda: waiter.wait(timeout), name=f"epochal-drain-{self.old_lifecycle.plugin}"
            )
            drained = await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            waiter.cancel()
            raise
        return drained if drained is not None else self._late(started, threshold)

    def finalize(self, *, force: bool = False) -> None:
        """Go to REMOVED. Calling it again does nothing.

        Args:
            force: remove it although leases are alive; the caller answers for what they call then.

        Raises:
            InUseError: leases are alive, and `force` is not set.
            UnexpectedTransitionError: it is not draining.
        """
        self.old_lifecycle.finish(force=force)

    def _waiter(self, threshold: int) -> Waiter:
        old = self.old_lifecycle
        if not old.is_winding_down:
            raise UnexpectedTransitionError(
                f"{old.plugin} is {old.state.name}: call begin_drain before waiting for its drain",
                old.state,
            )
        return old.ledger.waiter(threshold)

    def _late(self, started: float, threshold: int) -> Drained:
        """The time has run out; but what was waited for may have come true just now."""
        ledger = self.old_lifecycle.ledger
        in_flight = len(ledger)
        if in_flight <= threshold:
            return Drained(monotonic() - started, wakeup=None)
        holders = [
            line for lease in ledger.live() for line in describe_holders(lease, label=lease.label)
        ]
        raise DrainTimeoutError(monotonic() - started, in_flight, holders)
