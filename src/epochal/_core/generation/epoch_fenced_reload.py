"""The hand-driven form of the protocol that retires an old generation.

Begin to drain, wait until the old generation cannot be called any more, finalize. The runtime
drives the same pieces; a host with its own registry can drive them by hand.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.generation.states import LifecycleState
from epochal._core.introspect.collector import collect_soon
from epochal._core.sync.threads import call_on_thread
from epochal._core.use.drain_wakeup import Drained
from epochal._core.use.holders import find_holders_of
from epochal.errors import DrainTimeoutError, NotActiveError, UnexpectedTransitionError

if TYPE_CHECKING:
    from epochal._core.generation.lifecycle import PluginLifecycle
    from epochal._core.use.drain_wakeup import Waiter


class EpochFencedReload:
    """The hand-driven protocol that retires an old generation, for hosts with their own registry.

    The host makes the new version visible, then::

        reload = EpochFencedReload(old_lifecycle)
        reload.begin_drain()                  # the old version gives out no more leases
        reload.wait_for_drain(timeout=30.0)   # the calls that are running end
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
            NotActiveError: the state was not ACTIVE, or another caller was first.
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
            threshold: the number of leases that may stay alive.
            timeout: seconds; None waits without a limit.

        Returns:
            How long it waited, and how long after the last release it woke.

        Raises:
            DrainTimeoutError: the time ran out; `holders` lists the uses that remain.
            UnexpectedTransitionError: `begin_drain` was not called, so new leases could come.
            ForkedRuntimeError: in a forked child, whose inherited leases no thread can release.
        """
        started = monotonic()
        drained = self._waiter(threshold).wait(timeout)
        return drained if drained is not None else self._late(started, threshold)

    async def await_drain(self, threshold: int = 0, timeout: float | None = 30.0) -> Drained:
        """`wait_for_drain` for event loops: the same wait, on a thread of its own.

        Cancelling the task ends the wait at once; the generation goes on draining.
        """
        started = monotonic()
        # The waiter exists before its thread starts, so that a cancelled task can always end it.
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
        """Go to REMOVED. Idempotent.

        Args:
            force: remove the generation although leases are alive; the caller answers for the calls
                that still run.

        Raises:
            InUseError: leases are alive, and `force` is not set.
            UnexpectedTransitionError: the generation is not draining.
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
        """Raise the timeout, unless the last lease was released just after the time ran out."""
        ledger = self.old_lifecycle.ledger
        if len(ledger) > threshold:
            collect_soon()  # garbage uses nothing, and must not be named
        in_flight = len(ledger)
        if in_flight <= threshold:
            return Drained(monotonic() - started, wakeup=None)
        raise DrainTimeoutError(monotonic() - started, in_flight, find_holders_of(ledger.live()))
