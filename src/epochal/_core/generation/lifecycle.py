"""The state machine of one generation: its state, its leases, and every legal move.

Which thread reads, which writes
--------------------------------

``PluginLifecycle.state`` is one slot. Any thread reads it without a lock (one attribute read on the
query path); threads write it only under ``_lock``. Every move is therefore a compare-and-set: of
any number of threads that try the same step, exactly one takes it. A reader may see a state that
has just passed; it never sees a state that the generation was not in.

``lease`` tests the state and issues the lease under the same lock. Testing before taking the lock
would allow a lease to be issued after `begin_drain` has won, and the drain's waiter, which was
armed with the leases of that moment, would miss it. Only our own code runs under the lock.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from epochal._core.generation.states import LifecycleState
from epochal._core.use.drain_wakeup import Ledger
from epochal.errors import InUseError, NotActiveError, UnexpectedTransitionError

if TYPE_CHECKING:
    from epochal._core.use.lease import Lease

_FOLLOWING: Final = {state: state.following for state in LifecycleState}


class PluginLifecycle:
    """The state machine of one generation.

    Args:
        plugin: a name for the generation, used in messages.

    Attributes:
        state: the current state; a plain attribute read, wait-free.
        ledger: the leases that are alive.
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
            The state that this call stepped to; REMOVED if the generation was already there.
        """
        with self._lock:
            # Load and store under one lock: otherwise two callers could take the same step.
            self.state = _FOLLOWING[self.state]
            return self.state

    def set(self, state: LifecycleState) -> None:
        """Force a state, backwards too: for tests, and to unwind a failed change."""
        with self._lock:
            self.state = state

    def try_move(self, source: LifecycleState, target: LifecycleState) -> bool:
        """Go from `source` to `target`, if the state is `source`; one of many callers succeeds.

        Returns:
            Whether this call made the move.
        """
        with self._lock:
            # Check and act under one lock: otherwise two reloads could both win.
            moved = self.state is source
            if moved:
                self.state = target
            return moved

    def lease(self, label: str = "a lease taken by hand") -> Lease:
        """Hold this generation in use until the lease is released or garbage-collected.

        Args:
            label: the lease's purpose, shown as the holder in `DrainTimeoutError`.

        Raises:
            NotActiveError: the generation is draining or removed; no new use may begin.
        """
        with self._lock:
            # The test and the issue stay under one lock: see the module's docstring.
            if not self.is_winding_down:
                return self.ledger.issue(label)
        raise NotActiveError(
            f"{self.plugin} is {self.state.name}: it gives out no more leases", self.state
        )

    def finish(self, *, force: bool = False) -> bool:
        """Go from DRAINING to REMOVED if no lease is alive (or by force).

        Returns:
            True if this call made the move, False if the state was already REMOVED.

        Raises:
            UnexpectedTransitionError: the generation is not draining.
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
        """Whether the generation is in the current epoch."""
        return self.state is LifecycleState.ACTIVE

    @property
    def is_winding_down(self) -> bool:
        """Whether the generation is DRAINING or REMOVED, so that no new use may begin."""
        return self.state >= LifecycleState.DRAINING

    def __repr__(self) -> str:
        return f"<lifecycle of {self.plugin}: {self.state.name}, {len(self.ledger)} leases>"
